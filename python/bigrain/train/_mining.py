# SPDX-License-Identifier: Apache-2.0
"""Hard negatives out of a searcher, block by block: never queries times documents of scores.

Denoising follows RocketQA (Qu et al., NAACL 2021, section 4.2): a candidate that a scorer takes
for relevant is no negative, and what is missing is filled at random from deeper ranks. Beyond the
paper: duplicates of positives go too, fillers are denoised as well, and the scorer sees only as
many pairs as are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bigrain._checks import require, require_choice
from bigrain._core import Cancelled
from bigrain._progress import Progress, reporting
from bigrain.eval.baselines import BM25
from bigrain.eval.collections import duplicate_groups

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Scorer = Callable[[Ids, Ids], Any]

BLOCK = 1024  # queries searched at once: 200 results each are 2.4 MB


@dataclass(frozen=True)
class Mined:
    """What `mine` found.

    Attributes:
        ids: (queries, n) int64, best first for sample="top"; -1 pads.
        scores: (queries, n) float32, higher is closer; -inf pads.
        dropped: candidates refused, by reason: "positive", "margin", "denoise".
    """

    ids: Ids
    scores: Floats
    dropped: dict[str, int]


def known_positives(queries: Sequence[str], positives: Any) -> Ids:
    """Gather each query text's positives over all rows: (n,) becomes (n, P), -1 pads.

    A query with several positives comes several times in a `TrainingSet`, and none of them may be
    its negative.
    """
    groups: dict[str, list[int]] = {}
    for query, row in zip(queries, np.asarray(positives).tolist(), strict=True):
        groups.setdefault(query, []).append(row)
    known = np.full((len(queries), max(map(len, groups.values()), default=1)), -1, np.int64)
    for place, query in enumerate(queries):
        known[place, : len(groups[query])] = groups[query]
    return known


def mine(
    index: Any,
    q: Any,
    positives: Any,
    *,
    range: tuple[int, int] = (0, 200),
    n: int = 1,
    sample: Literal["top", "random"] = "top",
    margin: float | None = None,
    vectors: Any = None,
    denoise: Scorer | None = None,
    max_neg: float = 0.1,
    fill: int | None = None,
    duplicates: Any = None,
    seed: int | Sequence[int] = 0,
    block: int = BLOCK,
    progress: Progress = None,
    **options: Any,
) -> Mined:
    """Find hard negatives of every query among the nearest documents.

    Args:
        index: a `bigrain.Index` whose ids are row numbers of documents, or anything with
            `search(queries, k, **options) -> (ids, distances)` and `.metric`: `Exact`, `BM25`.
        q: (queries, d) float32; texts for `BM25`.
        positives: (queries,) or (queries, P) int64 rows of documents; -1 pads.
        range: first and past-the-last rank that is a candidate; rank 0 is the nearest.
        n: negatives per query.
        sample: "top" takes the nearest candidates, "random" draws among them (ANCE).
        margin: keep candidates that score at most (lowest positive's score - margin); needs
            `vectors`.
        vectors: (N, d) documents' vectors, for the positives' scores; may be memory-mapped.
        denoise: called with rows of q and ids, (m,) int64 each, gives (m,) scores in 0 to 1.
        max_neg: candidates that `denoise` scores at or above are refused (RocketQA: .1).
        fill: ranks from range's end to here, in random order, serve where candidates run out.
        duplicates: (N,) labels as of `duplicate_groups`: what shares a positive's is refused.
        seed: of random draws.
        block: queries per search.
        progress: None, True for a bar, or a callable (done, total); False from it cancels.
        **options: of `index.search`, such as width or threads.

    Raises:
        ValueError: shapes or ranges that do not fit, or `margin` without `vectors`.
        Cancelled: `progress` returned False.
    """
    known = _check(q, positives, range, n, sample, margin, vectors, fill)
    depth = max(range[1], fill or 0)
    labels = None if duplicates is None else np.asarray(duplicates, np.int64)
    rng = np.random.default_rng(seed)
    ids = np.full((len(known), n), -1, np.int64)
    scores = np.full((len(known), n), -np.inf, np.float32)
    dropped = {"positive": 0, "margin": 0, "denoise": 0}
    with reporting(progress, "mine", "queries") as report:
        for start in np.arange(0, len(known), block).tolist():
            rows = slice(start, start + block)
            found, distances = index.search(q[rows], depth, **options)
            near = (1.0 - distances) if index.metric == "cosine" else -distances
            keep = _keep(found, known[rows], labels, range[0], dropped)
            if margin is not None:
                low = _positive_scores(q[rows], known[rows], vectors, index.metric) - margin
                far = near <= low[:, None]
                dropped["margin"] += int((keep & ~far).sum())
                keep &= far
            order, count = _order(keep, range[1], sample, rng)
            found, near = (np.take_along_axis(part, order, axis=1) for part in (found, near))
            chosen = _choose(found, count, n, start, denoise, max_neg, dropped)
            ids[rows] = np.where(chosen < 0, -1, np.take_along_axis(found, chosen, 1))
            scores[rows] = np.where(chosen < 0, -np.inf, np.take_along_axis(near, chosen, 1))
            if report is not None and not report(min(rows.stop, len(known)), len(known)):
                raise Cancelled("mine: cancelled by progress")
    return Mined(ids, scores, dropped)


def mine_bm25(
    queries: Sequence[str], documents: Sequence[str], positives: Any, **options: Any
) -> Mined:
    """Find BM25's negatives: `mine` with a `BM25` of the documents; needs bm25s.

    Args:
        queries: texts.
        documents: texts; row numbers are the ids.
        positives: as for `mine`.
        **options: of `mine`. Equal texts count as duplicates unless `duplicates` says otherwise.
    """
    options.setdefault("duplicates", duplicate_groups(documents))
    return mine(BM25(documents), list(queries), positives, **options)


def _check(
    q: Any, positives: Any, ranks: Any, n: int, sample: str, margin: Any, vectors: Any, fill: Any
) -> Ids:
    known = np.asarray(positives)
    fine = known.dtype.kind in "iu" and known.ndim in (1, 2) and len(known) == len(q)
    shapes = f"int64 ({len(q)},) or ({len(q)}, P), one row per query"
    require(fine, "positives", shapes, f"{known.dtype} {known.shape}", "pad with -1")
    require(0 <= ranks[0] < ranks[1], "range", "0 <= first < end", ranks)
    require(n >= 1, "n", "1 or more negatives per query", n)
    require_choice(sample, "sample", "top", "random")
    require(fill is None or fill >= ranks[1], "fill", f"at least range's end {ranks[1]}", fill)
    if margin is not None and vectors is None:
        raise ValueError("margin: needs vectors=, the documents' vectors, to score the positives")
    return known.astype(np.int64).reshape(len(known), -1)


def _keep(
    found: Ids, positives: Ids, labels: Ids | None, first: int, dropped: dict[str, int]
) -> npt.NDArray[np.bool_]:
    """Mark results from rank `first` on that are neither a positive nor its duplicate."""
    keep: npt.NDArray[np.bool_] = found >= 0
    keep[:, :first] = False
    own, theirs = (found, positives) if labels is None else (labels[found], labels[positives])
    theirs = np.where(positives >= 0, theirs, -2)
    same = (own[:, :, None] == theirs[:, None, :]).any(axis=2)
    dropped["positive"] += int((keep & same).sum())
    keep &= ~same
    return keep


def _positive_scores(q: Any, positives: Ids, vectors: Any, metric: str) -> Floats:
    """Score the lowest of each query's positives as the index would; no positive: infinity."""
    own = np.asarray(vectors[positives], np.float32)
    asked = np.asarray(q, np.float32)[:, None, :]
    if metric == "l2":
        scores = -((own - asked) ** 2).sum(axis=2)
    else:
        scores = (own * asked).sum(axis=2)
        if metric == "cosine":
            scores /= np.linalg.norm(own, axis=2) * np.linalg.norm(asked, axis=2)
    return np.asarray(np.where(positives >= 0, scores, np.inf).min(axis=1), np.float32)


def _order(
    keep: npt.NDArray[np.bool_], end: int, sample: str, rng: np.random.Generator
) -> tuple[Ids, Ids]:
    """Return the columns in the order in which they serve, and how many of them may."""
    rows, columns = keep.shape
    key = np.broadcast_to(np.arange(columns, dtype=np.float64), keep.shape).copy()
    if sample == "random":
        key[:, :end] = rng.random((rows, min(end, columns)))
    if columns > end:
        key[:, end:] = columns + rng.random((rows, columns - end))
    key[~keep] = np.inf
    return np.argsort(key, axis=1, kind="stable"), keep.sum(axis=1)


def _choose(
    found: Ids, count: Ids, n: int, start: int, scorer: Scorer | None, limit: float, dropped: Any
) -> Ids:
    """Return (rows, n) columns of ordered candidates, the first n that the scorer lets pass."""
    rows = len(found)
    chosen = np.full((rows, n), -1, np.int64)
    have, cursor = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    while True:
        want = np.minimum(n - have, count - cursor)
        if not want.any():
            return chosen
        row = np.repeat(np.arange(rows), want)
        column = cursor[row] + _ranks(want)
        if scorer is not None:
            scores = np.asarray(scorer(row + start, found[row, column]), np.float32)
            require(scores.shape == row.shape, "denoise", f"{row.shape} scores", scores.shape)
            good = scores < limit
            dropped["denoise"] += int((~good).sum())
            row, column = row[good], column[good]
        passed = np.bincount(row, minlength=rows)
        chosen[row, have[row] + _ranks(passed)] = column
        have, cursor = have + passed, cursor + want


def _ranks(counts: Ids) -> Ids:
    """Return 0, 1, ... within each of consecutive groups of these sizes."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
