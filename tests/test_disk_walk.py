# SPDX-License-Identifier: Apache-2.0
"""An index whose rows, too, are on disk: PQ codes find the way, records read on it decide."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_vectors, oracle_distances

from bigrain import CorruptIndexError, Index

MODE = "rows and vectors on disk"
K = 10


def make(path: Path, dtype: str = "float32", dim: int = 32, n: int = 3000, **options: Any) -> Any:
    """Save an index made for disk; return (its path, base, queries)."""
    base = make_vectors(n, dim, dtype)
    options = {"pq_bytes": dim // 2, **options}
    Index.build(base, **options).save(path)
    asked = "float32" if dtype == "float16" else dtype
    return path, base, make_vectors(100, dim, asked, seed=5)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make(tmp_path_factory.mktemp("walk") / "x.bigrain")


def recall(found: Any, base: Any, queries: Any, metric: str) -> float:
    distances = oracle_distances(base, queries, metric)
    last = np.sort(distances, axis=1)[:, K - 1]
    limit = last + 1e-5 * np.abs(last) + 1e-6
    hits = [distances[q, ids] <= limit[q] for q, ids in enumerate(found.ids)]
    return float(np.mean(hits))


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8"])
def test_recall(tmp_path: Path, metric: Any, dtype: str) -> None:
    path, base, queries = make(tmp_path / "x", dtype, metric=metric, n=1500)
    index = Index.open(path, memory="min")
    assert index.plan().residency.mode == MODE
    found = index.search(queries, K, width=150, stats=True)
    assert recall(found, base, queries, metric) > 0.95
    whole = oracle_distances(base, queries, metric)
    rows = np.arange(len(queries))[:, None]
    np.testing.assert_allclose(found.distances, whole[rows, found.ids], rtol=1e-3, atol=1e-2)
    assert (found.stats.rounds <= found.stats.reads).all()


def test_external_ids(tmp_path: Path) -> None:
    ids = np.random.default_rng(1).permutation(3000) * 7 + 10**12
    path, base, _ = make(tmp_path / "x", ids=ids)
    found = Index.open(path, memory="min").search(base[:50], 1, width=50)
    np.testing.assert_array_equal(found.ids[:, 0], ids[:50])


def test_the_same_file_in_memory(saved: Any) -> None:
    path, base, queries = saved
    index = Index.open(path)
    assert index.validate().ok
    again = pickle.loads(pickle.dumps(index))
    np.testing.assert_array_equal(index.search(queries).ids, again.search(queries).ids)
    assert recall(index.search(queries, K, width=100), base, queries, "l2") > 0.95


@pytest.mark.parametrize("rows", [1, 7, 100])
def test_answers_do_not_depend_on_the_device(saved: Any, rows: int) -> None:
    path, _, queries = saved
    asked = {"width": 40, "deterministic": True, "stats": True}
    expected = Index.open(path, memory="min", io="pread").search(queries[:rows], K, **asked)
    for io in ("auto", "simulated:reorder=1,seed=1", "simulated:reorder=1,seed=2,short_rate=0.2"):
        found = Index.open(path, memory="min", io=io).search(queries[:rows], K, threads=1, **asked)
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_array_equal(found.distances, expected.distances)
        np.testing.assert_array_equal(found.stats.reads, expected.stats.reads)


def test_memory_buys_reads(saved: Any) -> None:
    path, _, queries = saved
    least = Index.open(path, memory="min")
    most = least.plan().residency.bytes
    assert least.plan().residency.hot_rows == 0
    reads = [least.search(queries, K, width=40, stats=True).stats.reads.mean()]
    for more in (10_000, 40_000):
        index = Index.open(path, memory=most + more)
        where = index.plan().residency
        assert where.mode == MODE
        assert where.bytes <= most + more
        assert where.hot_rows > 0
        assert index.plan().total_bytes <= most + more + 4096
        stats = index.search(queries, K, width=40, stats=True).stats
        assert stats.cache_hits.sum() > 0
        reads.append(stats.reads.mean())
    assert reads[2] < reads[1] < reads[0]
    with pytest.raises(ValueError, match="for the PQ codes of this index"):
        Index.open(path, memory=most - 1)


def test_more_asked_than_there_is(tmp_path: Path) -> None:
    path, base, _ = make(tmp_path / "x", n=300, dim=8)
    found = Index.open(path, memory="min").search(base[0], 400)
    assert (found.ids >= 0).sum() == 300
    assert np.isinf(found.distances[300:]).all()


def test_too_few_for_codes(tmp_path: Path) -> None:
    path, base, _ = make(tmp_path / "x", n=255)
    index = Index.open(path, memory="min")
    assert index.plan().residency.mode == "vectors on disk"
    assert index.search(base[3], 1).ids[0] == 3


def test_faults(saved: Any, tmp_path: Path) -> None:
    path, _, queries = saved
    with pytest.raises(OSError, match="Input/output error"):
        Index.open(path, memory="min", io="simulated:error_rate=0.5").search(queries)
    damaged = tmp_path / "damaged"
    content = bytearray(path.read_bytes())
    index = Index.open(path, memory="min")
    for page in range(4096, 4096 + 3000 // 15 * 4096, 4096):  # of the records, which come first
        content[page + 77] ^= 1
    damaged.write_bytes(content)
    broken = Index.open(damaged, memory="min", verify="header")
    with pytest.raises(CorruptIndexError, match="checksum"):
        broken.search(queries)
    assert index.search(queries).ids.shape == (100, K)


def test_pq_bytes_out_of_range() -> None:
    for value in (-1, 9):
        with pytest.raises(ValueError, match="pq_bytes"):
            Index.build(make_vectors(300, 8), pq_bytes=value)


def test_pq_bytes_auto(tmp_path: Path) -> None:
    for dim, expected in ((1, 1), (9, 5), (200, 64)):
        path, _, _ = make(tmp_path / "x", n=4096, dim=dim, pq_bytes="auto")
        assert Index.open(path, memory="min").plan().bytes["pq_codes"] == 4096 * expected
    path, _, _ = make(tmp_path / "x", n=4095, dim=8, pq_bytes="auto")
    assert Index.open(path).plan().bytes["pq_codebooks"] == 0
