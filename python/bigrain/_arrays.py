# SPDX-License-Identifier: Apache-2.0
"""Arrays in: whatever holds numbers becomes a C-contiguous NumPy array of a type the core knows.

float32, float16, int8 and uint8 are kept. Other floats and integers become float32, silently, so
long as no value overflows; integers above 2**24 lose their last bits, as float32 does. bool,
complex, object and masked arrays are refused: no conversion of them is obviously right.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from bigrain import _core
from bigrain._checks import check_shape, require

AnyArray = npt.NDArray[Any]

KEPT_DTYPES = tuple(np.dtype(name) for name in ("float32", "float16", "int8", "uint8"))
# Copies from this size on are announced: they may be what exhausts the memory.
NOTED_COPY_BYTES = 1 << 30
# (|a| + |b|)**2 is at most 4 times the larger squared norm and must stay below float32's largest
# value, 3.4e38, for every distance to be finite.
MAX_SQUARED_NORM = 8e37
# Below float32's smallest normal number the quotient of a cosine would lose its bits.
LEAST_SQUARED_NORM = float(np.finfo(np.float32).tiny)
# Rows are checked in blocks that stay in cache.
CHECK_BLOCK_BYTES = 1 << 20


def to_numpy(value: Any, name: str) -> AnyArray:
    """Return anything array-like as a NumPy array, without a copy where it can be had."""
    if type(value) is np.ndarray:
        return value
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{name}: masked arrays have no value where masked; pass {name}.filled(...)"
        )
    if hasattr(value, "detach") and hasattr(value, "requires_grad"):
        value = value.detach()  # a torch tensor that records gradients refuses to become an array
    try:
        if hasattr(value, "__array__") or not hasattr(value, "__dlpack__"):
            return np.asarray(value)
        return np.from_dlpack(value)
    except (TypeError, BufferError, RuntimeError) as error:
        raise TypeError(
            f"{name}: {type(value).__name__} cannot become a NumPy array ({error}); "
            "bring it to the CPU first, as float32 (for torch: tensor.cpu().float())"
        ) from error
    except ValueError as error:
        raise ValueError(f"{name}: cannot become an array: {error}") from error


def _convert(array: AnyArray, dtype: np.dtype[Any], name: str) -> AnyArray:
    """Return `array` as native, aligned, C-contiguous `dtype`."""
    if array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned:
        return array
    needed = array.size * dtype.itemsize
    if needed >= NOTED_COPY_BYTES:
        warnings.warn(
            f"{name}: a copy of {needed / 2**30:.1f} GiB is made to turn {array.dtype} into "
            f"C-contiguous {dtype}; pass that to avoid it",
            UserWarning,
            stacklevel=4,
        )
    with np.errstate(over="ignore"):  # overflow is reported with its row by check_values
        return np.require(array, dtype=dtype, requirements=["C", "A"])


def _check_kind(array: AnyArray, name: str) -> None:
    if array.dtype.kind not in "fiu":
        raise TypeError(
            f"{name}: expected float32, float16, int8 or uint8 (or numbers that convert to "
            f"float32), found dtype {array.dtype}; convert with .astype('float32')"
        )


def _check_matrix(array: AnyArray, name: str) -> None:
    if array.ndim != 2:
        raise ValueError(
            f"{name}: expected a 2-D array (rows, dim), found shape {array.shape}"
            + ("; for one row pass it as x[None, :]" if array.ndim == 1 else "")
        )
    least, _, most = _core.LIMITS["dim"]
    if not least <= array.shape[1] <= most:
        raise ValueError(f"{name}: expected {least} to {most} dimensions, found {array.shape[1]}")


def as_vectors(value: Any, name: str = "vectors") -> AnyArray:
    """Return (n, dim) vectors in a stored type; the values are not looked at."""
    array = to_numpy(value, name)
    _check_matrix(array, name)
    _check_kind(array, name)
    native = array.dtype.newbyteorder("=")
    dtype = native if native in KEPT_DTYPES else KEPT_DTYPES[0]
    return _convert(array, dtype, name)


def _to_integers(array: AnyArray, dtype: np.dtype[Any], name: str) -> AnyArray:
    """Return queries of an integer index in its own type, or say which row does not fit."""
    info = np.iinfo(dtype)
    with np.errstate(invalid="ignore"):
        fits = (array >= info.min) & (array <= info.max) & (array == np.rint(array))
    if not fits.all():
        row = int(np.flatnonzero(~fits.all(axis=1))[0])
        raise ValueError(
            f"{name}: the index holds {dtype}, so queries must hold integers from {info.min} to "
            f"{info.max}; row {row} does not"
        )
    return _convert(array, dtype, name)


def as_queries(value: Any, dim: int, stored: np.dtype[Any]) -> tuple[AnyArray, bool]:
    """Return (rows, dim) queries for vectors of type `stored`, and whether one 1-D query came."""
    name = "queries"
    array = to_numpy(value, name)
    single = array.ndim == 1
    if array.ndim not in (1, 2):
        raise ValueError(
            f"{name}: expected shape (rows, {dim}) or ({dim},), found shape {array.shape}"
        )
    if array.shape[-1] != dim:
        raise ValueError(f"{name}: the index has {dim} dimensions, found shape {array.shape}")
    if single:
        array = array[None, :]
    _check_kind(array, name)
    if stored.kind == "f":  # float16 vectors are asked with float32
        return _convert(array, KEPT_DTYPES[0], name), single
    if array.dtype == stored:
        return _convert(array, stored, name), single
    return _to_integers(array, stored, name), single


def check_values(array: AnyArray, metric: str, name: str) -> None:
    """Raise ValueError for the first row that gives no usable distance.

    That is a row with NaN or infinity, one whose distances could overflow float32, or, under
    cosine, one without a direction.
    """
    if array.dtype.kind == "f":
        _check_floats(array, metric, name)
    elif metric == "cosine":
        empty = np.flatnonzero(~array.any(axis=1))
        if empty.size:
            raise ValueError(_zero_message(name, int(empty[0])))


def _zero_message(name: str, row: int) -> str:
    return (
        f"{name}: row {row} has zero length, which has no direction under metric 'cosine'; "
        "remove it or use another metric"
    )


def _check_floats(array: AnyArray, metric: str, name: str) -> None:
    least = LEAST_SQUARED_NORM if metric == "cosine" else 0.0
    if array.shape[0] == 1 and array.dtype == np.float32:  # one query, where microseconds count
        square = float(np.einsum("i,i", array[0], array[0]))  # which warns of no overflow
        if not least <= square <= MAX_SQUARED_NORM:
            raise ValueError(_row_message(array[0], 0, name))
        return
    step = max(1, CHECK_BLOCK_BYTES // max(1, 4 * array.shape[1]))
    for start in range(0, array.shape[0], step):
        block = array[start : start + step]
        if block.dtype != np.float32:
            block = block.astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            squares = np.einsum("ij,ij->i", block, block)
            # Comparisons with NaN are false: one pass finds NaN, infinity and overflow.
            fine = (squares <= MAX_SQUARED_NORM) & (squares >= least)
        if not fine.all():
            row = int(np.flatnonzero(~fine)[0])
            raise ValueError(_row_message(block[row], start + row, name))


def _row_message(values: AnyArray, row: int, name: str) -> str:
    if np.isnan(values).any():
        return f"{name}: row {row} contains NaN; remove or replace such rows"
    if np.isinf(values).any():
        return f"{name}: row {row} contains infinity, or a value too large for float32"
    if float(np.abs(values).max()) > 1.0:
        return (
            f"{name}: row {row} is so long that squared distances overflow float32 (squared "
            f"length above {MAX_SQUARED_NORM:g}); scale the vectors down"
        )
    return _zero_message(name, row)


def check_rows(
    value: Any, name: str, shape: tuple[int | str, ...], least: int, end: int
) -> npt.NDArray[np.int64]:
    """Return int64 rows of something: of a shape, as for `check_shape`, from `least` below `end`.

    Raises:
        TypeError: no integers.
        ValueError: another shape, or rows out of range.
    """
    rows = to_numpy(value, name)
    if rows.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected int64 rows, found dtype {rows.dtype}")
    check_shape(rows, name, *shape)
    low, high = (rows.min(), rows.max()) if rows.size else (least, least)
    fine = not rows.size or least <= low <= high < end
    require(fine, name, f"rows {least} to {end - 1}", f"{low} to {high}")
    return np.ascontiguousarray(rows, np.int64)


def as_ids(value: Any, count: int) -> npt.NDArray[np.int64]:
    """Return `count` distinct, non-negative external ids as int64."""
    array = to_numpy(value, "ids")
    if array.size == 0 and array.dtype.kind == "f":
        array = array.astype(np.int64)  # an empty list has no type of its own
    if array.dtype.kind not in "iu":
        raise TypeError(
            f"ids: expected integers of at most 64 bits, found dtype {array.dtype}; convert with "
            ".astype('int64') if that keeps every value"
        )
    if array.shape != (count,):
        raise ValueError(f"ids: expected shape ({count},), one per vector, found {array.shape}")
    if array.dtype == np.uint64 and count and int(array.max()) > np.iinfo(np.int64).max:
        raise ValueError(f"ids: expected at most {np.iinfo(np.int64).max}, found {array.max()}")
    ids = np.require(array, dtype=np.int64, requirements=["C", "A"])
    if count and int(ids.min()) < 0:
        raise ValueError(f"ids: expected 0 or above, found {ids.min()}; -1 means 'no result'")
    ordered = np.sort(ids)
    repeated = np.flatnonzero(ordered[1:] == ordered[:-1])
    if repeated.size:
        raise ValueError(f"ids: expected distinct ids, found {ordered[repeated[0]]} twice")
    return ids


def as_graph(value: Any, count: int) -> npt.NDArray[np.uint32]:
    """Return the rows of a graph on `count` points as uint32; the core checks what they name."""
    array = to_numpy(value, "graph")
    if array.dtype.kind not in "iu":
        raise TypeError(f"graph: expected integers, found dtype {array.dtype}")
    if array.ndim != 2 or array.shape[0] != count:
        raise ValueError(
            f"graph: expected shape ({count}, R), one row per vector, found {array.shape}"
        )
    least, _, most = _core.LIMITS["degree"]
    if not least <= array.shape[1] <= most:
        raise ValueError(
            f"graph: expected rows of {least} to {most} neighbours, found {array.shape[1]}"
        )
    if array.size and (int(array.min()) < 0 or int(array.max()) >= count):
        outside = (array < 0) | (array >= count)
        row = int(np.flatnonzero(outside.any(axis=1))[0])
        found = int(array[row][outside[row]][0])
        raise ValueError(f"graph: row {row} names vertex {found}; expected 0 to {count - 1}")
    return np.require(array, dtype=np.uint32, requirements=["C", "A"])


def make_output(
    out: Any, rows: int, k: int, single: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return the arrays that results are written to: fresh ones, or the checked pair `out`."""
    shape = (k,) if single else (rows, k)
    if out is None:
        return np.empty(shape, np.int64), np.empty(shape, np.float32)
    if not isinstance(out, tuple) or len(out) != 2:
        raise TypeError("out: expected a tuple (ids, distances) of two arrays")
    for array, name, dtype in zip(out, ("ids", "distances"), (np.int64, np.float32), strict=True):
        if not isinstance(array, np.ndarray) or array.dtype != dtype:
            raise TypeError(f"out: {name} must be a NumPy array of {np.dtype(dtype)}")
        if array.shape != shape:
            raise ValueError(f"out: {name} must have shape {shape}, found {array.shape}")
        flags = array.flags
        if not (flags.c_contiguous and flags.writeable and flags.aligned):
            raise ValueError(f"out: {name} must be C-contiguous, aligned and writeable")
    if np.shares_memory(*out):
        raise ValueError("out: ids and distances share memory")
    return out
