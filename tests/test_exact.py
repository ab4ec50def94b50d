# SPDX-License-Identifier: Apache-2.0
"""Exact search against double precision, and recall."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import DTYPES, METRICS, assert_same, make_vectors, oracle_distances, oracle_search

import bigrain
from bigrain import SearchResult, exact_search, recall


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dim", [1, 3, 17, 64, 130])
def test_equals_the_oracle(metric: str, dtype: str, dim: int) -> None:
    base, asked = make_vectors(500, dim, dtype), make_vectors(37, dim, dtype, seed=1)
    found = exact_search(base, asked, 12, metric=metric)
    truth = oracle_search(base, asked, 12, metric)
    np.testing.assert_allclose(found.distances, truth.distances, rtol=2e-5, atol=2e-5)
    # Each id must be as near as the oracle's in that place: float32 may swap near-ties.
    own = np.take_along_axis(oracle_distances(base, asked, metric), found.ids, axis=1)
    np.testing.assert_allclose(own, found.distances, rtol=2e-5, atol=2e-5)
    assert all(len(set(row)) == 12 for row in found.ids)
    assert (np.diff(found.distances, axis=1) >= 0).all()


def test_ties_go_to_the_smaller_row() -> None:
    base = np.tile(np.array([[1, 2], [3, 4]], np.float32), (20, 1))
    found = exact_search(base, np.array([1, 2], np.float32), 25)
    np.testing.assert_array_equal(found.ids, [*range(0, 40, 2), *range(1, 10, 2)])


def test_padding_and_shapes() -> None:
    base = make_vectors(3, 4)
    found = exact_search(base, base[0], 5)
    assert found.ids.shape == (5,)
    assert list(found.ids[3:]) == [-1, -1]
    assert np.isposinf(found.distances[3:]).all()
    assert exact_search(base, np.empty((0, 4)), 2).ids.shape == (0, 2)
    none = exact_search(np.empty((0, 4)), base, 2)
    assert (none.ids == -1).all()


def test_threads_do_not_change_the_answer() -> None:
    base, asked = make_vectors(3000, 40), make_vectors(300, 40, seed=1)
    expected = exact_search(base, asked, threads=1)
    for threads in (0, 2, 7, 10_000):
        assert_same(exact_search(base, asked, threads=threads), expected)


def test_bad_arguments() -> None:
    base = make_vectors(10, 4)
    with pytest.raises(ValueError, match="metric"):
        exact_search(base, base, metric="hamming")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="k"):
        exact_search(base, base, 0)
    with pytest.raises(ValueError, match="dimensions"):
        exact_search(base, base[:, :3])
    bad = base.copy()
    bad[2, 1] = np.nan
    with pytest.raises(ValueError, match=r"base: row 2 .*NaN"):
        exact_search(bad, base)
    with pytest.raises(ValueError, match="queries: row 1 has zero length"):
        exact_search(base, base * np.array([[1]] + [[0]] * 9), metric="cosine")


def result(ids: list[list[int]], distances: list[list[float]]) -> SearchResult:
    return SearchResult(np.array(ids, np.int64), np.array(distances, np.float32))


def test_recall_by_id_and_by_distance() -> None:
    truth = result([[0, 1, 2], [3, 4, 5]], [[1, 2, 3], [1, 2, 3]])
    assert recall(truth, truth) == recall(truth, truth, by="id") == 1.0
    tied = result([[0, 1, 9], [3, 4, -1]], [[1, 2, 3], [1, 2, np.inf]])
    assert recall(tied, truth, by="id") == pytest.approx(4 / 6)
    assert recall(tied, truth) == pytest.approx(5 / 6)
    worse = result([[0, 1, 9], [3, 4, 8]], [[1, 2, 3.1], [1, 2, 3.00001]])
    assert recall(worse, truth) == pytest.approx(5 / 6)
    assert recall(worse, truth, tolerance=0.1) == 1.0
    assert recall(result([[0], [4]], [[1], [2]]), truth) == 0.5


def test_recall_of_padded_truth_and_single_rows() -> None:
    truth = result([[0, 1, -1]], [[-5, -2, np.inf]])
    assert recall(result([[0, 1, -1]], [[-5, -2, np.inf]]), truth) == 1.0
    assert recall(result([[1, -1, -1]], [[-2, np.inf, np.inf]]), truth) == 0.5
    assert recall((np.array([0]), np.array([-5.0])), (truth.ids[0], truth.distances[0])) == 1.0
    none = result([[-1, -1]], [[np.inf, np.inf]])
    assert recall(none, none) == 1.0
    # A query without any true neighbour neither helps nor hurts.
    both = result([[0, 1], [-1, -1]], [[1, 2], [np.inf, np.inf]])
    assert recall(both, both) == 1.0


def test_recall_refuses_what_does_not_fit() -> None:
    truth = result([[0, 1]], [[1, 2]])
    with pytest.raises(ValueError, match="truth"):
        recall(result([[0, 1, 2]], [[1, 2, 3]]), truth)
    with pytest.raises(ValueError, match="by"):
        recall(truth, truth, by="rank")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one shape"):
        recall((truth.ids, truth.distances[:, :1]), truth)
    assert bigrain.recall is recall
