# SPDX-License-Identifier: Apache-2.0
"""The index from the outside: results, shapes, containers, files, tuning."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import DTYPES, METRICS, assert_same, make_vectors, oracle_search

import bigrain
from bigrain import Index

# Below what was measured (0.97 and more on these sets), above what a broken graph gives.
LEAST_RECALL = 0.95


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("metric", METRICS)
def test_search_finds_the_neighbours(metric: str, dtype: str) -> None:
    base, asked = make_vectors(2000, 32, dtype), make_vectors(100, 32, dtype, seed=1)
    index = Index.build(base, metric=metric)
    found = index.search(asked, 10, width=128)
    assert found.ids.shape == found.distances.shape == (100, 10)
    assert found.ids.dtype == np.int64
    assert found.distances.dtype == np.float32
    assert (np.diff(found.distances, axis=1) >= 0).all()
    assert bigrain.recall(found, oracle_search(base, asked, 10, metric)) >= LEAST_RECALL
    assert index.validate().ok


def test_distances_are_those_of_the_full_vectors(index: Index, vectors: Any, queries: Any) -> None:
    found = index.search(queries, 5)
    expected = ((queries[:, None, :] - vectors[found.ids]) ** 2).sum(axis=2)
    np.testing.assert_allclose(found.distances, expected, rtol=1e-5)


def test_one_query_gives_one_row(index: Index, queries: Any) -> None:
    single = index.search(queries[3], 7)
    assert single.ids.shape == single.distances.shape == (7,)
    batch = index.search(queries, 7)
    np.testing.assert_array_equal(single.ids, batch.ids[3])
    np.testing.assert_array_equal(single.distances, batch.distances[3])
    ids, distances = single
    assert ids is single.ids
    D, I = single.to_faiss()  # noqa: E741
    assert D is distances
    assert I is ids


def test_no_query_gives_no_row(index: Index) -> None:
    found = index.search(np.empty((0, index.dim), np.float32), 4)
    assert found.ids.shape == found.distances.shape == (0, 4)


def test_fewer_than_k_are_padded() -> None:
    base = make_vectors(3, 8)
    found = Index.build(base).search(base[:2], 5)
    assert (found.ids[:, :3] >= 0).all()
    assert (found.ids[:, 3:] == -1).all()
    assert np.isposinf(found.distances[:, 3:]).all()


@pytest.mark.parametrize("metric", METRICS)
def test_empty_and_tiny_indexes(metric: str, tmp_path: Path) -> None:
    for n in (0, 1, 2):
        base = make_vectors(n, 5)
        index = Index.build(base, metric=metric)
        assert len(index) == n
        assert index.validate().ok
        path = tmp_path / f"{metric}-{n}"
        index.save(path)
        found = Index.open(path).search(np.ones(5, np.float32), 3)
        assert sorted(found.ids) == [-1] * (3 - n) + list(range(n))
        assert Index.open(path).stats()["n"] == n


def test_external_ids_name_the_results(vectors: Any, queries: Any, index: Index) -> None:
    ids = np.random.default_rng(5).permutation(10**12 + np.arange(len(vectors)))
    named = Index.build(vectors, ids)
    np.testing.assert_array_equal(named.ids, ids)
    assert not named.ids.flags.writeable
    found, plain = named.search(queries), index.search(queries)
    np.testing.assert_array_equal(found.ids, ids[plain.ids])
    np.testing.assert_array_equal(found.distances, plain.distances)
    np.testing.assert_array_equal(index.ids, np.arange(len(vectors)))


def test_membership(index: Index) -> None:
    named = Index.build(make_vectors(4, 3), [7, 2**63 - 1, 0, 9])
    assert 7 in named
    assert np.int64(2**63 - 1) in named
    assert 0 in named
    for absent in (1, -1, 2**63, 2**70, "7", 7.0, None, True):
        assert absent not in named
    assert 0 in index
    assert len(index) - 1 in index
    assert len(index) not in index
    assert -1 not in index


def test_properties_and_repr(index: Index) -> None:
    assert (index.metric, index.dim, index.dtype, len(index)) == ("l2", 24, "float32", 3000)
    assert repr(index) == "<bigrain.Index of 3,000 float32 vectors, dim 24, metric 'l2', degree 32>"
    with pytest.raises(AttributeError):
        index.metric = "ip"  # type: ignore[misc]
    with pytest.raises(TypeError, match=r"Index\.build"):
        Index()


def test_stats_add_up(index: Index) -> None:
    stats = index.stats()
    report = index.validate()
    assert report.ok
    assert report.points == stats["n"] == 3000
    assert report.edges == stats["edges"]
    assert report.unreachable == report.empty_rows == 0
    assert report.max_degree <= stats["degree"] == 32
    assert stats["mean_degree"] == pytest.approx(stats["edges"] / 3000)
    assert stats["bytes"]["vectors"] == 3000 * 24 * 4
    assert stats["bytes"]["graph"] == 3000 * 32 * 4
    assert stats["total_bytes"] == sum(stats["bytes"].values())
    assert stats["isa"] in bigrain._core.available_isas()


def test_closed_index_says_so(vectors: Any, tmp_path: Path) -> None:
    with Index.build(vectors[:50]) as index:
        held = index.ids
        assert index.search(vectors[0], 1).ids[0] == 0
    index.close()
    assert repr(index) == "<bigrain.Index, closed>"
    assert held[3] == 3
    calls = [
        lambda: index.search(vectors[0]),
        lambda: index.save(tmp_path / "x"),
        lambda: index.tune(),
        lambda: index.stats(),
        lambda: index.validate(),
        lambda: len(index),
        lambda: 3 in index,
        lambda: index.ids,
        lambda: index.__enter__(),
        lambda: index.__reduce__(),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="closed"):
            call()
    assert not (tmp_path / "x").exists()


def test_wider_search_costs_more_and_finds_more(index: Index, vectors: Any, queries: Any) -> None:
    truth = bigrain.exact_search(vectors, queries)
    narrow = index.search(queries, width=10, stats=True)
    wide = index.search(queries, width=200, stats=True)
    assert narrow.stats.hops.shape == (len(queries),)
    assert all(costs.dtype == np.uint32 for costs in narrow.stats)
    # Candidates ranked by their vectors need not be more: a wide walk has better ones.
    assert narrow.stats.hops.sum() < wide.stats.hops.sum()
    assert narrow.stats.code_distances.sum() < wide.stats.code_distances.sum()
    assert bigrain.recall(narrow, truth) < bigrain.recall(wide, truth)
    ids, _ = wide
    assert ids is wide.ids
    assert index.search(queries[0], stats=True).stats.hops.shape == (1,)
    assert_same(wide, index.search(queries, width=200))


def test_rerank_decides_with_full_vectors(index: Index, queries: Any) -> None:
    few, many = (
        index.search(queries, 10, width=64, rerank=n, stats=True).stats.full_distances
        for n in (11, 50)
    )
    assert (few <= 11).all()
    # Ranking stops where codes rule the next candidate out.
    assert (many >= few).all()
    assert (many < 50).all()
    inner = Index.build(make_vectors(3000, 24), metric="ip")  # which says nothing of the next
    cost = inner.search(queries, 10, width=64, rerank=50, stats=True).stats.full_distances
    assert (cost == 50).all()


def test_out_is_written_and_returned(index: Index, queries: Any) -> None:
    out = np.empty((len(queries), 6), np.int64), np.empty((len(queries), 6), np.float32)
    found = index.search(queries, 6, out=out)
    assert found.ids is out[0]
    assert found.distances is out[1]
    assert_same(found, index.search(queries, 6))
    row = np.empty(6, np.int64), np.empty(6, np.float32)
    np.testing.assert_array_equal(index.search(queries[0], 6, out=row).ids, found.ids[0])


def test_saved_and_opened_index_answers_identically(
    index: Index, queries: Any, tmp_path: Path
) -> None:
    path = tmp_path / "an index é.bgr"
    size = index.save(path)
    assert size == path.stat().st_size
    expected = index.search(queries, stats=True)
    for given in (path, str(path), os.fsencode(path)):
        opened = Index.open(given)
        found = opened.search(queries, stats=True)
        assert_same(found, expected)
        for a, b in zip(found.stats, expected.stats, strict=True):
            np.testing.assert_array_equal(a, b)
    for verify in ("full", "header", "off"):
        assert_same(Index.open(path, verify=verify).search(queries), expected)
    assert Index.describe(path)["points"] == 3000


def test_saving_over_the_open_file(index: Index, queries: Any, tmp_path: Path) -> None:
    path = tmp_path / "a"
    index.save(path)
    opened = Index.open(path)
    opened.save(path)
    assert_same(Index.open(path).search(queries), opened.search(queries))
    assert os.listdir(tmp_path) == ["a"]


def test_os_errors_carry_number_and_path(index: Index, tmp_path: Path) -> None:
    missing = tmp_path / "no" / "such"
    with pytest.raises(FileNotFoundError) as caught:
        Index.open(missing)
    assert caught.value.filename == str(missing)
    assert caught.value.errno == 2
    with pytest.raises(FileNotFoundError):
        index.save(missing)
    with pytest.raises(OSError, match="directory") as caught_directory:
        index.save(tmp_path)
    assert caught_directory.value.filename == str(tmp_path)
    for bad in ("nul\0", b"nul\0"):
        with pytest.raises(ValueError, match="NUL"):
            Index.open(bad)
    with pytest.raises(TypeError):
        Index.open(3)  # type: ignore[arg-type]


def test_damaged_file_raises_the_documented_error(index: Index, tmp_path: Path) -> None:
    path = tmp_path / "a"
    index.save(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(bigrain.CorruptIndexError):
        Index.open(path)
    assert issubclass(bigrain.CorruptIndexError, ValueError)
    path.write_bytes(b"\x93NUMPY" + bytes(5000))
    with pytest.raises(bigrain.CorruptIndexError, match=r"(?i)npy|numpy"):
        Index.open(path)
    with pytest.raises(bigrain.CorruptIndexError):
        Index.describe(path)


@pytest.mark.parametrize("metric", METRICS)
def test_tune_finds_the_width_and_search_uses_it(metric: str, tmp_path: Path) -> None:
    base, asked = make_vectors(4000, 24), make_vectors(500, 24, seed=1)
    index = Index.build(base, ids=np.arange(4000)[::-1] + 10, metric=metric)
    with pytest.raises(ValueError, match="tune"):
        index.search(asked, recall=0.9)
    report = index.tune(asked[:250], recall=0.9)
    assert report.reached
    assert report.recall >= 0.9
    assert report.queries == 250
    assert list(report.curve) == sorted(report.curve, key=lambda point: point.recall)
    assert (report.width, report.rerank, report.recall, report.slack) in report.curve
    path = tmp_path / "tuned"
    index.save(path)
    opened = Index.open(path)
    truth = bigrain.exact_search(base, asked[250:], metric=metric)
    truth = truth._replace(ids=index.ids[truth.ids])
    found = opened.search(asked[250:], recall=0.9)
    # Both halves are samples of 250 queries: 3.5 points are 3 standard errors of their difference.
    assert abs(bigrain.recall(found, truth) - report.recall) <= 0.035
    assert_same(found, index.search(asked[250:], recall=0.9))
    assert opened.search(asked, 5, recall=0.8).ids.shape == (500, 5)
    with pytest.raises(ValueError, match="smaller k"):
        opened.search(asked, 20, recall=0.8)
    opened.tune(asked[:100], k=20, recall=0.8)
    assert opened.search(asked, 20, recall=0.8).ids.shape == (500, 20)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("metric", METRICS)
def test_tune_without_queries_holds_for_unseen_ones(metric: str, dtype: str) -> None:
    vectors = make_vectors(3000, 16, dtype)
    base, asked = vectors[:2500], vectors[2500:]
    index = Index.build(base, metric=metric)
    report = index.tune(recall=0.95, sample=500)
    assert report.reached
    assert report.queries == 500
    truth = bigrain.exact_search(base, asked, metric=metric)
    assert bigrain.recall(index.search(asked, recall=0.95), truth) >= 0.92
    assert report == index.tune(recall=0.95, sample=500)


def test_tune_without_queries_on_awkward_sets() -> None:
    repeated = np.repeat(make_vectors(100, 8), 12, axis=0)
    for base in (repeated, np.ones((50, 3)), np.eye(20), np.eye(20, dtype=np.uint8), [[1.0]]):
        for metric in METRICS:
            index = Index.build(base, metric=metric)
            report = index.tune(recall=0.5, sample=5000, k=5)
            assert report.queries == max(1, len(base) - 1)  # all but where searches start
            assert index.search(base[0], 5, recall=0.5).ids[0] >= 0


def test_tuned_recall_out_of_reach_is_said() -> None:
    index = Index.build(make_vectors(500, 8))
    report = index.tune(recall=0.5, sample=100)
    best = report.curve[-1].recall
    if best < 1.0:
        with pytest.raises(ValueError, match="curve ends"):
            index.search(np.zeros(8), recall=1.0)
    with pytest.raises(ValueError, match="not both"):
        index.search(np.zeros(8), recall=0.5, width=20)
    with pytest.raises(ValueError, match="query"):
        Index.build(np.empty((0, 8))).tune()


def test_scores_rank_the_other_way() -> None:
    distances = np.array([[-2.0, 0.5, np.inf]], np.float32)
    base = make_vectors(10, 4)
    ip = Index.build(base, metric="ip").scores(distances)
    np.testing.assert_array_equal(ip, [[2.0, -0.5, -np.inf]])
    cosine = Index.build(base, metric="cosine").scores(np.array([0.0, 2.0, np.inf]))
    np.testing.assert_array_equal(cosine, [1.0, -1.0, -np.inf])
    l2 = Index.build(base).scores(np.array([0.0, 1.0, np.inf], np.float32))
    np.testing.assert_array_equal(l2, [1.0, 0.5, 0.0])
    assert ip.dtype == cosine.dtype == l2.dtype == np.float32
