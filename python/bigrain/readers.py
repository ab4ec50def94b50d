# SPDX-License-Identifier: Apache-2.0
"""Reads the vector files that people have: fvecs, bin, npy, HDF5 and their kin.

Every size is checked against the real size of the file before anything is used, files are mapped
instead of read where the layout allows it, and a file of another kind is told by name.

=======================  ==========================================================================
fvecs, bvecs, ivecs      per row: int32 dimension, then float32, uint8 or int32 values
fbin, u8bin, i8bin, ibin uint32 rows, uint32 dimension, then the values (DiskANN, big-ann)
npy, npz                 NumPy's, never unpickled
hdf5                     ann-benchmarks' layout: train, test, neighbors, distances
bin (ground truth)       uint32 rows, uint32 k, then int32 ids, then float32 distances (DiskANN)
=======================  ==========================================================================
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bigrain._sniff import MAX_DIM, sniff

Array: TypeAlias = NDArray[Any]
Role: TypeAlias = Literal["base", "queries", "ids", "distances"]
PathLike: TypeAlias = str | os.PathLike[str]

VECS: dict[str, np.dtype[Any]] = {
    "fvecs": np.dtype("<f4"),
    "bvecs": np.dtype("u1"),
    "ivecs": np.dtype("<i4"),
}
BINS: dict[str, np.dtype[Any]] = {
    "fbin": np.dtype("<f4"),
    "u8bin": np.dtype("u1"),
    "i8bin": np.dtype("i1"),
    "ibin": np.dtype("<i4"),
}
CONTAINERS = {"npz", "hdf5"}
KINDS = (*VECS, *BINS, "npy", "npz", "hdf5")
SUFFIXES = {f".{kind}": kind for kind in KINDS} | {".h5": "hdf5", ".hdf": "hdf5"}

# Which array of an npz or HDF5 file plays which part, by the names in use.
ROLE_KEYS: dict[Role, tuple[str, ...]] = {
    "base": ("train", "base", "vectors", "embeddings", "data"),
    "queries": ("test", "queries", "query", "q"),
    "ids": ("neighbors", "ids"),
    "distances": ("distances",),
}


class FormatError(ValueError):
    """A file is truncated, damaged, or of another kind than was expected."""


class GroundTruth(NamedTuple):
    """True neighbours: (rows, k) ids, and their distances where the file has them."""

    ids: NDArray[np.int64]
    distances: NDArray[np.float32] | None


def read_vectors(
    path: PathLike, *, kind: str | None = None, key: str | None = None, role: Role = "base"
) -> Array:
    """The (rows, dimension) array in a vector file, mapped where the format allows it.

    ``kind`` is one of `KINDS`; by default the suffix decides, and for an unknown suffix the
    content. In npz and HDF5 files ``key`` names the array; by default ``role`` chooses it.
    """
    path = Path(path)
    kind = kind or kind_of(path)
    if kind in VECS:
        array = _read_vecs(path, kind)
    elif kind in BINS:
        array = _read_bin(path, kind)
    elif kind == "npy":
        array = _read_npy(path)
    elif kind in CONTAINERS:
        array = _from_container(path, kind, key, role)
    else:
        raise FormatError(f"{path}: unknown kind {kind!r}; known are {', '.join(KINDS)}")
    return _checked(path, array)


def read_ground_truth(path: PathLike, *, kind: str | None = None) -> GroundTruth:
    """True neighbours from ivecs, npy (ids alone), npz, HDF5, or DiskANN's ground-truth bin."""
    path = Path(path)
    kind = kind or SUFFIXES.get(path.suffix.lower(), "ibin")
    if kind == "ibin":
        return _read_truth_bin(path)
    if kind in CONTAINERS:
        ids = _from_container(path, kind, None, "ids")
        distances = _from_container(path, kind, None, "distances", optional=True)
    else:
        ids, distances = read_vectors(path, kind=kind), None
    if ids.ndim != 2 or ids.dtype.kind not in "iu":
        raise FormatError(
            f"{path}: a ground truth is a (queries, k) array of integer ids, this is "
            f"{ids.dtype} of shape {ids.shape}"
        )
    if distances is not None and distances.shape != ids.shape:
        raise FormatError(f"{path}: distances {distances.shape} do not match ids {ids.shape}")
    return GroundTruth(
        np.asarray(ids, np.int64), None if distances is None else np.asarray(distances, np.float32)
    )


def kind_of(path: PathLike) -> str:
    """The kind of a vector file by its suffix; by its content where the suffix says nothing."""
    path = Path(path)
    if kind := SUFFIXES.get(path.suffix.lower()):
        return kind
    guesses = [guess.kind for guess in sniff(path) if guess.kind in KINDS]
    if len(guesses) == 1 or guesses[:2] in (["fbin", "ibin"], ["ibin", "fbin"]):
        return guesses[0]
    hint = f"it may be {' or '.join(guesses)}; " if guesses else ""
    raise FormatError(
        f"{path}: the suffix {path.suffix!r} does not tell the kind of file; {hint}"
        f"rename it or name its kind: {', '.join(KINDS)}"
    )


