# SPDX-License-Identifier: Apache-2.0
"""Files that are damaged, forged, foreign, old or new: refused by name, or answered from rightly.

The C++ tests (cpp/tests/format_*) do the same with far more cases; these see what users see.
"""

from __future__ import annotations

import json
import os
import random
import socket
import sqlite3
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import index_file
import numpy as np
import pytest
from conftest import assert_same, make_vectors
from index_file import FIELDS, PAGE, SHAPES, intact_files, refusal

from bigrain import CorruptIndexError, Index


@pytest.fixture(scope="module")
def intact() -> list[bytes]:
    return intact_files()


class Damaged:
    """A file whose bytes are changed and put back in place."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.path, self.content = path, content
        path.write_bytes(content)
        self.fd = os.open(path, os.O_RDWR)

    def refused_with(self, offset: int, replacement: bytes, verify: Any = "full") -> bool:
        os.pwrite(self.fd, replacement, offset)
        refused = refusal(self.path, verify) != ""
        os.pwrite(self.fd, self.content[offset : offset + len(replacement)], offset)
        return refused

    def with_bits_flipped(self, bits: list[int]) -> bool:
        low, high = min(bits) // 8, max(bits) // 8
        block = bytearray(self.content[low : high + 1])
        for bit in bits:
            block[bit // 8 - low] ^= 1 << bit % 8
        return self.refused_with(low, bytes(block))


@pytest.fixture
def damaged(intact: list[bytes], tmp_path: Path) -> Iterator[list[Damaged]]:
    files = [Damaged(tmp_path / f"{i}.bigrain", content) for i, content in enumerate(intact)]
    yield files
    for file in files:
        assert file.path.read_bytes() == file.content
        Index.open(file.path).close()
        os.close(file.fd)


# Accidents


def test_each_bit_of_the_header_matters(damaged: list[Damaged]) -> None:  # F1
    for file in damaged:
        accepted = [b for b in range(8 * PAGE) if not file.with_bits_flipped([b])]
        assert accepted == []


def test_any_flipped_bit_is_found(damaged: list[Damaged]) -> None:  # F2
    chance = random.Random(2)
    for i in range(5000):
        file = damaged[i % len(damaged)]
        bit = chance.randrange(8 * len(file.content))
        assert file.with_bits_flipped([bit]), f"file {i % len(damaged)}, bit {bit}"


def test_larger_damage_is_found(damaged: list[Damaged]) -> None:  # F3
    chance = random.Random(3)
    for i in range(600):
        file = damaged[i % len(damaged)]
        size = len(file.content)
        if i % 3 == 0:
            start = chance.randrange(8 * (size - PAGE))
            assert file.with_bits_flipped(chance.sample(range(start, start + 8 * PAGE), 5))
            continue
        start, length = chance.randrange(size), chance.randint(1, PAGE)
        run = (b"\0" if i % 3 == 1 else b"\xff") * min(length, size - start)
        if file.content[start : start + len(run)] != run:
            assert file.refused_with(start, run)


def test_swapped_sectors_are_found(damaged: list[Damaged]) -> None:  # F3
    chance = random.Random(4)
    for i in range(200):
        file = damaged[i % len(damaged)]
        a, b = sorted(chance.sample(range(len(file.content) // PAGE), 2))
        block = bytearray(file.content[a * PAGE : (b + 1) * PAGE])
        block[:PAGE], block[-PAGE:] = block[-PAGE:], block[:PAGE]
        if block[:PAGE] != block[-PAGE:]:
            assert file.refused_with(a * PAGE, bytes(block))


def test_any_truncation_is_found(intact: list[bytes], tmp_path: Path) -> None:  # F4
    chance = random.Random(5)
    for content in intact:
        lengths = {*range(PAGE + 1), *(chance.randrange(len(content)) for _ in range(1000))}
        for section in index_file.sections(content).values():
            for edge in (section.offset, section.offset + section.length):
                lengths |= {edge - 1, edge, edge + 1}
        path = tmp_path / "short"
        path.write_bytes(content)
        for length in sorted(lengths, reverse=True):
            if length < len(content):
                os.truncate(path, length)
                assert refusal(path, "full" if length % 2 else "off") != ""


def test_anything_appended_is_found(intact: list[bytes], tmp_path: Path) -> None:  # F5
    path = tmp_path / "long"
    for content in intact:
        for tail in (b"\0", b"x" * 7, bytes(PAGE), os.urandom(10_000), content):
            path.write_bytes(content + tail)
            assert "appended" in refusal(path)


# Forgeries: the checksums are right.


def extremes(value: int, kind: str) -> list[int]:
    size = 8 * struct.calcsize(kind)
    values = {0, 1, value - 1, value + 1, 2**16, 2**16 + 1, 2 * value, 2**size - 1, 2**size - 2}
    values |= {2**bit + off for bit in (15, 31, 32, 62, 63) for off in (-1, 0, 1)}
    return sorted(v for v in values if 0 <= v < 2**size and v != value)


def forged_headers(content: bytes) -> Iterator[bytes]:
    """Every numeric field of the header at its extremes, with right checksums."""
    fields = list(FIELDS.values())
    for entry in range(get_count(content) + 1):
        fields += [index_file.entry_field(entry, n) for n in index_file.ENTRY_FIELDS if n != "crc"]
    for field in fields:
        for value in extremes(index_file.get(content, field), field[1]):
            header = bytearray(content[:PAGE])
            index_file.put(header, field, value)
            index_file.seal_header(header)
            yield bytes(header)


def get_count(content: bytes) -> int:
    return index_file.get(content, FIELDS["section_count"])


FORGERY_CHILD = """
import os, resource, sys
import numpy as np
from bigrain import CorruptIndexError, Index

