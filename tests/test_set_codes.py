# SPDX-License-Identifier: Apache-2.0
"""Codes trained elsewhere: they mean what they mean to bigrain.quant, and choose what is read."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import index_file
import numpy as np
import pytest
from conftest import make_vectors, oracle_distances
from hypothesis import given, settings
from hypothesis import strategies as st

from bigrain import Cancelled, CorruptIndexError, Index
from bigrain.quant import OPQ, PQ

K = 10
DISK = "rows and vectors on disk"


def unit(rows: Any) -> Any:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def trained(base: Any, m: int, d_out: int | None = None, seed: int = 0) -> OPQ:
    return OPQ(m, d_out=d_out, n_iter=2, iterations=4).fit(base, seed=seed)


def arrays_of(opq: OPQ) -> dict[str, Any]:
    return {"rotation": opq.rotation, "codebooks": opq.codebooks}


def section(content: bytes, name: str, dtype: str = "uint8") -> Any:
    found = index_file.sections(content)[name]
    return np.frombuffer(content[found.offset : found.offset + found.length], dtype)


def stored_codes(index: Index, m: int) -> Any:
    """Return the codes of an index's file in the order of `index.ids`."""
    codes = section(index_file.content_of(index), "pq_codes").reshape(-1, m)
    names = index._opened().ids()
    return codes if names is None else codes[np.argsort(names)]


def recall(found: Any, base: Any, queries: Any, metric: str) -> float:
    distances = oracle_distances(base, queries, metric)
    last = np.sort(distances, axis=1)[:, K - 1]
    limit = last + 1e-5 * np.abs(last) + 1e-6
    return float(np.mean([distances[q, ids] <= limit[q] for q, ids in enumerate(found.ids)]))


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_codes_are_those_of_the_quantizer(metric: Any, dtype: str) -> None:
    base = make_vectors(700, 20, dtype)
    index = Index.build(base, metric=metric, degree=8)
    seen = base.astype(np.float32)
    seen = unit(seen) if metric == "cosine" else seen
    opq = trained(seen, 5, 14)
    index.set_codes(**arrays_of(opq))
    codes, expected = stored_codes(index, 5), opq.encode(seen)
    # Under cosine this test's lengths of 1 are rounded otherwise than the core's.
    assert (codes == expected).all() if metric != "cosine" else (codes != expected).mean() < 1e-3


def test_a_mean_far_from_zero_changes_nothing() -> None:
    base = make_vectors(600, 8) + 50
    opq = trained(base, 4)
    index = Index.build(base, pq_bytes=2)
    index.set_codes(**arrays_of(opq))
    np.testing.assert_array_equal(stored_codes(index, 4), opq.encode(base))


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
def test_recall_with_the_least_memory(tmp_path: Path, metric: Any) -> None:
    base, queries = make_vectors(3000, 32), make_vectors(100, 32, seed=5)
    index = Index.build(base, metric=metric)
    before = index.search(queries, K, width=50)
    opq = trained(unit(base) if metric == "cosine" else base, 16)
    index.set_codes(**arrays_of(opq))
    np.testing.assert_array_equal(index.search(queries, K, width=50).ids, before.ids)
    index.save(tmp_path / "x")
    disk = Index.open(tmp_path / "x", memory="min")
    assert disk.plan().residency.mode == DISK
    assert disk.plan().bytes["pq_codes"] == 3000 * 16
    assert recall(disk.search(queries, K, width=150), base, queries, metric) > 0.95


def test_codes_choose_what_is_read(tmp_path: Path) -> None:
    base, queries = make_vectors(3000, 32), make_vectors(100, 32, seed=5)
    opq = trained(base, 16)
    index = Index.build(base)
    found = []
    for codes in (opq.encode(base), opq.encode(base)[::-1]):
        index.set_codes(**arrays_of(opq), codes=codes)
        index.save(tmp_path / "x")
        disk = Index.open(tmp_path / "x", memory="min")
        found.append(recall(disk.search(queries, K, width=40), base, queries, "l2"))
    assert found[0] > 0.8
    assert found[1] < 0.5


