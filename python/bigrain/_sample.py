# SPDX-License-Identifier: Apache-2.0
"""Queries with known neighbours for `tune`: the user's, or points left out of the graph.

A point of the index is too easy a query for it: edges lead to it from all sides. So points are
drawn, and while they are asked, edges to them lead to their nearest neighbours instead, and their
true neighbours are those among the remaining points. That is nearly what a query of the vectors'
own distribution meets. Moving points instead was worse (bench/LOG.md, "left out"): noise leaves
the region where the vectors lie, which pushes all neighbours but the point itself to one distance.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bigrain import _core
from bigrain._arrays import as_queries, check_values, make_output
from bigrain._progress import CoreProgress
from bigrain._results import SearchResult

# At most this part of the points is left out at a time: the graph must remain one.
LEFT_OUT_SHARE = 10
# Rows of the graph, and pairs of ids of two rows, that are looked at together.
BLOCK, PAIRS = 1 << 16, 1 << 22


class Patch(NamedTuple):
    """Rows of the graph without the points left out, and as they were."""

    points: npt.NDArray[np.uint32]
    changed: npt.NDArray[np.uint32]
    saved: npt.NDArray[np.uint32]


class Fold(NamedTuple):
    """Queries that are asked together, their true neighbours, and the graph that they meet."""

    queries: npt.NDArray[Any]
    truth: SearchResult
    patch: Patch | None


@contextmanager
def patched(core: _core.Index, patch: Patch | None) -> Iterator[None]:
    """Change the graph within a `with` block."""
    if patch is None:
        yield
        return
    try:
        core.set_rows(patch.points, patch.changed)
        yield
    finally:
        core.set_rows(patch.points, patch.saved)


def put_back(core: _core.Index, folds: list[Fold]) -> None:
    """Restore the graph once more: a Ctrl-C may have come just as `patched` was about to."""
    for fold in folds:
        if fold.patch is not None:
            core.set_rows(fold.patch.points, fold.patch.saved)


def given_queries(
    core: _core.Index, queries: Any, k: int, threads: int, progress: CoreProgress
) -> list[Fold]:
    """Find the true neighbours of the user's queries."""
    meta, vectors = core.meta(), core.vectors()
    asked, _ = as_queries(queries, meta["dim"], vectors.dtype)
    check_values(asked, meta["metric"], "queries")
    if asked.shape[0] == 0 or meta["count"] == 0:
        raise ValueError("queries: tuning needs at least one query (the index may be empty)")
    rows, distances = make_output(None, asked.shape[0], k, False)
    _core.exact_search(vectors, asked, meta["metric"], k, threads, rows, distances, progress)
    return [Fold(asked, _named(core, rows, distances), None)]