def answers(index):
    queries = np.ascontiguousarray(index._opened().vectors()[:20])
    if queries.dtype == np.float16:
        queries = queries.astype(np.float32)
    return index.search(queries, 10, width=len(index), threads=1)

path, headers = sys.argv[1], open(sys.argv[2], "rb").read()
size = os.path.getsize(path)
index = Index.open(path)
right, kind = answers(index), (index.metric, index.dtype)
del index
for line in open("/proc/self/status"):
    if line.startswith("VmSize:"):
        used = int(line.split()[1]) * 1024
limit = used + 2 * size + (64 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
opened = 0
with open(path, "r+b") as file:
    for start in range(0, len(headers), 4096):
        file.seek(0)
        file.write(headers[start:start + 4096])
        file.flush()
        for verify in ("full", "header", "off"):
            try:
                index = Index.open(path, verify=verify)
            except CorruptIndexError:
                continue
            found = answers(index)
            opened += 1
            if (index.metric, index.dtype) == kind:
                assert (found.ids == right.ids).all(), start
                assert (found.distances == right.distances).all(), start
            else:  # l2 told from cosine, int8 from uint8, by nothing but this field
                assert all(len(set(row)) == len(row) for row in found.ids.tolist())
                assert not np.isnan(found.distances).any()
            del index
print(opened, len(headers) // 4096)
"""


def test_header_fields_at_their_extremes(  # F6
    intact: list[bytes], tmp_path: Path, run_child: Callable[..., str]
) -> None:
    for number, content in enumerate(intact):
        path, headers = tmp_path / "x.bigrain", tmp_path / "headers"
        path.write_bytes(content)
        headers.write_bytes(b"".join(forged_headers(content)))
        code = f"import sys; sys.argv = ['-', {str(path)!r}, {str(headers)!r}]" + FORGERY_CHILD
        opened, tried = map(int, run_child(code, timeout=300).split())
        assert tried > 400
        # Entry, build width, alpha and seed may be anything in their ranges.
        assert 0 < opened < 0.2 * 3 * tried, f"file {number}"


def forge(content: bytes, chance: random.Random) -> bytes:
    """Change something inside the sections and make the checksums right again."""
    data = bytearray(content)
    name, section = chance.choice(list(index_file.sections(data).items()))
    for _ in range(chance.choice((1, 4, 64))):
        at = section.offset + chance.randrange(section.length)
        word = chance.choice((b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\0\0\xc0\x7f", os.urandom(4)))
        data[at : at + 4] = word[: section.offset + section.length - at]
    index_file.seal(data, name)
    return bytes(data)


def check_answers(index: Index, queries: Any, verify: str) -> None:
    found = index.search(queries, 10, width=50)
    own = index._opened().ids()
    allowed = set(range(len(index)) if own is None else own.tolist()) | {-1}
    for row in found.ids.tolist():
        assert set(row) <= allowed
        present = [i for i in row if i != -1]
        # Repeated ids in an unchecked file are repeated ids; otherwise a point comes once.
        assert len(set(present)) == len(present) or (verify != "full" and own is not None)
    assert verify != "full" or not np.isnan(found.distances).any()


def test_forged_content_is_refused_or_harmless(intact: list[bytes], tmp_path: Path) -> None:  # F7
    chance, path = random.Random(7), tmp_path / "forged"
    outcomes = {"full": 0, "header": 0, "off": 0}
    for i in range(240):
        _, dtype, dim = SHAPES[i % len(SHAPES)]
        queries = make_vectors(10, dim, "float32" if dtype == "float16" else dtype, seed=9)
        path.write_bytes(forge(intact[i % len(SHAPES)], chance))
        for verify in outcomes:
            try:
                index = Index.open(path, verify=verify)  # type: ignore[arg-type]
                check_answers(index, queries, verify)
                outcomes[verify] += 1
            except CorruptIndexError:
                pass
    assert outcomes["full"] < outcomes["header"]


def test_an_id_outside_the_graph_is_noticed_in_a_search(
    intact: list[bytes], tmp_path: Path
) -> None:
    data = bytearray(intact[0])
    nodes, _ = index_file.records(data)
    for i in range(2000):
        data[nodes[i] : nodes[i] + nodes.row] = b"\xf0" * nodes.row
    index_file.seal(data, "nodes")
    path = tmp_path / "x.bigrain"
    path.write_bytes(data)
    assert "section graph: row 0 names vertex" in refusal(path)
    for verify in ("header", "off"):
        index = Index.open(path, verify=verify)
        with pytest.raises(CorruptIndexError):
            index.search(make_vectors(1, 16), 5)


# Files of other kinds  (F10)


def hnswlib_like() -> bytes:
    return struct.pack("<6Q", 0, 1000, 900, 332, 324, 68) + bytes(4096)


def safetensors_like() -> bytes:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(8)


FOREIGN: list[tuple[bytes, str]] = [
    (b"", "an empty file"),
    (b"\x7fELF\x02\x01\x01" + bytes(100), "an ELF program"),
    (b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG image"),
    (b"\x1f\x8b\x08" + bytes(100), "gzip"),
    (hnswlib_like(), "an hnswlib index"),
    (b"IxF2" + struct.pack("<I", 16) + bytes(100), "a faiss index"),
    (safetensors_like(), "a safetensors file"),
    (struct.pack("<I", 8) + bytes(32), "fvecs or ivecs vectors of dimension 8"),
    (struct.pack("<II", 70_000, 2) + bytes(560_000), "fbin or ibin vectors, 70000 of dimension 2"),
    (b"the 0.1 0.2\nof 0.3 0.4\n", "text"),
    ("\ufeffwide".encode("utf-16"), "data of an unknown kind"),
    (bytes(10_000), "nothing but zeros"),
]


@pytest.mark.parametrize(("content", "meaning"), FOREIGN, ids=[m for _, m in FOREIGN])
def test_files_of_other_kinds_are_named(tmp_path: Path, content: bytes, meaning: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    for verify in ("full", "header", "off"):
        assert f"not a Bigrain index; this looks like {meaning}" in refusal(path, verify)
    with pytest.raises(CorruptIndexError, match="not a Bigrain index"):
        Index.describe(path)


def test_real_files_of_other_kinds_are_named(tmp_path: Path) -> None:
    path = tmp_path / "file"
    np.save(path.with_suffix(".npy"), np.eye(3))
    assert "a NumPy array" in refusal(path.with_suffix(".npy"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", "b")
    assert "a zip archive" in refusal(path)
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("create table a (b)")
    database.close()
    assert "an SQLite database" in refusal(path)
    assert "an ELF program" in refusal(Path(sys.executable).resolve())


def test_a_large_sparse_file_is_refused_at_once(intact: list[bytes], tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    for head, meaning in ((b"", "nothing but zeros"), (intact[0], "appended")):
        path.write_bytes(head)
        os.truncate(path, 5 << 30)
        assert meaning in refusal(path)


def test_things_that_are_no_regular_files(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "a named pipe" in refusal(pipe)  # and no waiting for a writer
    assert "a device" in refusal(Path("/dev/zero"))
    name = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(name))
        with pytest.raises(OSError, match="socket"):
            Index.open(name)
    for path, error in ((tmp_path, IsADirectoryError), (tmp_path / "no", FileNotFoundError)):
        with pytest.raises(error) as caught:
            Index.open(path)
        assert caught.value.filename == str(path)
    with pytest.raises(OSError, match="too long"):
        Index.open(tmp_path / ("x" * 300))
    with pytest.raises(ValueError, match="NUL"):
        Index.open("a\0b")


def test_a_path_of_undecodable_bytes_works(index: Index, queries: Any, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\xfe\xe9"
    index.save(path)
    assert_same(Index.open(path).search(queries, 5), index.search(queries, 5))
