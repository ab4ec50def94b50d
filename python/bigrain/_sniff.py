# SPDX-License-Identifier: Apache-2.0
"""Tells what kind of vector file a file is, by its first bytes and its size.

People pass an .fvecs file where an .fbin file is wanted, and the header then reads as nonsense.
Every kind is known here by a magic number or by the arithmetic of its layout, so that an error
message can say what the file is instead of what it is not.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import NamedTuple

MAX_DIM = 65_536  # kMaxDim of cpp/include/bigrain/params.h

MAGICS = (
    (b"\x93NUMPY", "npy"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"PK\x03\x04", "npz"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"\x89BIGRAIN", "a Bigrain index"),
)


class Guess(NamedTuple):
    kind: str  # a name that read_vectors takes as kind=, or a phrase
    rows: int | None = None
    dim: int | None = None

    def __str__(self) -> str:
        if self.rows is None:
            return self.kind
        return f"{self.kind} ({self.rows:,} x {self.dim:,})"


def sniff(path: str | os.PathLike[str]) -> list[Guess]:
    """What the file may be, likeliest first; empty when it is like nothing known."""
    path = Path(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4096)
        for magic, kind in MAGICS:
            if head.startswith(magic):
                return [Guess(kind)]
        guesses = []
        if len(head) >= 8:
            guesses += _vecs(file, head, size)
            guesses += _bins(head, size)
    return guesses


def _vecs(file: object, head: bytes, size: int) -> list[Guess]:
    """Rows that each begin with the dimension: the first, the second and the last agree."""
    (dim,) = struct.unpack_from("<i", head)
    if not 1 <= dim <= MAX_DIM:
        return []
    found = []
    for kind, item in (("fvecs", 4), ("bvecs", 1)):
        row = 4 + dim * item
        if size % row:
            continue
        if any(_int_at(file, at) != dim for at in {min(row, size - row), size - row}):
            continue
        name = "ivecs" if kind == "fvecs" and _small_integers(head[4:row]) else kind
        found.append(Guess(name, size // row, dim))
    return found


def _bins(head: bytes, size: int) -> list[Guess]:
    """Two counts, then exactly their product of items."""
    rows, dim = struct.unpack_from("<II", head)
    if not (rows and 1 <= dim <= MAX_DIM) or (size - 8) % (rows * dim):
        return []
    kinds = {
        1: ["u8bin", "i8bin"],
        4: ["ibin", "fbin"] if _small_integers(head[8:]) else ["fbin", "ibin"],
        8: ["ground truth"],
    }
    return [Guess(kind, rows, dim) for kind in kinds.get((size - 8) // (rows * dim), [])]


def _int_at(file: object, offset: int) -> int:
    file.seek(offset)  # type: ignore[attr-defined]
    return int.from_bytes(file.read(4), "little", signed=True)  # type: ignore[attr-defined]


def _small_integers(data: bytes) -> bool:
    """Whether 4-byte items are ids rather than floats: an ordinary float's bits exceed 2^23."""
    items = struct.unpack(f"<{len(data) // 4}i", data[: len(data) // 4 * 4])
    return any(items) and all(-1 <= item < 1 << 23 for item in items)
