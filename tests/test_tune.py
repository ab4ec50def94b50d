# SPDX-License-Identifier: Apache-2.0
"""`tune` and `search(recall=...)`: the curve, its promise on unseen queries, points left out."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import METRICS, assert_same, make_vectors
from hypothesis import given
from hypothesis import strategies as st

import bigrain
from bigrain import CurvePoint, Index, _curve, _sample, _tune

# Measured settings: width, rerank, slack, recall, cost.
SETTINGS = st.lists(
    st.tuples(
        st.integers(1, 2**20),
        st.integers(10, 2**20),
        st.floats(0.015625, 1, width=32) | st.just(math.inf),
        st.floats(0, 1, width=32),
        st.floats(0, 1e9),
    ),
    min_size=1,
    max_size=30,
    unique_by=lambda setting: setting[:3],
)


def glove() -> npt.NDArray[Any]:
    sample = Path(bigrain.__file__).parent / "data" / "glove-sample.npy"
    return np.load(sample).astype(np.float32)


@pytest.fixture(scope="module")
def words() -> tuple[Index, npt.NDArray[Any]]:
    """An index of 12,000 words with codes of 40 dimensions, and 2,000 words that it lacks."""
    vectors = glove()[np.random.default_rng(3).permutation(25_000)[:14_000]]
    return Index.build(vectors[:12_000], metric="cosine", code_dim=40), vectors[12_000:]


@given(SETTINGS)
def test_front_keeps_what_nothing_cheaper_reaches(settings: list[Any]) -> None:
    rows = [(10, width, rerank, recall, slack) for width, rerank, slack, recall, _ in settings]
    costs = [cost for *_, cost in settings]
    kept = _curve.front(rows, costs)
    recalls = [row[3] for row in kept]
    assert recalls == sorted(set(recalls))
    for row, cost in zip(rows, costs, strict=True):
        cheap = [r for r in kept if costs[rows.index(r)] <= cost]
        assert max(r[3] for r in cheap) >= row[3]


@given(SETTINGS, st.floats(0.001, 1))
def test_setting_for_stays_between_its_neighbours(settings: list[Any], wanted: float) -> None:
    rows = [(10, width, rerank, recall, slack) for width, rerank, slack, recall, _ in settings]
    curve = sorted(_curve.front(rows, [cost for *_, cost in settings]))
    best = max(row[3] for row in curve)
    if np.float32(wanted) > best:
        with pytest.raises(ValueError, match="curve ends"):
            _curve.setting_for(curve, 10, wanted)
        return
    width, rerank, slack = _curve.setting_for(curve, 10, wanted)
    enough = [row for row in curve if row[3] >= np.float32(wanted)]
    above = min(enough, key=lambda row: row[3])
    assert width <= above[1] or rerank <= above[2] or slack <= above[4]
    assert slack >= 0.01
    assert 1 <= width <= 2**20
    assert 10 <= rerank <= 2**20
    if wanted == above[3]:
        assert (width, rerank, slack) == (*above[1:3], above[4])


def test_curves_of_files_without_reranks_work() -> None:
    inf = math.inf
    rows = [(10, 20, 0, 0.9, inf), (10, 40, 0, 0.96, inf), (10, 90, 0, 0.99, inf)]
    assert _curve.setting_for(rows, 10, 0.96) == (40, 0, inf)
    assert _curve.setting_for(rows, 5, 0.5) == (20, 0, inf)
    width, rerank, slack = _curve.setting_for(rows, 10, 0.93)
    assert 20 < width < 40
    assert rerank == 0
    assert slack == inf
    mixed = [(10, 20, 0, 0.9, inf), (10, 40, 12, 0.96, inf)]
    assert _curve.setting_for(mixed, 10, 0.93) == (40, 12, inf)
    early = [(10, 20, 12, 0.9, 0.02), (10, 40, 12, 0.96, 0.08)]
    assert _curve.setting_for(early, 10, 0.93) == (29, 12, pytest.approx(0.04))


def test_walk_follows_the_cheaper_of_two_ways() -> None:
    """A made-up law in which candidates are the limit: the walk must not widen instead."""

    def measure(setting: _curve.Setting) -> _tune.Measure:
        width, rerank, _ = setting
        recall = (1 - 1 / (1 + width)) * (1 - 4 / (4 + rerank))
        return _tune.Measure(recall, 0.001, 30.0 * width + rerank)

    measured = _tune.walk(measure, 10, 100_000, 0.95, math.inf)
    assert len(measured) <= 80
    rows = [(10, w, c, m.promised, slack) for (w, c, slack), m in measured.items()]
    kept = _curve.front(rows, [m.cost for m in measured.values()])
    _, width, rerank, _, _ = next(row for row in kept if row[3] >= 0.95)
    cheapest = min(
        30.0 * w + c
        for w in range(1, 400)
        for c in range(10, 2000)
        if measure((w, c, math.inf)).promised >= 0.95
    )
    assert 30.0 * width + rerank <= 1.1 * cheapest


def test_walk_ends_on_a_plateau() -> None:
    def measure(setting: _curve.Setting) -> _tune.Measure:
        return _tune.Measure(0.5, 0.0, float(sum(setting[:2])) * (1 + setting[2]))

    assert len(_tune.walk(measure, 10, 10**6, 0.9, 0.01)) < 100


def test_walk_finds_what_distance_saves() -> None:
    """A made-up law of easy and hard queries, in which slack finds as much for a third less."""

    def measure(setting: _curve.Setting) -> _tune.Measure:
        width, rerank, slack = setting
        spent = [min(width, 2000 * min(slack, 1.0) * hard) for hard in (0.32, 1.0, 3.2)]
        missed = [hard / (hard + some) for hard, some in zip((0.2, 2, 20), spent, strict=True)]
        recall = (1 - float(np.mean(missed))) * (1 - 0.2 / rerank)
        return _tune.Measure(recall, 0.0, 30.0 * float(np.mean(spent)) + rerank)

    def cheapest(slack: float) -> float:
        measured = _tune.walk(measure, 10, 100_000, 0.95, slack)
        assert len(measured) < 200
        return min(m.cost for m in measured.values() if m.promised >= 0.95)

    assert cheapest(0.01) < 0.8 * cheapest(math.inf)


@pytest.mark.parametrize("k", [1, 10, 50])
def test_promises_hold_on_unseen_queries(words: Any, k: int) -> None:
    index, asked = words
    index = pickle.loads(pickle.dumps(index))
    seen, unseen = asked[:1000], asked[1000:]
    truth = bigrain.exact_search(index._core.vectors(), unseen, k, metric="cosine")
    index.tune(seen, k=k, recall=0.99)
    for wanted in (0.9, 0.95, 0.99):
        assert bigrain.recall(index.search(unseen, k, recall=wanted), truth) >= wanted - 0.01


@pytest.mark.parametrize("k", [10, 50])
def test_points_left_out_stand_for_unseen_queries(words: Any, k: int) -> None:
    index, asked = words
    index = pickle.loads(pickle.dumps(index))
    graph = index._core.graph().copy()
    report = index.tune(k=k, recall=0.99)
    np.testing.assert_array_equal(index._core.graph(), graph)  # put back
    assert report.queries == 1000
    truth = bigrain.exact_search(index._core.vectors(), asked, k, metric="cosine")
    for wanted in (0.9, 0.95, 0.99):
        found = bigrain.recall(index.search(asked, k, recall=wanted), truth)
        assert wanted - 0.015 <= found <= wanted + 0.03


def test_short_codes_are_given_candidates(words: Any, tmp_path: Path) -> None:
    index, asked = words
    index = pickle.loads(pickle.dumps(index))
    report = index.tune(asked[:500], recall=0.95)
    assert report.reached
    assert report.rerank > 18  # the default for k = 10, which full codes need no more than
    assert CurvePoint(report.width, report.rerank, report.recall, report.slack) in report.curve
    assert report == index.tune(asked[:500], recall=0.95, threads=2)
    by_recall = index.search(asked, recall=0.95)
    index.save(tmp_path / "x")
    assert Index.describe(tmp_path / "x")["format"] == "1.4"
    for copy in (Index.open(tmp_path / "x"), pickle.loads(pickle.dumps(index))):
        assert copy._core.tuning() == index._core.tuning()
        assert_same(copy.search(asked, recall=0.95), by_recall)
        assert copy.search(asked, 3, recall=0.95).ids.shape == (2000, 3)
    costs = index.search(asked, recall=0.95, rerank=11, stats=True).stats  # a given one wins
    assert (costs.full_distances <= 11).all()


@pytest.mark.parametrize("metric", METRICS)
def test_left_out_points_are_not_found(metric: str) -> None:
    base = make_vectors(2000, 12)
    index = Index.build(base, np.arange(2000)[::-1] + 5, metric=metric)
    core = index._core
    assert core is not None
    folds = _sample.left_out_queries(core, 10, 450, 0, 0, None)
    assert [len(fold.queries) for fold in folds] == [150, 150, 150]
    for fold in folds:
        assert fold.patch is not None
        rows = np.flatnonzero((base[:, None] == fold.queries[None]).all(axis=2).any(axis=1))
        own = index.ids[rows]
        with _sample.patched(core, fold.patch):
            found = index.search(fold.queries, 10, width=200)
        assert not np.isin(found.ids, own).any()
        assert not np.isin(fold.truth.ids, own).any()
        others = np.setdiff1d(np.arange(2000), rows)
        truth = bigrain.exact_search(base[others], fold.queries, 10, metric=metric)
        np.testing.assert_array_equal(fold.truth.ids, index.ids[others][truth.ids])


def test_a_failing_search_puts_the_graph_back(index: Index) -> None:
    core = pickle.loads(pickle.dumps(index))._core
    graph = core.graph().copy()
    folds = _sample.left_out_queries(core, 10, 100, 0, 0, None)

    def fail() -> None:
        with _sample.patched(core, folds[0].patch):
            assert (core.graph() != graph).any()
            raise bigrain.Cancelled

    with pytest.raises(bigrain.Cancelled):
        fail()
    np.testing.assert_array_equal(core.graph(), graph)
    core.set_rows(folds[0].patch.points, folds[0].patch.changed)
    _sample.put_back(core, folds)
    np.testing.assert_array_equal(core.graph(), graph)


def test_set_rows_checks_its_arguments(index: Index) -> None:
    own = pickle.loads(pickle.dumps(index))._core
    degree = own.graph().shape[1]
    row = np.zeros((1, degree), np.uint32)
    with pytest.raises(ValueError, match="points"):
        own.set_rows(np.array([3000], np.uint32), row)
    with pytest.raises(ValueError, match="rows"):
        own.set_rows(np.array([1, 2], np.uint32), row)
    with pytest.raises(ValueError, match="rows"):
        own.set_rows(np.array([1], np.int64), row)


def test_plan_says_what_is_where_and_why(words: Any) -> None:
    index = pickle.loads(pickle.dumps(words[0]))
    plan = index.plan()
    assert (plan.n, plan.dim, plan.code_dim, plan.code_bytes) == (12_000, 100, 40, 64)
    assert plan.bytes["codes"] == 12_000 * 64
    assert plan.total_bytes == sum(plan.bytes.values())
    assert plan.bytes_per_vector == plan.total_bytes / 12_000
    assert plan.trials == ()  # code_dim was given
    assert plan.tuned == ()
    assert "not yet" in str(plan)
    report = index.tune(recall=0.9, sample=200)
    (curve,) = index.plan().tuned
    assert (curve.k, curve.settings) == (10, len(report.curve))
    assert curve.most == np.float32(report.curve[-1].recall)
    assert f"k=10: {curve.settings} settings" in str(index.plan())
    assert pickle.loads(pickle.dumps(index)).plan() == index.plan()


def test_plan_shows_the_trials_of_code_lengths() -> None:
    rng = np.random.default_rng(0)
    base = rng.standard_normal((4500, 16)) @ rng.standard_normal((16, 128))
    plan = Index.build(base.astype(np.float32)).plan()
    assert plan.code_dim < 128
    assert plan.code_dim in [trial.code_dim for trial in plan.trials]
    (taken,) = (line for line in str(plan).splitlines() if "<- taken" in line)
    assert taken.split()[0] == str(plan.code_dim)
    empty = Index.build(np.empty((0, 8), np.float32)).plan()
    assert empty.bytes_per_vector == 0
    assert "0 x 8" in str(empty)
