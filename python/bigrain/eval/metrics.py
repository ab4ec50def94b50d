# SPDX-License-Identifier: Apache-2.0
"""Rank metrics against judgements: recall, hit, MRR, nDCG, MAP, AUC; numpy only.

A ranking is a row of document ids, best first, -1 for padding; judgements are one mapping per query
from id to grade, relevant above 0 (`collections.Judgements`). Each metric returns one value per
query; a query without a relevant document has NaN, and `evaluate` counts it as skipped instead of
averaging it, where trec_eval drops it without a word. Definitions are trec_eval's except where
said; MIND's differ and are in `bigrain.eval.mind`.

Ties: `rank` puts equal scores in ascending order of id. trec_eval takes the greater document name
first, so on ties the two may differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bigrain.eval.collections import Judgements

Ids = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


def rank(ids: Any, scores: Any) -> Ids:
    """Return each row's ids by descending score, equal scores by ascending id, padding last.

    Args:
        ids: (n, k) int64, -1 pads.
        scores: (n, k), larger is better; of an index pass minus its distances.

    Raises:
        ValueError: shapes that differ, NaN among the scores.
    """
    ids, scores = np.asarray(ids, np.int64), np.asarray(scores, np.float64)
    if ids.ndim != 2 or ids.shape != scores.shape:
        raise ValueError(f"scores: expected the shape of ids, {ids.shape}, found {scores.shape}")
    if np.isnan(scores[ids >= 0]).any():
        raise ValueError("scores: expected numbers, found NaN")
    worst = np.where(ids < 0, np.inf, -scores)
    return np.take_along_axis(ids, np.lexsort((ids, worst, ids < 0), axis=1), axis=1)


@dataclass(frozen=True)
class Judged:
    """Rankings set beside judgements: what every metric is made of.

    Attributes:
        gains: (n, k) grade of each ranked document, 0 where it is not judged or negative.
        ideal: n arrays, the positive grades of each query's judgements, largest first.
    """

    gains: Values
    ideal: list[Values]

    @classmethod
    def of(cls, ids: Any, qrels: Judgements) -> Judged:
        """Look up grades.

        Raises:
            ValueError: not one row of ids per query, or an id twice in a row.
        """
        ids = np.asarray(ids)
        if ids.ndim != 2 or len(ids) != len(qrels) or ids.dtype.kind not in "iu":
            raise ValueError(
                f"ids: expected integers of shape ({len(qrels)}, k), one row per judged query, "
                f"found {ids.dtype} of shape {ids.shape}"
            )
        ordered = np.sort(ids, axis=1)
        twice = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1)
        if twice.any():
            raise ValueError(f"ids: row {int(twice.argmax())} names a document twice")
        gains = np.zeros(ids.shape)
        for row, (found, grades) in enumerate(zip(ids.tolist(), qrels, strict=True)):
            gains[row] = [max(grades.get(id_, 0), 0) for id_ in found]
        ideal = [np.sort([g for g in grades.values() if g > 0])[::-1] for grades in qrels]
        return cls(gains, ideal)

    @property
    def relevant(self) -> Values:
        """(n,) number of relevant documents, NaN for none."""
        count = np.array([len(grades) for grades in self.ideal], np.float64)
        return np.where(count > 0, count, np.nan)

    def at(self, k: int) -> Values:
        """(n, k) gains of the first k, zeros where fewer were ranked."""
        if k < 1:
            raise ValueError(f"k: expected 1 or more, found {k}")
        gains = self.gains[:, :k]
        return np.pad(gains, ((0, 0), (0, k - gains.shape[1])))


def recall(judged: Judged, k: int) -> Values:
    """Share of a query's relevant documents that are among the first k."""
    value: Values = (judged.at(k) > 0).sum(axis=1) / judged.relevant
    return value


def hit(judged: Judged, k: int) -> Values:
    """1 where a relevant document is among the first k: the `top-k accuracy` of open QA."""
    return np.where(judged.relevant > 0, (judged.at(k) > 0).any(axis=1), np.nan)


def mrr(judged: Judged, k: int) -> Values:
    """1 / rank of the first relevant document, 0 beyond k."""
    found = judged.at(k) > 0
    value = np.where(found.any(axis=1), 1 / (1 + found.argmax(axis=1)), 0.0)
    return np.where(judged.relevant > 0, value, np.nan)


