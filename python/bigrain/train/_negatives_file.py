# SPDX-License-Identifier: Apache-2.0
"""The negatives file: what a refresher hands to a trainer, complete or not there at all.

Layout, little-endian: a header of 64 bytes (`HEADER`, then the CRC-32 of all the rest), query ids
int64 (rows,), document ids int64 (rows, k), -1 pads. Sizes that the header states are compared
with the file's real size before anything is read by them.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bigrain._checks import require
from bigrain._files import replace_file

Ids = npt.NDArray[np.int64]

MAGIC, FORMAT = b"bgr-neg\n", 1
# magic, format, k, rows, version, seconds of encode, build and search
HEADER = struct.Struct("<8sIIQq3f16x")
SIZE = HEADER.size + 4
PHASES = ("encode", "build", "search")


class CorruptNegativesError(ValueError):
    """Not a complete negatives file."""


@dataclass(frozen=True)
class Negatives:
    """A version of negatives.

    Attributes:
        ids: (rows, k) int64 rows of documents, -1 pads.
        query_ids: (rows,) int64.
        version: the training step of the model that found them.
        seconds: spent in "encode", "build" and "search".
    """

    ids: Ids
    query_ids: Ids
    version: int
    seconds: dict[str, float] = field(default_factory=dict)


def write_negatives(path: Any, negatives: Negatives) -> None:
    """Write `negatives` to `path`, atomically.

    Raises:
        ValueError: arrays of another dtype or shape than `Negatives` says.
        OSError: the file cannot be written; what was there stays.
    """
    ids, query_ids = negatives.ids, negatives.query_ids
    shaped = ids.ndim == 2 and query_ids.shape == ids.shape[:1]
    fine = shaped and {ids.dtype, query_ids.dtype} == {np.dtype(np.int64)}
    found = f"{ids.dtype} {ids.shape} and {query_ids.dtype} {query_ids.shape}"
    require(fine, "negatives", "int64 ids (rows, k) and query_ids (rows,)", found)
    body = b"".join(np.ascontiguousarray(part, "<i8").tobytes() for part in (query_ids, ids))
    seconds = [negatives.seconds.get(name, 0.0) for name in PHASES]
    rows, k = ids.shape
    head = HEADER.pack(MAGIC, FORMAT, k, rows, negatives.version, *seconds)
    crc = zlib.crc32(body, zlib.crc32(head)).to_bytes(4, "little")
    replace_file(Path(path), lambda file: file.writelines([head, crc, body]))


def read_negatives(path: Any, *, documents: int | None = None) -> Negatives:
    """Read a negatives file; its arrays are memory-mapped and read-only.

    Args:
        path: of a file that `write_negatives` wrote.
        documents: how many there are: ids from -1 to documents - 1 are accepted.

    Raises:
        CorruptNegativesError: torn, damaged, of another format, or an id out of range.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        head, size = file.read(SIZE), os.fstat(file.fileno()).st_size
        if len(head) < SIZE or head[:8] != MAGIC:
            raise CorruptNegativesError(f"{path}: not a negatives file")
        _, form, k, rows, version, *seconds = HEADER.unpack(head[:-4])
        wanted = SIZE + 8 * rows * (1 + k)
        if form != FORMAT or wanted != size:
            raise CorruptNegativesError(
                f"{path}: expected format {FORMAT} and {wanted} bytes, found {form} and {size}"
            )
        flat: Ids = np.empty(0, np.int64)
        if rows:
            flat = np.memmap(file, "<i8", "r", SIZE, (rows * (1 + k),))
    if zlib.crc32(flat.data, zlib.crc32(head[:-4])).to_bytes(4, "little") != head[-4:]:
        raise CorruptNegativesError(f"{path}: damaged")
    ids = flat[rows:].reshape(rows, k)
    if documents is not None and ids.size and not -1 <= ids.min() <= ids.max() < documents:
        raise CorruptNegativesError(
            f"{path}: expected ids from -1 to {documents - 1}, found {ids.min()} to {ids.max()}"
        )
    return Negatives(ids, flat[:rows], version, dict(zip(PHASES, seconds, strict=True)))


def file_of(folder: Any, version: int) -> Path:
    """Name the file of a version."""
    return Path(folder) / f"negatives-{version:010d}.bin"


def versions_in(folder: Any) -> dict[int, Path]:
    """Return the files of a folder that are named as by `file_of`, by version, newest first."""
    paths = sorted(Path(folder).glob(f"negatives-{'[0-9]' * 10}.bin"), reverse=True)
    return {int(path.stem[-10:]): path for path in paths}


def newest_negatives(
    folder: Any, *, after: int = -1, until: int | None = None, documents: int | None = None
) -> Negatives | None:
    """Return the newest complete version in a folder, or None; damaged files are passed over.

    Args:
        folder: where files are named as by `file_of`.
        after, until: versions above the one and up to the other count: no stale one, and none of
            a future that a restarted run has not reached.
        documents: as for `read_negatives`.
    """
    for version, path in versions_in(folder).items():
        if after < version and (until is None or version <= until):
            try:
                found = read_negatives(path, documents=documents)
            except (CorruptNegativesError, FileNotFoundError):
                continue
            if found.version == version:
                return found
    return None
