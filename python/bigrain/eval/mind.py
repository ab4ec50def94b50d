# SPDX-License-Identifier: Apache-2.0
"""MIND, Microsoft's news recommendation set: its files and its own metrics.

Wu et al., "MIND: A Large-scale Dataset for News Recommendation" (ACL 2020); metrics as the public
evaluation of SpeedyFeed's code has them. They are means over impressions, and MRR is not IR's: the
sum of 1 / rank over *all* clicked items, divided by their number, instead of the first's. nDCG's
gain is 2^grade - 1. Equal scores keep the order in which items were shown; that code reverses it.
Impressions in which nothing or everything was clicked are skipped and counted.

The data are Microsoft's, under its research licence; nothing of them is here.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bigrain.eval.collections import StrPath, open_text
from bigrain.eval.metrics import auc

NEWS_COLUMNS = 8


@dataclass(frozen=True)
class News:
    """One line of news.tsv, without URL and entities."""

    id: str
    category: str
    subcategory: str
    title: str
    abstract: str


@dataclass(frozen=True)
class Impression:
    """One line of behaviors.tsv.

    Attributes:
        id, user, time: as the file has them.
        history: ids of news clicked before, oldest first.
        candidates: ids of the news shown.
        labels: 1 for clicked, 0 for not, one per candidate; None in the test file.
    """

    id: str
    user: str
    time: str
    history: list[str]
    candidates: list[str]
    labels: list[int] | None


def _lines(path: StrPath, columns: int) -> Iterator[tuple[int, list[str]]]:
    with open_text(path) as file:
        for number, cells in enumerate(
            csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE), start=1
        ):
            if len(cells) != columns:
                raise ValueError(f"{path}:{number}: expected {columns} cells, found {len(cells)}")
            yield number, cells


def read_news(path: StrPath) -> list[News]:
    """Read news.tsv."""
    return [News(*cells[:5]) for _, cells in _lines(path, NEWS_COLUMNS)]


def read_behaviors(path: StrPath) -> Iterator[Impression]:
    """Yield the impressions of behaviors.tsv, with clicks (`N1-1 N2-0`) or without (`N1 N2`).

    Raises:
        ValueError: a line of another shape, clicks on some candidates only; its number is named.
    """
    for number, (id_, user, time, history, shown) in _lines(path, 5):
        cells = [cell.rpartition("-") for cell in shown.split()]
        marked = [cell[1] == "-" for cell in cells]
        if any(marked) and not all(cell[2] in {"0", "1"} for cell in cells):
            raise ValueError(f"{path}:{number}: expected -0 or -1 behind every candidate or none")
        candidates = [
            cell[0] if mark else cell[2] for cell, mark in zip(cells, marked, strict=True)
        ]
        labels = [int(cell[2]) for cell in cells] if any(marked) else None
        yield Impression(id_, user, time, history.split(), candidates, labels)


def mrr(scores: Any, labels: Any) -> float:
    """MIND's: sum of label / rank over the list, divided by the sum of labels."""
    gains = _sorted_labels(scores, labels)
    return float((gains / np.arange(1, len(gains) + 1)).sum() / gains.sum())


def ndcg(scores: Any, labels: Any, k: int) -> float:
    """nDCG@k with gains 2^label - 1 and discounts 1 / log2(1 + rank)."""
    discount = 1 / np.log2(np.arange(2, k + 2))
    gains = np.exp2(_sorted_labels(scores, labels)) - 1
    ideal = np.sort(gains)[::-1][:k]
    best = (ideal * discount[: len(ideal)]).sum()
    gains = gains[:k]
    return float((gains * discount[: len(gains)]).sum() / best)


METRICS: dict[str, Callable[[Any, Any], float]] = {
    "auc": auc,
    "mrr": mrr,
    "ndcg@5": lambda scores, labels: ndcg(scores, labels, 5),
    "ndcg@10": lambda scores, labels: ndcg(scores, labels, 10),
}


def evaluate(impressions: Iterable[tuple[Any, Any]]) -> dict[str, float]:
    """Return the means of MIND's four metrics over impressions.

    Args:
        impressions: (scores, labels) of each, (n,) arrays, larger scores first.

    Returns:
        `auc`, `mrr`, `ndcg@5`, `ndcg@10`, and counts `impressions` and `skipped`.

    Raises:
        ValueError: lengths that differ, NaN, or nothing left to average.
    """
    rows: list[list[float]] = []
    skipped = 0
    for scores, labels in impressions:
        if not 0 < np.sum(np.asarray(labels) > 0) < len(labels):
            skipped += 1
            continue
        rows.append([metric(scores, labels) for metric in METRICS.values()])
    if not rows:
        raise ValueError(f"impressions: expected one with both labels, skipped all {skipped}")
    means = dict(zip(METRICS, np.mean(rows, axis=0).tolist(), strict=True))
    return means | {"impressions": len(rows), "skipped": skipped}


def write_submission(path: StrPath, ids: Sequence[str], scores: Iterable[Any]) -> None:
    """Write MIND's prediction.txt: `id [ranks]`, the rank of each candidate in the order shown."""
    with open(path, "w", encoding="utf-8") as file:
        for id_, values in zip(ids, scores, strict=True):
            ranks = np.empty(len(values), np.int64)
            ranks[_order(values)] = np.arange(1, len(values) + 1)
            file.write(f"{id_} [{','.join(map(str, ranks))}]\n")


def _order(scores: Any) -> npt.NDArray[np.int64]:
    """Positions by descending score; of equal scores the first shown comes first."""
    values = np.asarray(scores, np.float64)
    if values.ndim != 1 or np.isnan(values).any():
        raise ValueError(f"scores: expected (n,) numbers without NaN, found shape {values.shape}")
    return np.argsort(-values, kind="stable")


def _sorted_labels(scores: Any, labels: Any) -> npt.NDArray[np.float64]:
    gains, order = np.asarray(labels, np.float64), _order(scores)
    if gains.shape != order.shape or not gains.sum() > 0:
        raise ValueError(
            f"labels: expected shape {order.shape} with a positive one, found {gains.shape}"
        )
    return gains[order]
