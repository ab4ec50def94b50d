# SPDX-License-Identifier: Apache-2.0
"""Exact search, and recall measured against it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bigrain import _core
from bigrain._arrays import as_queries, as_vectors, check_values, make_output, to_numpy
from bigrain._checks import Metric, check_limit, check_metric
from bigrain._progress import Progress, reporting
from bigrain._results import SearchResult

# Two ways to sum the same float32 products differ by a few parts in a million (d up to 1,000).
DISTANCE_TOLERANCE = 1e-5


def exact_search(
    base: Any,
    queries: Any,
    k: int = 10,
    *,
    metric: Metric = "l2",
    threads: int = 0,
    progress: Progress = None,
) -> SearchResult:
    """Find the k nearest rows of `base` for every query by comparing them all.

    Args:
        base: (n, dim) vectors; types as for `Index.build`.
        queries: (rows, dim), or (dim,) for one query.
        k: 1 to 2**20; rows beyond n are padded with id -1 and distance +inf.
        metric: "l2" (squared), "ip" (negated) or "cosine" (1 - similarity): smaller is closer.
        threads: 0 means every core this process may use.
        progress: None, True for a bar, or a callable (done, total); False from it cancels.

    Returns:
        SearchResult of row numbers and distances, nearest first, ties by the smaller row.

    Raises:
        ValueError: NaN, infinity, shapes that do not fit, a zero row under cosine.
        TypeError: a dtype with no obvious conversion.
        Cancelled: `progress` returned False.
    """
    metric = check_metric(metric)
    k = check_limit(k, "k")
    threads = check_limit(threads, "threads")
    rows = as_vectors(base, "base")
    check_values(rows, metric, "base")
    asked, single = as_queries(queries, rows.shape[1], rows.dtype)
    check_values(asked, metric, "queries")
    ids, distances = make_output(None, asked.shape[0], k, single)
    with reporting(progress, "exact search", "queries") as callback:
        _core.exact_search(rows, asked, metric, k, threads, ids, distances, callback)
    return SearchResult(ids, distances)


def recall(
    found: Any,
    truth: Any,
    *,
    by: Literal["distance", "id"] = "distance",
    tolerance: float = DISTANCE_TOLERANCE,
) -> float:
    """Return the share of the true neighbours that was found, over all queries.

    Args:
        found: a SearchResult or a pair (ids, distances), shapes (rows, k) or (k,).
        truth: the same from `exact_search`, with at least as many columns; further ones are cut.
        by: "distance" counts a result that is no farther than the k-th true neighbour, so that
            exact ties count; "id" counts true ids found.
        tolerance: with "distance", relative to the k-th distance (and to 1 below 1): room for
            another order of summation.

    Raises:
        ValueError: shapes that do not fit, or an unknown `by`.
    """
    if by not in ("distance", "id"):
        raise ValueError(f"by: expected 'distance' or 'id', found {by!r}")
    found_ids, found_distances = (np.atleast_2d(to_numpy(part, "found")) for part in found)
    true_ids, true_distances = (np.atleast_2d(to_numpy(part, "truth")) for part in truth)
    rows, k = found_ids.shape
    if found_distances.shape != (rows, k) or true_ids.shape != true_distances.shape:
        raise ValueError("recall: ids and distances must have one shape")
    if true_ids.shape[0] != rows or true_ids.shape[1] < k:
        raise ValueError(f"truth: expected shape ({rows}, {k} or more), found {true_ids.shape}")
    true_ids = true_ids[:, :k]
    total = int((true_ids >= 0).sum())
    if total == 0:
        return 1.0
    if by == "id":
        hits = sum(
            np.intersect1d(a[a >= 0], b[b >= 0]).size
            for a, b in zip(found_ids, true_ids, strict=True)
        )
        return hits / total
    cut = SearchResult(true_ids, true_distances[:, :k])
    near, _ = hits_by_distance(SearchResult(found_ids, found_distances), cut, tolerance)
    return int(near.sum()) / total


def hits_by_distance(
    found: SearchResult, truth: SearchResult, tolerance: float = DISTANCE_TOLERANCE
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Count, per query, results no farther than its last true neighbour, and true neighbours."""
    exists = truth.ids >= 0
    last = np.where(exists, truth.distances, -np.inf).max(axis=1, keepdims=True)
    last = np.where(exists.any(axis=1, keepdims=True), last, 0.0)
    limit = last + tolerance * np.maximum(np.abs(last), 1.0)
    near = (found.ids >= 0) & (found.distances <= limit)
    exist = exists.sum(axis=1)
    return np.minimum(near.sum(axis=1), exist), exist
