# SPDX-License-Identifier: Apache-2.0
"""`slack`: a search that ends by distance instead of by number."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_vectors, oracle_distances
from hypothesis import given, settings
from hypothesis import strategies as st

from bigrain import Index
from bigrain.quant import OPQ

K = 10


def clustered(n: int, dim: int, seed: int = 0) -> Any:
    """Clusters of different spread, so that queries are of different difficulty."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).standard_normal((40, dim)) * 2
    spread = np.linspace(0.2, 2.0, 40)
    which = rng.integers(0, 40, n)
    drawn = centres[which] + spread[which, None] * rng.standard_normal((n, dim))
    return drawn.astype(np.float32)


def recall(found: Any, base: Any, queries: Any, metric: str) -> float:
    distances = oracle_distances(base, queries, metric)
    last = np.sort(distances, axis=1)[:, K - 1]
    limit = last + 1e-5 * np.abs(last) + 1e-6
    return float(np.mean([distances[q, ids] <= limit[q] for q, ids in enumerate(found.ids)]))


BASE, QUERIES = clustered(6000, 24), clustered(200, 24, seed=1)


@pytest.fixture(scope="module", params=["l2", "cosine"])
def index(request: pytest.FixtureRequest) -> Index:
    return Index.build(BASE, metric=request.param, pq_bytes=24, degree=16)


@pytest.fixture(scope="module", params=["memory", "rows", "disk"])
def opened(
    request: pytest.FixtureRequest, index: Index, tmp_path_factory: pytest.TempPathFactory
) -> Index:
    if request.param == "memory":
        return index
    path = tmp_path_factory.mktemp("slack") / "x.bigrain"
    index.save(path)
    if request.param == "disk":
        return Index.open(path, memory="min")
    vectors = BASE.nbytes
    return Index.open(path, memory=int(index.stats()["total_bytes"]) - vectors)


def ask(index: Index, **options: Any) -> Any:
    return index.search(QUERIES, K, stats=True, deterministic=True, **options)


def test_none_and_infinity_and_far_are_no_limit(opened: Index) -> None:
    plain = ask(opened, width=60)
    for slack in (None, math.inf, 1e6):
        found = ask(opened, width=60, slack=slack)
        np.testing.assert_array_equal(found.ids, plain.ids)
        np.testing.assert_array_equal(found.stats.hops, plain.stats.hops)


def test_more_slack_costs_more_and_finds_more(opened: Index) -> None:
    metric = opened.metric
    runs = [ask(opened, width=200, slack=slack) for slack in (0.0, 0.05, 0.2, 0.5)]
    hops = [float(run.stats.hops.mean()) for run in runs]
    recalls = [recall(run, BASE, QUERIES, metric) for run in runs]
    assert hops == sorted(hops)
    assert hops[0] < hops[-1] / 3
    assert all(later >= sooner - 0.002 for sooner, later in itertools.pairwise(recalls))
    assert recalls[-1] > 0.98


def test_pays_where_queries_differ(index: Index) -> None:
    fixed, early = ask(index, width=100), ask(index, width=200, slack=0.2)
    recalls = [recall(run, BASE, QUERIES, index.metric) for run in (fixed, early)]
    assert recalls[1] >= recalls[0]
    assert early.stats.hops.mean() < 0.8 * fixed.stats.hops.mean()


def test_width_still_bounds_a_search(opened: Index) -> None:
    assert ask(opened, width=20, slack=1.0).stats.hops.max() <= 60


def test_threads_and_company_do_not_matter(opened: Index) -> None:
    together = ask(opened, width=100, slack=0.1, threads=2)
    for i in (0, 17):
        alone = opened.search(QUERIES[i], K, width=100, slack=0.1, deterministic=True)
        np.testing.assert_array_equal(alone.ids, together.ids[i])


def test_candidates_for_the_full_vectors_are_kept(index: Index) -> None:
    found = ask(index, width=100, rerank=50, slack=0.0)
    assert found.stats.full_distances.max() > K


def test_fewer_points_than_k_and_copies() -> None:
    few = Index.build(BASE[:5])
    found = few.search(BASE[:3], K, slack=0.0)
    assert (found.ids[:, :5] >= 0).all()
    assert (found.ids[:, 5:] == -1).all()
    copies = Index.build(np.repeat(BASE[:60], 30, axis=0))
    same = copies.search(BASE[:20], K, width=100, slack=0.05)
    np.testing.assert_allclose(same.distances, 0, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.integers(1, 300), st.floats(0, 2), st.integers(0, 2**16))
def test_any_setting_gives_distinct_ids_in_order(k: int, width: int, slack: float, at: int) -> None:
    index = SMALL
    query = make_vectors(1, 8, seed=at)
    found = index.search(query, k, width=width, slack=slack)
    ids = found.ids[0]
    assert len(set(ids[ids >= 0])) == (ids >= 0).sum() == k
    assert (np.diff(found.distances[0]) >= 0).all()


SMALL = Index.build(make_vectors(700, 8))


def test_inner_products_have_no_ratio() -> None:
    index = Index.build(BASE[:500], metric="ip")
    index.search(QUERIES, K, slack=math.inf)
    with pytest.raises(ValueError, match=r"slack: got .* metric ip"):
        index.search(QUERIES, K, slack=0.1)


@pytest.mark.parametrize("bad", [-0.1, math.nan, -math.inf])
def test_numbers_out_of_range(bad: float) -> None:
    with pytest.raises(ValueError, match="slack: expected at least 0"):
        SMALL.search(make_vectors(1, 8), slack=bad)


@pytest.mark.parametrize("bad", ["wide", True, [0.1]])
def test_what_is_no_number(bad: Any) -> None:
    with pytest.raises(TypeError, match="slack: expected a number"):
        SMALL.search(make_vectors(1, 8), slack=bad)


def test_of_many_vectors() -> None:
    users = QUERIES[:20].reshape(10, 2, 24)
    index = Index.build(BASE)
    wide = index.search_multi(users, K, width=100, slack=10.0)
    np.testing.assert_array_equal(wide.ids, index.search_multi(users, K, width=100).ids)


def test_given_codes_under_cosine(tmp_path: Path) -> None:
    index = Index.build(BASE, metric="cosine", pq_bytes=24)
    unit = BASE / np.linalg.norm(BASE, axis=1, keepdims=True)
    fitted = OPQ(24).fit(unit)
    index.set_codes(rotation=fitted.rotation, codebooks=fitted.codebooks)
    index.save(tmp_path / "x")
    opened = Index.open(tmp_path / "x", memory="min")
    plain, early = ask(opened, width=100), ask(opened, width=100, slack=0.1)
    assert recall(early, BASE, QUERIES, "cosine") > 0.9
    assert early.stats.reads.mean() < 0.9 * plain.stats.reads.mean()
