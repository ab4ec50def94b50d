# SPDX-License-Identifier: Apache-2.0
"""Reads an index of DiskANN: the graph, the start and the vectors in `PREFIX_disk.index`.

The file (written by DiskANN's C++ branch and by diskannpy; little-endian, sectors of 4,096 bytes):

    sector 0   uint32 rows, uint32 1, then rows x uint64: n, dim, medoid, record bytes, records per
               sector, frozen points and where, reorder flag, [three of reordering,] file bytes
    records    dim values, uint32 neighbours in use, uint32 x R; in id order from sector 1 on, as
               many as fit a sector, or one in as few sectors as hold it

It has no magic number and no checksum, and does not say what its values are: every number is
compared with what the file's real size allows before it is used. Read in blocks, into files without
a name that are mapped, so that memory holds what the caller makes of them and little else.

The graph is always one of Euclidean distance. DiskANN brings other metrics to it: "cosine" by unit
vectors, "ip" by scaling vectors below length 1 and filling them up to it in one more coordinate,
which is undone here. Indexes whose records hold codes for coordinates (PQ_disk_bytes), frozen
points or labels are not read.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigrain import _core
from bigrain._checks import Metric
from bigrain._core import CorruptIndexError

SECTOR = 4096
PLAIN_FIELDS, REORDER_FIELDS = 9, 12
# As DiskANN's own enumerations in PREFIX_metadata.bin number them.
DTYPES = ("float32", "int8", "uint8")
METRICS: tuple[Metric, ...] = ("l2", "ip", "cosine")
METADATA = struct.Struct("<4Q")  # dtype, metric, n, dim
BLOCK_BYTES = 8 << 20  # read at a time: some milliseconds, so that Ctrl-C is never far
# Rounding of float32 rows of any dimension stays well below; other data is far above.
UNIT = 1e-3

Array = NDArray[Any]


class DiskannIndex(NamedTuple):
    """What `Index.from_graph` takes."""

    vectors: Array  # (n, dim), mapped
    graph: NDArray[np.uint32]  # (n, R): short rows end with the vector's own position; mapped
    entry: int
    metric: Metric


class _Shape(NamedTuple):
    points: int
    dim: int
    entry: int
    record: int  # bytes
    per_sector: int  # 0: a record takes sectors of its own
    dtype: np.dtype[Any]

    @property
    def sectors(self) -> int:
        """Sectors that hold one group: a sector of records, or the sectors of one record."""
        return -(-self.record // SECTOR)

    @property
    def groups(self) -> int:
        return -(-self.points // max(1, self.per_sector))

    @property
    def coordinates(self) -> int:
        return self.dim * self.dtype.itemsize

    @property
    def degree(self) -> int:
        return (self.record - self.coordinates) // 4 - 1


def read_diskann(
    prefix: str | os.PathLike[str],
    *,
    metric: Metric | None = None,
    dtype: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> DiskannIndex:
    """Read what DiskANN wrote as `PREFIX_disk.index`.

    `metric` and `dtype` ("float32", "int8", "uint8") are needed where diskannpy's
    `PREFIX_metadata.bin` is missing; dtype is then float32 by default. `folder` takes the unnamed
    files that the arrays are mapped from; they go with the arrays.

    Raises:
        CorruptIndexError: the file is damaged, or not what it should be; the message says where.
        ValueError: metric or dtype are missing, or not those of the index.
        NotImplementedError: an index of a kind that is not read.
        OSError: a file cannot be read.
    """
    prefix = os.fspath(prefix).removesuffix("_disk.index")
    path = Path(f"{prefix}_disk.index")
    metric, dtype = _told(prefix, metric, dtype)
    with _open(path) as file:
        shape = _shape(path, file.read(SECTOR), os.fstat(file.fileno()).st_size, dtype)
        longest = _longest(prefix, path, metric, shape)
        width = shape.dim - (longest is not None)
        vectors = _scratch((shape.points, width), shape.dtype, folder)
        graph = _scratch((shape.points, max(shape.degree, _core.LIMITS["degree"][0])), "u4", folder)
        for start, records in _blocks(path, file, shape):
            part = slice(start, start + len(records))
            coordinates = records[:, : shape.coordinates].copy().view(shape.dtype)
            vectors[part] = _original(path, start, coordinates, metric, longest)
            graph[part] = _rows(path, start, records[:, shape.coordinates :], shape, graph.shape[1])
            if progress and progress(part.stop, shape.points) is False:
                raise _core.Cancelled("cancelled by progress")
    return DiskannIndex(vectors, graph, shape.entry, metric)


def _told(prefix: str, metric: Metric | None, dtype: str | None) -> tuple[Metric, str]:
    """Metric and dtype, from the caller and from diskannpy's metadata; they must agree."""
    path = Path(f"{prefix}_metadata.bin")
    if not path.exists():
        if metric is None:
            raise ValueError(
                f"metric: {prefix}_disk.index does not hold it; say 'l2', 'ip' or 'cosine'"
            )
        return metric, dtype or "float32"
    with _open(path) as file:
        data = file.read(METADATA.size + 1)
    numbers = METADATA.unpack(data) if len(data) == METADATA.size else (len(DTYPES), 0, 0, 0)
    if numbers[0] >= len(DTYPES) or numbers[1] >= len(METRICS):
        raise CorruptIndexError(
            f"{path}: not diskannpy's metadata: {METADATA.size} bytes, with a dtype below "
            f"{len(DTYPES)} and a metric below {len(METRICS)}; remove it and pass metric and dtype"
        )
    own_dtype, own_metric = DTYPES[numbers[0]], METRICS[numbers[1]]
    if dtype not in (None, own_dtype):
        raise ValueError(f"dtype: {path} says {own_dtype}, found {dtype!r}")
    # Unit vectors given to an index of l2 are one of cosine.
    if metric not in (None, own_metric) and "ip" in (metric, own_metric):
        raise ValueError(f"metric: {path} says {own_metric}, found {metric!r}")
    return metric or own_metric, own_dtype


