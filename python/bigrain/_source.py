# SPDX-License-Identifier: Apache-2.0
"""Vectors that stay on disk: where they lie in a file, or a file that they are written to first."""

from __future__ import annotations

import json
import mmap
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bigrain._arrays import KEPT_DTYPES, AnyArray, as_vectors, check_values

# Rows of an array that are converted and written at a time.
BLOCK_BYTES = 8 << 20


class Source(NamedTuple):
    """Row i of a file begins at byte offset + i * stride."""

    path: bytes
    offset: int
    stride: int
    rows: int
    dim: int
    dtype: str


def located(array: AnyArray) -> Source | None:
    """Return where the rows of a mapped array lie in its file; None if they must be converted."""
    name = getattr(array, "filename", None)
    native = array.dtype.isnative and array.dtype in KEPT_DTYPES
    if name is None or not native or array.ndim != 2 or array.size == 0:
        return None
    if array.strides[1] != array.itemsize or array.strides[0] < array.shape[1] * array.itemsize:
        return None
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if not isinstance(base, mmap.mmap):
        return None
    # The mapping begins at a page; views keep the offset that the first array was asked for.
    offset = getattr(array, "offset", 0)
    start = offset - offset % mmap.ALLOCATIONGRANULARITY
    address = np.frombuffer(base, np.uint8).__array_interface__["data"][0]
    begin = start + array.__array_interface__["data"][0] - address
    rows, dim = array.shape
    return Source(os.fsencode(name), begin, array.strides[0], rows, dim, str(array.dtype))


def spool(blocks: Any, metric: str, work: Path, clean: bool) -> tuple[Source, list[Path]]:
    """Write an array, or an iterable of arrays, to a file beside the work folder.

    Also returns what to remove when the index is built. If an interrupted build has left the file,
    the blocks are read again and compared with it.
    """
    data, note = Path(f"{work}.vectors"), Path(f"{work}.vectors.json")
    if clean:
        note.unlink(missing_ok=True)
    if note.exists():
        said = json.loads(note.read_text(encoding="ascii"))
        if _sum_of(_blocks_of(blocks, metric)) != said["sum"]:
            raise ValueError(
                f"vectors: {data} holds the vectors of an unfinished build, and these are others; "
                "repeat that call to finish it, or pass clean=True"
            )
    else:
        said = _write(_blocks_of(blocks, metric), data)
        note.write_text(json.dumps(said), encoding="ascii")
    stride = said["dim"] * np.dtype(said["dtype"]).itemsize
    source = Source(os.fsencode(data), 0, stride, said["rows"], said["dim"], said["dtype"])
    return source, [note, data]


def _blocks_of(vectors: Any, metric: str) -> Iterator[AnyArray]:
    """Yield checked blocks of one type and dimension."""
    first: AnyArray | None = None
    row = 0
    for part in _parts_of(vectors):
        block = as_vectors(part)
        check_values(block, metric, f"vectors from row {row} on" if row else "vectors")
        first = block if first is None else first
        if block.shape[1] != first.shape[1] or block.dtype != first.dtype:
            raise ValueError(
                f"vectors: the block at row {row} is {block.dtype} of dimension {block.shape[1]}, "
                f"the first one {first.dtype} of dimension {first.shape[1]}"
            )
        row += block.shape[0]
        yield block


def _parts_of(vectors: Any) -> Iterable[Any]:
    shape = getattr(vectors, "shape", None)
    if shape is None and not isinstance(vectors, (list, tuple)):
        blocks: Iterable[Any] = iter(vectors)
        return blocks
    if shape is None or len(shape) != 2:
        return [vectors]
    step = max(1, BLOCK_BYTES // max(1, 8 * shape[1]))
    # An array without rows still says its dimension.
    return (vectors[i : i + step] for i in range(0, max(shape[0], 1), step))


def _write(blocks: Iterable[AnyArray], path: Path) -> dict[str, Any]:
    rows, total, block = 0, 0, None
    with path.open("wb") as file:
        for block in blocks:
            file.write(block.data)
            rows += block.shape[0]
            total = zlib.crc32(block.data, total)
        file.flush()
        os.fsync(file.fileno())
    if block is None:
        raise ValueError("vectors: no block came; expected at least one array (rows, dim)")
    return {"rows": rows, "dim": block.shape[1], "dtype": str(block.dtype), "sum": total}


def _sum_of(blocks: Iterable[AnyArray]) -> int:
    total = 0
    for block in blocks:
        total = zlib.crc32(block.data, total)
    return total
