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
    11: "nodes",
    12: "fulls",
    13: "sums",
    14: "pq_rotation",
    15: "pq_codebooks",
    16: "pq_codes",
    17: "hot",
}
HAS_IDS, PQ_GIVEN = 1, 2  # flags

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
    "pq_bytes": (84, "I"),
    "pq_dim": (88, "I"),
    "point_bytes": (92, "I"),
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


@dataclass(frozen=True)
class Records:
    """Where the parts of points lie."""

    offset: int  # of the first page
    bytes: int  # of a record
    per_page: int
    pages: int  # of a record
    row: int  # bytes of a row
    ids: int  # bytes of an id, or 0
    vector: int  # bytes of a vector
    coupled: bool

    def __getitem__(self, i: int) -> int:
        """Offset of record i in the file."""
        page = i // self.per_page * self.pages
        return self.offset + page * PAGE + i % self.per_page * self.bytes


def records(data: bytes | bytearray) -> tuple[Records, Records]:
    """Return where rows and ids lie, and where vectors lie."""
    dim, degree = get(data, FIELDS["d"]), get(data, FIELDS["R"])
    vector = dim * (4, 2, 1, 1)[get(data, FIELDS["dtype"])]
    row, ids = 4 * degree, 8 * (get(data, FIELDS["flags"]) & HAS_IDS)
    whole = row + ids + vector
    coupled = -(-whole // PAGE) == -(-vector // PAGE)
    found = sections(data)

    def of(name: str, size: int) -> Records:
        size = -(-size // 4) * 4
        shape = max(1, PAGE // size), -(-size // PAGE)
        return Records(found[name].offset, size, *shape, row, ids, vector, coupled)

    nodes = of("nodes", whole if coupled else row + ids)
    return nodes, nodes if coupled else of("fulls", vector)


def seal_pages(data: bytearray) -> None:
    """Make the checksums of pages right."""
    found, number = sections(data), 0
    for name in ("nodes", "fulls"):
        if name not in found:
            continue
        for page in range(found[name].count):
            start = found[name].offset + page * PAGE
            crc = crc32c(struct.pack("<Q", number) + data[start : start + PAGE])
            struct.pack_into("<I", data, found["sums"].offset + 4 * number, crc)
            number += 1


def seal(data: bytearray, *names: str) -> None:
    """Make the checksums of the named sections right, and the header's."""
    if "nodes" in names or "fulls" in names:
        seal_pages(data)
        names = (*names, "sums")
    for entry, (name, section) in enumerate(sections(data).items()):
        if name in names:
            crc = crc32c(data[section.offset : section.offset + section.length])
            put(data, entry_field(entry, "crc"), crc)
    seal_header(data)


WIDE_DIM = 1024  # vectors of a whole page, apart from their rows
PROJECTED_DIM, CODE_DIM = 90, 40  # codes of a file of format 1.1
# Small indexes to take apart: metric, dtype, dimension.
SHAPES = [
    ("l2", "float32", 16),
    ("cosine", "float16", 100),
    ("ip", "int8", 3),
    ("l2", "uint8", 128),
    ("cosine", "float32", PROJECTED_DIM),
    ("l2", "float32", WIDE_DIM),
]
MOST_SECONDS = 2.0  # in which any file must have been refused


def build(metric: Any, dtype: str, dim: int, n: int = 2000) -> Index:
    n = n // 20 if dim == WIDE_DIM else n
    ids = np.random.default_rng(3).permutation(n) * 3 + 1 if dim != 3 else None
    code_dim = CODE_DIM if dim in (PROJECTED_DIM, WIDE_DIM) else None
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
