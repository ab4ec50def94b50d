# SPDX-License-Identifier: Apache-2.0
"""Ground truth and recall, computed here with NumPy so that no engine judges itself.

A returned row is a hit when its exact distance is at most the true k-th distance, within rounding:
of rows that are equally near, any will do. This is recall by distance. Recall by id, which counts
only the rows of one ground truth, is reported beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bigrain_bench.datasets import F32

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

# Distances are compared in float64. The relative slack is float32's rounding of the inputs, which
# engines may break ties by; the absolute slack serves distances that are zero.
RELATIVE, ABSOLUTE = 1e-6, 1e-9
# The first pass ranks in float32; this many rows beyond k survive into the exact second pass.
MARGIN = 64
BLOCK_BYTES = 256 << 20


@dataclass(frozen=True)
class Truth:
    """The k nearest rows of each query: ids and float64 distances, nearest first."""

    ids: I64
    distances: F64


def exact_distances(base: F32, queries: F32, ids: I64, metric: str) -> F64:
    """Distances from each query to its own rows `ids`, in float64; id -1 gives infinity."""
    distances = np.full(ids.shape, np.inf)
    rows = max(1, BLOCK_BYTES // (8 * max(1, ids.shape[1]) * base.shape[1]))
    for start in range(0, len(ids), rows):
        part = slice(start, start + rows)
        found = base[np.maximum(ids[part], 0)].astype(np.float64)
        asked = queries[part].astype(np.float64)[:, None, :]
        distances[part] = np.where(ids[part] < 0, np.inf, _distance(found, asked, metric))
    return distances


def _distance(found: F64, asked: F64, metric: str) -> F64:
    if metric == "l2":
        squares: F64 = np.square(found - asked).sum(axis=2)
        return squares
    products: F64 = (found * asked).sum(axis=2)
    if metric == "ip":
        return -products
    norms: F64 = np.linalg.norm(found, axis=2) * np.linalg.norm(asked, axis=2)
    return 1 - products / norms


def ground_truth(
    base: F32,
    queries: F32,
    metric: str,
    k: int,
    progress: Callable[[int, int], object] | None = None,
) -> Truth:
    """Exact neighbours: float32 products choose candidates, float64 distances decide."""
    k = min(k, len(base))
    wanted = min(k + MARGIN, len(base))
    ids = np.empty((len(queries), k), np.int64)
    distances = np.empty((len(queries), k), np.float64)
    for part, scores in _scores(base, queries, metric):
        near = np.argpartition(scores, wanted - 1, axis=1)[:, :wanted].astype(np.int64)
        exact = exact_distances(base, queries[part], near, metric)
        order = np.lexsort((near, exact), axis=1)[:, :k]
        ids[part] = np.take_along_axis(near, order, axis=1)
        distances[part] = np.take_along_axis(exact, order, axis=1)
        if progress:
            progress(min(part.stop, len(queries)), len(queries))
    return Truth(ids, distances)


def _scores(base: F32, queries: F32, metric: str) -> Iterator[tuple[slice, F32]]:
    """Per block of queries, (block, rows) values that rank as the distances do."""
    scale = offset = np.float32(0)
    if metric == "l2":
        offset = np.einsum("ij,ij->i", base, base)
        weight, scale = np.float32(-2), np.float32(1)
    elif metric == "cosine":
        weight = -1 / np.linalg.norm(base, axis=1)
    else:
        weight = np.float32(-1)
    rows = max(1, BLOCK_BYTES // (4 * max(1, len(base))))
    for start in range(0, len(queries), rows):
        part = slice(start, start + rows)
        scores = (queries[part] @ base.T) * weight
        if scale:
            scores += offset
        yield part, scores


def recall(base: F32, queries: F32, metric: str, ids: I64, truth: Truth) -> tuple[float, float]:
    """Recall by distance and by id of the rows an engine returned, (queries, k)."""
    k = min(ids.shape[1], truth.ids.shape[1])
    ids = _without_repeats(np.where((ids >= 0) & (ids < len(base)), ids, -1))
    limit = truth.distances[:, k - 1 : k]
    limit = limit + RELATIVE * np.abs(limit) + ABSOLUTE
    hits = (exact_distances(base, queries, ids, metric) <= limit).sum(axis=1)
    by_distance = np.minimum(hits, k).sum() / (len(ids) * k)
    same = (ids[:, :, None] == truth.ids[:, None, :k]) & (ids >= 0)[:, :, None]
    return float(by_distance), float(same.any(axis=2).sum() / (len(ids) * k))


def _without_repeats(ids: I64) -> I64:
    """The second and later occurrence of an id in its row becomes -1."""
    order = np.argsort(ids, axis=1, kind="stable")
    ordered = np.take_along_axis(ids, order, axis=1)
    repeated = np.zeros(ids.shape, bool)
    repeated[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    mask = np.empty_like(repeated)
    np.put_along_axis(mask, order, repeated, axis=1)
    return np.where(mask, -1, ids)
