# SPDX-License-Identifier: Apache-2.0
"""Rank metrics against ir_measures and naive loops; MIND's against their definitions; tests."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigrain.eval import metrics, mind, significance


def make_run(n: int = 40, documents: int = 60, k: int = 30, grades: int = 4) -> Any:
    rng = np.random.default_rng(0)
    ids = np.stack([rng.permutation(documents)[:k] for _ in range(n)]).astype(np.int64)
    ids[3, 20:] = -1
    ids[4] = -1
    qrels = []
    for row in range(n):
        judged = rng.choice(documents, rng.integers(1, 25), replace=False)
        qrels.append({int(d): int(rng.integers(0, grades)) for d in judged})
        qrels[row][int(judged[0])] = 1
    qrels[5] = {}
    qrels[6] = {1: 0, 2: 0}
    return ids, qrels


def test_metrics_equal_ir_measures() -> None:
    ir = pytest.importorskip("ir_measures")
    ids, qrels = make_run()
    names = {
        "recall@10": ir.R @ 10,
        "recall@100": ir.R @ 100,
        "hit@5": ir.Success @ 5,
        "mrr@10": ir.RR @ 10,
        "map@20": ir.AP @ 20,
        "map": ir.AP,
        "ndcg@10": ir.nDCG @ 10,
        "ndcg@100": ir.nDCG @ 100,
        "ndcg_exp@10": ir.nDCG(gains={1: 1, 2: 3, 3: 7}) @ 10,
    }
    report = metrics.evaluate(ids, qrels, list(names))
    run = [
        ir.ScoredDoc(str(q), f"d{d}", float(-place))
        for q, row in enumerate(ids)
        for place, d in enumerate(row)
        if d >= 0
    ]
    judged = [
        ir.Qrel(str(q), f"d{d}", g) for q, grades in enumerate(qrels) for d, g in grades.items()
    ]
    theirs = {
        (str(m.measure), m.query_id): m.value
        for measure in names.values()  # one at a time: together, two gains of nDCG get mixed up
        for m in ir.iter_calc([measure], judged, run)
    }
    assert report.skipped == 2
    for name, measure in names.items():
        for q, value in enumerate(report.values[name]):
            if q in {5, 6}:
                assert math.isnan(value)
            else:
                assert value == pytest.approx(theirs.get((str(measure), str(q)), 0.0), abs=1e-9)
        kept = [v for q, v in enumerate(report.values[name]) if q not in {5, 6}]
        assert report.means[name] == pytest.approx(np.mean(kept))


def test_ranking_breaks_ties_by_id_and_puts_padding_last() -> None:
    ids = np.array([[7, -1, 3, 5], [9, 1, 2, -1]])
    scores = np.array([[0.5, 9.0, 0.5, 0.7], [0.0, 0.0, 0.0, np.inf]])
    np.testing.assert_array_equal(metrics.rank(ids, scores), [[5, 3, 7, -1], [1, 2, 9, -1]])


def test_auc_is_the_share_of_ordered_pairs() -> None:
    rng = np.random.default_rng(1)
    scores, labels = rng.integers(0, 9, 50), rng.integers(0, 2, 50)
    pairs = itertools.product(scores[labels == 1], scores[labels == 0])
    expected = np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs])
    assert metrics.auc(scores, labels) == pytest.approx(expected, abs=1e-12)
    assert math.isnan(metrics.auc([1, 2], [1, 1]))


def test_bad_rankings_are_named() -> None:
    ids, qrels = make_run()
    with pytest.raises(ValueError, match="row 2 names a document twice"):
        metrics.evaluate(np.where(np.arange(40)[:, None] == 2, 1, ids), qrels)
    for bad in (ids[:3], ids[0], ids.astype(float)):
        with pytest.raises(ValueError, match="one row per judged query"):
            metrics.evaluate(bad, qrels)
    for name in ("ndcg@0", "precision@5", "ndcg@"):
        with pytest.raises(ValueError, match="metrics: expected one of"):
            metrics.evaluate(ids, qrels, [name])
    with pytest.raises(ValueError, match="NaN"):
        metrics.rank([[1]], [[np.nan]])


def naive_mind(scores: Any, labels: Any) -> list[float]:
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    ranked = [labels[i] for i in order]
    pairs = [(s > t) + (s == t) / 2 for s, a in zip(scores, labels, strict=True) if a
             for t, b in zip(scores, labels, strict=True) if not b]  # fmt: skip
    out = [sum(pairs) / len(pairs)]
    out.append(sum(y / r for r, y in enumerate(ranked, 1)) / sum(ranked))
    for k in (5, 10):
        gain = sum((2**y - 1) / math.log2(r + 1) for r, y in enumerate(ranked[:k], 1))
        best = sorted(labels, reverse=True)[:k]
        out.append(gain / sum((2**y - 1) / math.log2(r + 1) for r, y in enumerate(best, 1)))
    return out


def test_mind_metrics_equal_their_definitions() -> None:
    rng = np.random.default_rng(2)
    impressions = []
    for length in rng.integers(1, 30, 200):
        impressions.append((rng.random(length), (rng.random(length) < 0.3).astype(int)))
    kept = [naive_mind(s, y) for s, y in impressions if 0 < y.sum() < len(y)]
    result = mind.evaluate(impressions)
    assert result["impressions"] == len(kept)
    assert result["skipped"] == 200 - len(kept) > 0
    values = [result[name] for name in mind.METRICS]
    np.testing.assert_allclose(values, np.mean(kept, axis=0), atol=1e-9)
    # All positives count, not the first alone.
    assert mind.mrr([3, 2, 1], [1, 0, 1]) == pytest.approx((1 + 1 / 3) / 2)
    with pytest.raises(ValueError, match="skipped all 1"):
        mind.evaluate([([1.0], [1])])


def test_mind_files(tmp_path: Path) -> None:
    (tmp_path / "news.tsv").write_text('N1\tnews\tus\tA "title\tText\turl\t[]\t[]\n')
    (tmp_path / "behaviors.tsv").write_text("1\tU1\tt\tN9 N8\tN1-1 N2-0\n2\tU2\tt\t\tN3 N4\n")
    assert mind.read_news(tmp_path / "news.tsv")[0].title == 'A "title'
    first, second = mind.read_behaviors(tmp_path / "behaviors.tsv")
    assert (first.history, first.candidates, first.labels) == (["N9", "N8"], ["N1", "N2"], [1, 0])
    assert (second.history, second.candidates, second.labels) == ([], ["N3", "N4"], None)
    mind.write_submission(tmp_path / "out", ["1", "2"], [[0.1, 0.9, 0.5], [1.0, 1.0]])
    assert (tmp_path / "out").read_text() == "1 [3,1,2]\n2 [1,2]\n"
    (tmp_path / "bad").write_text("1\tU1\tt\tN9\tN1-1 N2\n")
    with pytest.raises(ValueError, match="bad:1: expected -0 or -1"):
        list(mind.read_behaviors(tmp_path / "bad"))
    (tmp_path / "bad").write_text("1\tU1\n")
    with pytest.raises(ValueError, match="bad:1: expected 5 cells, found 2"):
        list(mind.read_behaviors(tmp_path / "bad"))


def test_permutation_test_equals_all_signs_and_holds_its_level() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.random(10), rng.random(10) + 0.2
    d = b - a
    signs = np.array(list(itertools.product([-1, 1], repeat=10)))
    exact = np.mean(np.abs(signs @ d) >= abs(d.sum()) - 1e-12)
    assert significance.permutation_test(a, b, draws=50_000) == pytest.approx(exact, abs=0.01)
    same = [
        significance.permutation_test(*rng.standard_normal((2, 30)), draws=200, seed=i)
        for i in range(300)
    ]
    assert np.mean(np.array(same) < 0.05) < 0.1
    assert significance.permutation_test(a, a) == 1


def test_comparison_reports_difference_and_interval() -> None:
    rng = np.random.default_rng(4)
    a = rng.random(400)
    b = a + rng.normal(0.1, 0.2, 400)
    a[7] = np.nan
    result = significance.compare(a, b, draws=2000)
    assert result.pairs == 399
    assert result.low < 0.1 < result.high
    assert result.low < result.difference < result.high
    assert result.p == pytest.approx(1 / 2001)
    assert significance.compare(b, a, draws=2000).difference == pytest.approx(-result.difference)
    with pytest.raises(ValueError, match="the test is paired"):
        significance.compare(a, b[:5])
    with pytest.raises(ValueError, match="found none"):
        significance.compare([np.nan], [1.0])