@pytest.mark.parametrize("pq_bytes", [0, 3])
@pytest.mark.parametrize("dim", [8, 1100])  # pages of many records, and records of two pages
def test_given_codes_are_kept(tmp_path: Path, pq_bytes: int, dim: int) -> None:
    n = 300
    base, random = make_vectors(n, dim), np.random.default_rng(1)
    codes = random.integers(0, 256, (n, 2), np.uint8)
    books = random.standard_normal((2, 256, dim // 2)).astype(np.float32)
    index = Index.build(base, pq_bytes=pq_bytes, code_dim=8)
    index.set_codes(codebooks=books, codes=codes)
    np.testing.assert_array_equal(stored_codes(index, 2), codes)
    again = pickle.loads(pickle.dumps(index))
    index.save(tmp_path / "x")
    opened = Index.open(tmp_path / "x")
    for other in (again, opened):
        assert index_file.content_of(other) == index_file.content_of(index)
    assert Index.describe(tmp_path / "x")["format"] == "1.3"
    assert Index.describe(tmp_path / "x")["pq_given"]
    budget = Index.open(tmp_path / "x", memory="min")
    assert budget.plan().bytes["pq_codes"] == 2 * n
    with pytest.raises(NotImplementedError, match="set_codes"):
        budget.set_codes(codebooks=books)


def test_whose_codes_they_are() -> None:
    base, random = make_vectors(400, 8), np.random.default_rng(1)
    codes = random.integers(0, 256, (400, 4), np.uint8)
    books = random.standard_normal((4, 256, 2)).astype(np.float32)
    ids = random.permutation(400) * 5 + 3
    by_id = codes[np.argsort(ids)]
    for pq_bytes in (0, 4):
        index = Index.build(base, ids, pq_bytes=pq_bytes)
        if pq_bytes == 0:  # ids are in the order in which they were given
            index.set_codes(codebooks=books, codes=codes)
            np.testing.assert_array_equal(stored_codes(index, 4), by_id)
        else:
            with pytest.raises(ValueError, match="pass the ids with which it was built"):
                index.set_codes(codebooks=books, codes=codes)
        order = random.permutation(400)
        index.set_codes(codebooks=books, codes=codes[order], ids=ids[order])
        np.testing.assert_array_equal(stored_codes(index, 4), by_id)
        with pytest.raises(ValueError, match="not those of the index"):
            index.set_codes(codebooks=books, codes=codes, ids=ids + 1)
        with pytest.raises(ValueError, match="no codes are"):
            index.set_codes(codebooks=books, ids=ids)


def test_the_same_arrays_change_nothing(tmp_path: Path) -> None:
    base, queries = make_vectors(2000, 16), make_vectors(50, 16, seed=5)
    index = Index.build(base, metric="ip", pq_bytes=8)
    index.save(tmp_path / "own")
    own = index_file.content_of(index)
    rotation = section(own, "pq_rotation", "float32").reshape(16, 16)
    books = section(own, "pq_codebooks", "float32").reshape(8, 256, 2)
    index.set_codes(rotation=rotation, codebooks=books)  # inner products have no mean
    given_once = index_file.content_of(index)
    np.testing.assert_array_equal(section(given_once, "pq_codes"), section(own, "pq_codes"))
    np.testing.assert_array_equal(section(given_once, "nodes"), section(own, "nodes"))
    np.testing.assert_array_equal(section(given_once, "hot"), section(own, "hot"))
    index.set_codes(rotation=rotation, codebooks=books)
    assert index_file.content_of(index) == given_once
    index.save(tmp_path / "given")
    asked = {"k": 5, "width": 60, "deterministic": True}
    one = Index.open(tmp_path / "own", memory="min").search(queries, **asked)
    two = Index.open(tmp_path / "given", memory="min").search(queries, **asked)
    np.testing.assert_array_equal(one.ids, two.ids)
    np.testing.assert_array_equal(one.distances, two.distances)


def test_without_a_rotation() -> None:
    base = make_vectors(500, 12)
    pq = PQ(3, iterations=3).fit(base)
    index = Index.build(base)
    index.set_codes(codebooks=pq.codebooks)
    np.testing.assert_array_equal(stored_codes(index, 3), pq.encode(base))


@given(data=st.data())
@settings(max_examples=30)
def test_any_shape(data: Any) -> None:
    dim = data.draw(st.integers(1, 20))
    columns = data.draw(st.integers(1, dim))
    m = data.draw(st.integers(1, columns))
    n = data.draw(st.sampled_from([1, 2, 7, 8, 300]))
    seed = data.draw(st.integers(0, 100))
    random = np.random.default_rng(seed)
    rotation = np.linalg.qr(random.standard_normal((dim, dim)))[0][:, :columns]
    books = random.standard_normal((m, 256, -(-columns // m)))
    base = make_vectors(n, dim)
    index = Index.build(base, degree=4, pq_bytes=data.draw(st.integers(0, dim)))
    opq = OPQ.from_arrays(rotation, books)
    index.set_codes(rotation=rotation, codebooks=books)
    np.testing.assert_array_equal(stored_codes(index, m), opq.encode(base))
    assert pickle.loads(pickle.dumps(index)).search(base[0], 1).distances[0] == 0


def test_arrays_that_do_not_fit() -> None:
    index = Index.build(make_vectors(300, 8))
    eye, books = np.eye(8, dtype=np.float32), np.zeros((4, 256, 2), np.float32)
    codes = np.zeros((300, 4), np.uint8)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"rotation": eye[:7]}, r"rotation: expected shape \(dim, d_out\)"),
        ({"rotation": np.eye(9)}, "rotation: the index has 8 dimensions"),
        ({"rotation": eye * 1.1}, "rotation: expected orthonormal columns"),
        ({"rotation": eye * np.nan}, "rotation: row 0 contains NaN"),
        ({"codebooks": books[:, :16]}, r"codebooks: expected shape \(m, 256, dsub\)"),
        ({"codebooks": books[0]}, "codebooks: expected shape"),
        ({"codebooks": np.zeros((9, 256, 1))}, "codebooks: 9 sub-vectors of a dimension 8"),
        ({"codebooks": np.full((4, 256, 2), np.inf)}, "codebooks: row 0 contains infinity"),
        ({"codes": codes[:299]}, r"codes: expected shape \(300, 4\)"),
        ({"codes": codes[:, :3]}, r"codes: expected shape \(300, 4\)"),
        ({"codes": codes, "ids": np.zeros(300, int)}, "ids: expected distinct ids"),
        ({"threads": -1}, "threads: expected 0 to"),
    ]
    before = index_file.content_of(index)
    for options, message in wrong:
        with pytest.raises(ValueError, match=message):
            index.set_codes(**{"codebooks": books, **options})
    for options in ({"codes": codes.astype(int)}, {"rotation": np.eye(8, dtype=int)}):
        with pytest.raises(TypeError):
            index.set_codes(**{"codebooks": books, **options})
    with pytest.raises(Cancelled):
        index.set_codes(codebooks=books, progress=lambda done, total: False)
    with pytest.raises(ValueError, match="no points"):
        Index.build(np.zeros((0, 8), np.float32)).set_codes(codebooks=books)
    assert index_file.content_of(index) == before


def test_a_damaged_file(tmp_path: Path) -> None:
    index = Index.build(make_vectors(300, 8))
    index.set_codes(codebooks=np.zeros((4, 256, 2), np.float32))
    content = bytearray(index_file.content_of(index))
    for name in ("pq_rotation", "pq_codebooks", "pq_codes"):
        data = bytearray(content)
        data[index_file.sections(data)[name].offset + 3] ^= 1
        (tmp_path / "x").write_bytes(data)
        for memory in ("all", "min"):
            with pytest.raises(CorruptIndexError, match=f"section {name}"):
                Index.open(tmp_path / "x", memory=memory)