def _open(path: Path) -> BinaryIO:
    """The file; a pipe, which would make us wait, is none."""
    if path.exists() and not path.is_file():
        raise _damaged(path, "not a regular file")
    return path.open("rb")


def _damaged(path: Path, what: str) -> CorruptIndexError:
    return CorruptIndexError(f"{path}: {what}")


def _shape(path: Path, head: bytes, size: int, dtype: str) -> _Shape:
    """What sector 0 says, once it fits the file."""
    if len(head) < SECTOR or size % SECTOR:
        raise _damaged(path, f"{size} bytes; expected whole sectors of {SECTOR}")
    fields, one = struct.unpack_from("<2I", head)
    if (fields, one) not in ((PLAIN_FIELDS, 1), (REORDER_FIELDS, 1)):
        raise _damaged(
            path,
            f"begins with {fields} x {one} numbers; expected {PLAIN_FIELDS} or {REORDER_FIELDS} "
            "x 1: not an index that DiskANN's C++ branch wrote",
        )
    numbers = struct.unpack_from(f"<{fields}Q", head, 8)
    count, dim, entry, record, per_sector, frozen = numbers[:6]
    if fields == REORDER_FIELDS or numbers[7]:
        raise NotImplementedError(f"{path}: holds codes and reorder data; build it without them")
    if frozen:
        raise NotImplementedError(f"{path}: has {frozen} frozen points, which are not read")
    limits = _core.LIMITS
    for name, value, least, most in (
        ("number of points", count, 1, limits["points"][2]),
        ("dimension", dim, 1, limits["dim"][2] + 1),
        ("medoid", entry, 0, count - 1),
        ("file size", numbers[8], size, size),
    ):
        if not least <= value <= most:
            expected = f"{least} to {most}" if least < most else f"{least}"
            raise _damaged(path, f"the {name} is {value}; expected {expected}")
    _check_record(path, dim, record, np.dtype(dtype))
    shape = _Shape(count, dim, entry, record, per_sector, np.dtype(dtype))
    if per_sector != SECTOR // record:
        raise _damaged(path, f"{per_sector} records per sector; expected {SECTOR // record}")
    whole = (1 + shape.groups * shape.sectors) * SECTOR
    if size != whole:
        raise _damaged(path, f"{size} bytes; expected {whole} for {count} points")
    return shape


