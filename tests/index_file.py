# SPDX-License-Identifier: Apache-2.0
"""The file format, written a second time from docs/format.md, for reading and forging files."""

from __future__ import annotations

import functools
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from conftest import make_vectors

from bigrain import CorruptIndexError, Index

PAGE = 4096
MAGIC = b"\x89BIGRAIN"
CRC_AT = 12
TABLE_AT, ENTRY_BYTES = 256, 40
KINDS = {
    1: "graph",
    2: "codes",
    3: "vectors",
    4: "ids",
    5: "mean",
    6: "signs",
    7: "tuning",
    8: "scales",
    9: "projection",
    10: "trials",
}

# name -> (offset, struct format)
FIELDS = {
    "major": (8, "H"),
    "minor": (10, "H"),
    "marker": (16, "I"),
    "flags": (20, "I"),
    "file_length": (24, "Q"),
    "n": (32, "Q"),
    "d": (40, "I"),
    "R": (44, "I"),
    "dtype": (48, "B"),
    "metric": (49, "B"),
    "rounds": (50, "H"),
    "stride": (52, "I"),
    "entry": (56, "I"),
    "build_width": (60, "I"),
    "alpha": (64, "I"),  # as bits
    "section_count": (68, "I"),
    "seed": (72, "Q"),
    "code_dim": (80, "I"),
}
ENTRY_FIELDS = {
    "kind": (0, "I"),
    "element_size": (4, "I"),
    "offset": (8, "Q"),
    "length": (16, "Q"),
    "count": (24, "Q"),
    "crc": (32, "I"),
    "reserved": (36, "I"),
}


def _table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_TABLE = _table()


def crc32c(data: bytes | bytearray) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


@dataclass(frozen=True)
class Section:
    kind: int
    element_size: int
    offset: int
    length: int
    count: int
    crc: int

    @property
    def name(self) -> str:
        return KINDS[self.kind]


def get(data: bytes | bytearray, field: tuple[int, str]) -> int:
    value: int = struct.unpack_from("<" + field[1], data, field[0])[0]
    return value


def put(data: bytearray, field: tuple[int, str], value: int) -> None:
    struct.pack_into("<" + field[1], data, field[0], value)


def entry_field(entry: int, name: str) -> tuple[int, str]:
    offset, kind = ENTRY_FIELDS[name]
    return TABLE_AT + entry * ENTRY_BYTES + offset, kind


def sections(data: bytes | bytearray) -> dict[str, Section]:
    found = {}
    for entry in range(get(data, FIELDS["section_count"])):
        values = {name: get(data, entry_field(entry, name)) for name in ENTRY_FIELDS}
        values.pop("reserved")
        section = Section(**values)
        found[section.name] = section
    return found


def seal_header(data: bytearray) -> None:
    """Make the header's checksum right."""
    put(data, (CRC_AT, "I"), 0)
    put(data, (CRC_AT, "I"), crc32c(data[:PAGE]))


def seal(data: bytearray, *names: str) -> None:
    """Make the checksums of the named sections right, and the header's."""
    for entry, (name, section) in enumerate(sections(data).items()):
        if name in names:
            crc = crc32c(data[section.offset : section.offset + section.length])
            put(data, entry_field(entry, "crc"), crc)
    seal_header(data)


PROJECTED_DIM, CODE_DIM = 90, 40  # codes of a file of format 1.1
# Small indexes to take apart: metric, dtype, dimension.
SHAPES = [
    ("l2", "float32", 16),
    ("cosine", "float16", 100),
    ("ip", "int8", 3),
    ("l2", "uint8", 128),
    ("cosine", "float32", PROJECTED_DIM),
]
MOST_SECONDS = 2.0  # in which any file must have been refused


def build(metric: Any, dtype: str, dim: int, n: int = 2000) -> Index:
    ids = np.random.default_rng(3).permutation(n) * 3 + 1 if dim != 3 else None
    code_dim = CODE_DIM if dim == PROJECTED_DIM else None
    index = Index.build(
        make_vectors(n, dim, dtype),
        ids,
        metric=metric,
        degree=16,
        build_width=32,
        code_dim=code_dim,
    )
    if dim == 16:
        index.tune(make_vectors(50, dim, dtype, seed=2), k=5, recall=0.9)
    return index


@functools.cache
def intact_files() -> list[bytes]:
    """Small index files, one of each shape."""
    return [content_of(build(*shape)) for shape in SHAPES]


def content_of(index: Index) -> bytes:
    return index._opened().to_bytes()


def refusal(path: Path, verify: Any = "full") -> str:
    """Return the message with which the file at `path` is refused; "" if it opens."""
    start, message = time.monotonic(), ""
    try:
        Index.open(path, verify=verify)
    except CorruptIndexError as error:
        message = str(error)
    assert message == "" or str(path) in message
    assert message == "" or time.monotonic() - start < MOST_SECONDS
    return message