def _read_vecs(path: Path, kind: str) -> Array:
    dtype = VECS[kind]
    size = path.stat().st_size
    dim = int(np.fromfile(path, "<i4", 1)[0]) if size >= 4 else 0
    if not 1 <= dim <= MAX_DIM:
        raise _foreign(path, kind, f"its first row claims dimension {dim}")
    row = 4 + dim * dtype.itemsize
    if size % row:
        raise _foreign(
            path, kind, f"{size:,} bytes are not whole rows of {row:,} bytes (dimension {dim})"
        )
    raw = np.memmap(path, "u1", "r", shape=(size // row, row))
    dims = np.ascontiguousarray(raw[:, :4]).view("<i4")[:, 0]
    if (wrong := np.flatnonzero(dims != dim)).size:
        raise _foreign(
            path, kind, f"row {wrong[0]} claims dimension {dims[wrong[0]]}, the first row {dim}"
        )
    array: Array = raw[:, 4:].view(dtype)
    return array


def _read_bin(path: Path, kind: str) -> Array:
    dtype = BINS[kind]
    rows, dim = _bin_header(path, kind)
    expected = 8 + rows * dim * dtype.itemsize
    if (size := path.stat().st_size) != expected:
        raise _foreign(
            path, kind, f"a header of {rows:,} x {dim:,} needs {expected:,} bytes, it has {size:,}"
        )
    return _mapped(path, dtype, (rows, dim), 8)


def _read_truth_bin(path: Path) -> GroundTruth:
    rows, k = _bin_header(path, "ground truth")
    size, block = path.stat().st_size, rows * k * 4
    if size not in (8 + block, 8 + 2 * block):
        raise _foreign(
            path,
            "ground truth",
            f"a header of {rows:,} x {k:,} needs {8 + block:,} bytes, or {8 + 2 * block:,} with "
            f"distances, it has {size:,}",
        )
    ids = _mapped(path, np.dtype("<i4"), (rows, k), 8).astype(np.int64)
    if size == 8 + block:
        return GroundTruth(ids, None)
    return GroundTruth(ids, np.array(_mapped(path, np.dtype("<f4"), (rows, k), 8 + block)))


def _bin_header(path: Path, kind: str) -> tuple[int, int]:
    if path.stat().st_size < 8:
        raise _foreign(path, kind, f"it has {path.stat().st_size} bytes, the header alone has 8")
    rows, dim = (int(value) for value in np.fromfile(path, "<u4", 2))
    if not 1 <= dim <= MAX_DIM:
        raise _foreign(path, kind, f"its header claims {rows:,} rows of dimension {dim:,}")
    return rows, dim


def _mapped(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int) -> Array:
    if 0 in shape:  # an empty file region cannot be mapped
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", offset, shape)


def _read_npy(path: Path) -> Array:
    try:
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise _foreign(path, "npy", str(error).splitlines()[0]) from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise _foreign(path, "npy", "it has no NumPy header")
    return array


def _from_container(
    path: Path, kind: str, key: str | None, role: Role, *, optional: bool = False
) -> Any:
    if kind == "hdf5":
        return _read_hdf5(path, key, role, optional)
    try:
        archive: Any = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise _foreign(path, "npz", "it is not a zip archive")
        with archive:
            name = _choose(path, archive.files, key, role, optional)
            return None if name is None else archive[name]
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, FormatError):
            raise
        raise _foreign(path, "npz", str(error).splitlines()[0]) from None


def _read_hdf5(path: Path, key: str | None, role: Role, optional: bool) -> Any:
    try:
        import h5py
    except ImportError:
        raise ImportError(f"{path}: reading HDF5 needs h5py: pip install h5py") from None
    path.stat()  # a missing file is an OSError with its name, not h5py's paragraph
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise _foreign(path, "hdf5", str(error)) from None
    with file:
        names = [name for name in file if isinstance(file[name], h5py.Dataset)]
        name = _choose(path, names, key, role, optional)
        if name is None:
            return None
        dataset = file[name]
        offset = dataset.id.get_offset()  # None when chunked or compressed
        if offset is None or dataset.dtype.kind not in "fiu" or 0 in dataset.shape:
            return dataset[()]
        return np.memmap(path, dataset.dtype, "r", offset, dataset.shape)


def _choose(
    path: Path, names: list[str], key: str | None, role: Role, optional: bool
) -> str | None:
    wanted = (key,) if key else ROLE_KEYS[role]
    for name in wanted:
        if name in names:
            return name
    if len(names) == 1 and not key and not optional:
        return names[0]
    if optional:
        return None
    raise FormatError(
        f"{path}: has no array {' or '.join(wanted)} ({role}); it has {', '.join(names) or 'none'}"
    )


def _checked(path: Path, array: Array) -> Array:
    if array.ndim != 2:
        raise FormatError(
            f"{path}: vectors are rows of a 2-D array, this one has shape {array.shape}"
        )
    if array.dtype.kind not in "fiu":
        raise FormatError(f"{path}: vectors are numbers, this array is of {array.dtype}")
    return array


def _foreign(path: Path, kind: str, found: str) -> FormatError:
    guesses = [guess for guess in sniff(path) if guess.kind != kind]
    likeness = f"; it looks like {' or '.join(map(str, guesses))}" if guesses else ""
    remedy = ": name it accordingly" if guesses else ": it is truncated or of another kind"
    return FormatError(f"{path}: not a whole {kind} file: {found}{likeness}{remedy}")