def _check_record(path: Path, dim: int, record: int, dtype: np.dtype[Any]) -> None:
    """A record is the coordinates, a count and 1 to 512 neighbours."""
    most = _core.LIMITS["degree"][2]
    room = record - dim * dtype.itemsize
    if room % 4 == 0 and 8 <= room <= 4 * (1 + most):
        return
    raise _damaged(
        path,
        f"records of {record} bytes cannot hold {dim} x {dtype} and 1 to {most} neighbours: of "
        f"another dtype (say which: {', '.join(DTYPES)}), or with codes for coordinates "
        "(PQ_disk_bytes), which are not read",
    )


def _longest(prefix: str, path: Path, metric: str, shape: _Shape) -> float | None:
    """Inner product only: the length of the longest vector, by which DiskANN divided them all."""
    norm = Path(f"{prefix}_disk.index_max_base_norm.bin")
    if metric != "ip":
        if norm.exists():
            raise ValueError(f"metric: {norm.name} says that the index is one of 'ip'")
        return None
    with _open(norm) as file:
        data = file.read(13)
    longest = float(np.frombuffer(data[8:12].ljust(4, b"\0"), "<f4")[0])
    if len(data) != 12 or struct.unpack_from("<2I", data) != (1, 1) or not 0 < longest < np.inf:
        raise _damaged(norm, "expected 1 x 1 float32, positive and finite")
    if shape.dtype != np.float32 or shape.dim < 2:
        raise _damaged(path, f"{shape.dim} x {shape.dtype} cannot be an index of inner product")
    return longest


def _scratch(shape: tuple[int, int], dtype: Any, folder: Any) -> Array:
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.asarray(np.memmap(file, dtype, "w+", shape=shape))


def _blocks(path: Path, file: BinaryIO, shape: _Shape) -> Iterator[tuple[int, Array]]:
    """(first point, (points, record bytes) bytes) from sector 1 on."""
    group = shape.sectors * SECTOR
    per_group = max(1, shape.per_sector)
    step = max(1, BLOCK_BYTES // group)
    for first in range(0, shape.groups, step):
        groups = min(step, shape.groups - first)
        data = np.frombuffer(file.read(groups * group), np.uint8)
        if data.size != groups * group:
            raise _damaged(path, "became shorter while it was read")
        records = data.reshape(groups, group)[:, : per_group * shape.record]
        start = first * per_group
        yield start, records.reshape(-1, shape.record)[: shape.points - start]


def _original(path: Path, start: int, rows: Array, metric: str, longest: float | None) -> Array:
    """The vectors as they were before DiskANN made its metric Euclidean."""
    if metric == "l2":
        return rows
    lengths = np.linalg.norm(rows.astype(np.float32), axis=1)
    wrong = np.flatnonzero(~(np.abs(lengths - 1) < UNIT))
    if wrong.size:
        raise ValueError(
            f"metric: {path} cannot be an index of {metric!r}: vector {start + int(wrong[0])} has "
            f"length {lengths[wrong[0]]:.6g}, expected 1; 'l2' perhaps"
        )
    return rows if longest is None else rows[:, :-1] * np.float32(longest)


def _rows(path: Path, start: int, tail: Array, shape: _Shape, width: int) -> NDArray[np.uint32]:
    """Neighbours with the vector's own position after the end of each row."""
    numbers = np.ascontiguousarray(tail).view("<u4")
    used, named = numbers[:, 0], numbers[:, 1:]
    long = np.flatnonzero(used > shape.degree)
    if long.size:
        at = int(long[0])
        raise _damaged(
            path,
            f"record {start + at} has {used[at]} neighbours; expected at most {shape.degree} "
            f"(or the dtype is not {shape.dtype})",
        )
    own = np.arange(start, start + len(used), dtype=np.uint32)[:, None]
    inside = np.arange(shape.degree, dtype=np.uint32) < used[:, None]
    wrong = inside & ((named >= shape.points) | (named == own))
    if wrong.any():
        at, slot = (int(each[0]) for each in np.nonzero(wrong))
        raise _damaged(
            path,
            f"record {start + at} names point {named[at, slot]}; expected another one below "
            f"{shape.points}",
        )
    rows = np.repeat(own, width, axis=1)
    rows[:, : shape.degree] = np.where(inside, named, own)
    return rows