def left_out_queries(
    core: _core.Index, k: int, sample: int, seed: int, threads: int, progress: CoreProgress
) -> list[Fold]:
    """Draw points and leave them out, in as many folds as LEFT_OUT_SHARE asks for."""
    meta, vectors = core.meta(), core.vectors()
    count, dim = meta["count"], meta["dim"]
    if count < 2:  # nothing would be left
        return given_queries(core, vectors.astype(_query_dtype(vectors)), k, threads, progress)
    drawn = np.random.default_rng(seed).permutation(count)
    drawn = drawn[drawn != meta["entry"]][:sample]  # where searches start is always seen
    folds = []
    for chosen in np.array_split(drawn, -(-len(drawn) // max(1, count // LEFT_OUT_SHARE))):
        out = np.zeros(count, np.bool_)
        out[chosen] = True
        asked, _ = as_queries(vectors[np.flatnonzero(out)], dim, vectors.dtype)
        truth = _among_the_others(core, asked, out, k, threads, progress)
        folds.append(Fold(asked, truth, _leave_out(core.graph(), out)))
    return folds


def _query_dtype(vectors: npt.NDArray[Any]) -> npt.DTypeLike:
    return np.float32 if vectors.dtype.kind == "f" else vectors.dtype


def _named(
    core: _core.Index, rows: npt.NDArray[np.int64], distances: npt.NDArray[np.float32]
) -> SearchResult:
    """Row numbers become external ids."""
    ids = core.ids()
    return SearchResult(rows if ids is None else np.where(rows >= 0, ids[rows], -1), distances)


def _among_the_others(
    core: _core.Index,
    asked: npt.NDArray[Any],
    out: npt.NDArray[np.bool_],
    k: int,
    threads: int,
    progress: CoreProgress,
) -> SearchResult:
    """Return the k nearest points that are not left out."""
    metric, count = core.meta()["metric"], len(out)
    most = count - int(out.sum())
    # The query itself, and twice what chance puts among the k nearest.
    wanted = k + 8 + 2 * k * int(out.sum()) // count
    while True:
        rows, distances = make_output(None, len(asked), min(wanted, count), False)
        _core.exact_search(
            core.vectors(), asked, metric, rows.shape[1], threads, rows, distances, progress
        )
        dropped = out[rows]
        if wanted >= count or (~dropped).sum(axis=1).min() >= min(k, most):
            break
        wanted *= 2
    order = np.argsort(dropped, axis=1, kind="stable")[:, :k]  # those to keep first
    kept = ~np.take_along_axis(dropped, order, axis=1)
    found, far = make_output(None, len(asked), k, False)
    found[:], far[:] = -1, np.inf
    width = order.shape[1]
    found[:, :width] = np.where(kept, np.take_along_axis(rows, order, axis=1), -1)
    far[:, :width] = np.where(kept, np.take_along_axis(distances, order, axis=1), np.inf)
    return _named(core, found, far)


def _leave_out(graph: npt.NDArray[np.uint32], out: npt.NDArray[np.bool_]) -> Patch:
    """Lead the edges to some points to those points' nearest neighbours, in all rows but theirs."""
    points, changed = [], []
    for start in range(0, len(graph), BLOCK):
        block = graph[start : start + BLOCK]
        hit = _gone(block, out).any(axis=1) & ~out[start : start + BLOCK]
        own = np.flatnonzero(hit).astype(np.uint32) + np.uint32(start)
        rows = _replace(graph, block[hit], own, out)
        gone = _gone(rows, out)
        rows = np.take_along_axis(rows, np.argsort(gone, axis=1, kind="stable"), axis=1)
        left = rows.shape[1] - gone.sum(axis=1, keepdims=True)
        padded = np.where(np.arange(rows.shape[1]) < left, rows, own[:, None])
        changed.append(padded.astype(np.uint32))
        points.append(own)
    which = np.concatenate(points)
    return Patch(which, np.concatenate(changed), graph[which])


def _gone(rows: npt.NDArray[np.uint32], out: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which ids are left out; one beyond the graph is not, the search will complain of it."""
    gone: npt.NDArray[np.bool_] = out[np.minimum(rows, len(out) - 1)] & (rows < len(out))
    return gone


def _replace(
    graph: npt.NDArray[np.uint32],
    rows: npt.NDArray[np.uint32],
    own: npt.NDArray[np.uint32],
    out: npt.NDArray[np.bool_],
) -> npt.NDArray[np.uint32]:
    """Put the first neighbour of a point left out, unless the row has it, in that point's place.

    The first of a row is its nearest (cpp/graph/prune.h); without any replacement the recall of
    unseen queries was 2 points better than promised, with the nearest to the row's point 2 worse.
    """
    rows = rows.copy()
    at, column = np.nonzero(_gone(rows, out))
    step = max(1, PAIRS // rows.shape[1] ** 2)
    for start in range(0, len(at), step):
        i, j = at[start : start + step], column[start : start + step]
        offered = graph[rows[i, j]]
        known = (offered[:, :, None] == rows[i][:, None, :]).any(axis=2)
        fits = ~known & ~_gone(offered, out) & (offered != own[i][:, None])
        first = fits.argmax(axis=1)
        chosen = np.flatnonzero(fits.any(axis=1))
        rows[i[chosen], j[chosen]] = offered[chosen, first[chosen]]
    return rows
