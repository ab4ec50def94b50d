# SPDX-License-Identifier: Apache-2.0
"""The file format as docs/format.md states it, and files of every version that was released."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import index_file
import numpy as np
import pytest
from conftest import make_vectors
from index_file import FIELDS, PAGE, SHAPES, intact_files, refusal

from bigrain import CorruptIndexError, Index

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def intact() -> list[bytes]:
    return intact_files()


def test_other_versions_are_refused_by_name(intact: list[bytes], tmp_path: Path) -> None:  # F11
    path = tmp_path / "x.bigrain"
    for major, minor in ((1, 5), (2, 0), (65535, 65535)):
        data = bytearray(intact[0])
        index_file.put(data, FIELDS["major"], major)
        index_file.put(data, FIELDS["minor"], minor)
        index_file.seal_header(data)
        path.write_bytes(data)
        message = f"format version {major}.{minor}, this Bigrain reads up to 1.4"
        assert message in refusal(path)
        with pytest.raises(CorruptIndexError, match=message):
            Index.describe(path)


def test_files_are_as_documented(intact: list[bytes]) -> None:
    for content, (metric, dtype, dim) in zip(intact, SHAPES, strict=True):
        values = {name: index_file.get(content, field) for name, field in FIELDS.items()}
        item = np.dtype(dtype).itemsize
        assert content[:8] == index_file.MAGIC
        assert values["file_length"] == len(content)
        n = 100 if dim == index_file.WIDE_DIM else 2000
        assert (values["n"], values["d"], values["R"]) == (n, dim, 16)
        assert values["metric"] == ["l2", "ip", "cosine"].index(metric)
        assert values["dtype"] == ["float32", "float16", "int8", "uint8"].index(dtype)
        stride = values["stride"]
        shortened = dim in (index_file.PROJECTED_DIM, index_file.WIDE_DIM)
        code_dim = index_file.CODE_DIM if shortened else dim
        assert stride == -(-(code_dim + 8) // 64) * 64
        has_ids = dim != 3
        has_slack = "tuning" in index_file.sections(content) and metric != "ip"
        assert (values["minor"], values["code_dim"]) == (4 if has_slack else 2, code_dim)
        assert values["flags"] == has_ids
        assert values["point_bytes"] == 16 * 4 + 8 * has_ids + dim * item
        nodes, vectors = index_file.records(content)
        assert nodes.coupled == (dim != index_file.WIDE_DIM)
        pages = -(-n // nodes.per_page) * nodes.pages
        fulls = 0 if nodes.coupled else -(-n // vectors.per_page) * vectors.pages
        expected = {
            "nodes": (PAGE, pages),
            "fulls": (PAGE, fulls),
            "sums": (4, pages + fulls),
            "codes": (stride, n),
            "mean": (4, dim),
            "signs": (1, 4 * -(-dim // 8)),
            "scales": (4, dim),
            "projection": (-(-(dim + 8) // 64) * 64, code_dim),
            "tuning": (16 if values["minor"] < 4 else 20, None),
        }
        end = PAGE
        for name, section in index_file.sections(content).items():
            size, count = expected[name]
            assert section.element_size == size
            assert section.count == count or name == "tuning"
            assert section.length == section.count * size
            assert section.offset == end
            data = content[section.offset : section.offset + section.length]
            assert section.crc == index_file.crc32c(data)
            end = -(-(section.offset + section.length) // PAGE) * PAGE
            assert not any(content[section.offset + section.length : end])
        assert end == len(content)


def test_sections_hold_what_they_say(intact: list[bytes], tmp_path: Path) -> None:
    path = tmp_path / "x.bigrain"
    path.write_bytes(intact[0])
    core = Index.open(path)._opened()
    found = index_file.sections(intact[0])

    def array(name: str, dtype: str) -> Any:
        return np.frombuffer(
            intact[0], dtype, found[name].length // np.dtype(dtype).itemsize, found[name].offset
        )

    nodes, vectors = index_file.records(intact[0])
    base, rows, ids = make_vectors(2000, 16), core.graph(), core.ids()
    for i in range(2000):
        row, full = intact[0][nodes[i] :], intact[0][vectors[i] :]
        assert np.frombuffer(row, "<u4", 16).tolist() == rows[i].tolist()
        assert np.frombuffer(row, "<i8", 1, nodes.row)[0] == ids[i]
        found_vector = np.frombuffer(full, "<f4", 16, nodes.row + nodes.ids)
        np.testing.assert_array_equal(found_vector, base[i])
    sums = array("sums", "<u4")
    for number in (0, len(sums) - 1):
        page = intact[0][found["nodes"].offset + number * PAGE :][:PAGE]
        assert sums[number] == index_file.crc32c(struct.pack("<Q", number) + page)
    curve = array("tuning", "<u4").reshape(-1, 5)
    assert curve[:, [0, 1, 3]].tolist() == [list(row[:3]) for row in core.tuning()]


def save_to(path: Path, index: Index) -> Path:
    index.save(path)
    return path


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.3", "1.4"])
def test_golden_files_open_and_answer(version: str, tmp_path: Path) -> None:  # F11
    answers = json.loads((GOLDEN / f"v{version}.json").read_text())
    assert sorted(answers) == sorted(path.name for path in GOLDEN.glob(f"v{version}-*.bigrain"))
    for name, expected in answers.items():
        assert expected["header"]["format"] == version
        path = GOLDEN / name
        header = Index.describe(path)
        header.pop("sections")
        # Later versions may say more about a file, never something else.
        assert expected["header"].items() <= header.items()
        for verify in ("full", "header", "off"):
            index = Index.open(path, verify=verify)
            assert index.validate().ok
            queries = np.asarray(expected["queries"], np.float32)
            if header["dtype"] in ("int8", "uint8"):
                queries = queries.astype(header["dtype"])
            found = index.search(queries, 5, width=64)
            assert found.ids.tolist() == expected["ids"]
            distances = np.asarray(expected["distances"], np.float32)
            np.testing.assert_allclose(found.distances, distances, rtol=1e-5, atol=1e-6)
        if version == "1.3":
            found = Index.open(path, memory="min").search(queries, 5, width=64)
            np.testing.assert_array_equal(found.ids, expected["ids"])
        # Saved anew it is a file of today, with the same content.
        again = Index.open(save_to(tmp_path / name, index))
        np.testing.assert_array_equal(again.search(queries, 5, width=64).ids, expected["ids"])


def test_the_version_is_stated(intact: list[bytes], tmp_path: Path) -> None:
    path = tmp_path / "x.bigrain"
    path.write_bytes(intact[1])
    described = Index.describe(path)
    assert described["format"] == "1.2"
    assert [s["name"] for s in described["sections"]] == list(index_file.sections(intact[1]))