def average_precision(judged: Judged, k: int) -> Values:
    """Mean over the relevant documents of the precision at their ranks, 0 for those beyond k."""
    found = judged.at(k) > 0
    precision = np.cumsum(found, axis=1) / np.arange(1, k + 1)
    value: Values = (precision * found).sum(axis=1) / judged.relevant
    return value


def ndcg(judged: Judged, k: int, *, exponential: bool = False) -> Values:
    """Discounted gain over its ideal; the gain is the grade, or 2^grade - 1 if `exponential`.

    Järvelin and Kekäläinen (2002) with the discount 1 / log2(1 + rank), as in trec_eval, whose gain
    is the grade; Burges et al. (2005) have 2^grade - 1. On grades 0 and 1 they are the same.
    """
    discount = 1 / np.log2(np.arange(2, k + 2))
    gains, ideal = judged.at(k), np.zeros((len(judged.ideal), k))
    for row, grades in enumerate(judged.ideal):
        ideal[row, : len(grades)] = grades[:k]
    if exponential:
        gains, ideal = np.exp2(gains) - 1, np.exp2(ideal) - 1
    best = (ideal * discount).sum(axis=1)
    value: Values = (gains * discount).sum(axis=1) / np.where(best > 0, best, np.nan)
    return value


def auc(scores: Any, labels: Any) -> float:
    """Probability that a relevant item of one list scores above an irrelevant one; ties half.

    Args:
        scores: (n,), larger is better.
        labels: (n,), relevant above 0.

    Returns:
        0 to 1; NaN unless both classes are there.
    """
    scores, relevant = np.asarray(scores, np.float64), np.asarray(labels) > 0
    if scores.ndim != 1 or scores.shape != relevant.shape:
        raise ValueError(f"labels: expected the shape of scores, found {relevant.shape}")
    positives = int(relevant.sum())
    if not 0 < positives < len(scores):
        return float("nan")
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]  # of ties: the mean of theirs
    below = ranks[relevant].sum() - positives * (positives + 1) / 2
    return float(below / (positives * (len(scores) - positives)))


@dataclass(frozen=True)
class Report:
    """Values per query and metric, and what was left out.

    Attributes:
        values: (n,) float64 by metric's name; NaN for skipped queries.
        skipped: queries without a relevant document.
    """

    values: dict[str, Values]
    skipped: int

    @property
    def means(self) -> dict[str, float]:
        """Means over the queries that were not skipped; NaN if all were."""
        return {
            name: float(np.nanmean(v)) if np.isfinite(v).any() else float("nan")
            for name, v in self.values.items()
        }


def ndcg_exp(judged: Judged, k: int) -> Values:
    """`ndcg` with the gain 2^grade - 1."""
    return ndcg(judged, k, exponential=True)


_METRICS: dict[str, Callable[[Judged, int], Values]] = {
    "recall": recall,
    "hit": hit,
    "mrr": mrr,
    "map": average_precision,
    "ndcg": ndcg,
    "ndcg_exp": ndcg_exp,
}


def evaluate(
    ids: Any, qrels: Judgements, metrics: Sequence[str] = ("ndcg@10", "mrr@10", "recall@100")
) -> Report:
    """Measure rankings.

    Args:
        ids: (n, k) int64, best first, -1 pads; as `Index.search` returns them, or from `rank`.
        qrels: n mappings from id to grade.
        metrics: names `recall@k`, `hit@k`, `mrr@k`, `map@k`, `ndcg@k` (gain: the grade) and
            `ndcg_exp@k` (gain: 2^grade - 1); without @k over all that was ranked.

    Raises:
        ValueError: an unknown metric, an id twice in a row, a wrong number of rows.
    """
    judged = Judged.of(ids, qrels)
    values = {}
    for name in metrics:
        match = re.fullmatch(r"([a-z_]+)(?:@([1-9]\d*))?", name)
        if not match or match[1] not in _METRICS:
            raise ValueError(f"metrics: expected one of {list(_METRICS)} with @k, found {name!r}")
        k = int(match[2]) if match[2] else max(judged.gains.shape[1], 1)
        values[name] = _METRICS[match[1]](judged, k)
    return Report(values, int(np.isnan(judged.relevant).sum()))
