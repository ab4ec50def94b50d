# SPDX-License-Identifier: Apache-2.0
"""The calibrated curve from recall to width, and its use.

Width is swept upward until the target is passed, then the gap around the target is halved. Every
point measured is kept: the curve, stored in the index, answers later for other recalls too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bigrain import _core
from bigrain._arrays import as_queries, check_values, make_output
from bigrain._exact import recall
from bigrain._progress import CoreProgress
from bigrain._results import SearchResult, TuneReport

# Neighbouring widths of the sweep; about 5 measurements per factor of 4.
SWEEP_FACTOR = 1.3
# The gap around the target is halved until it is this part of the width.
RELATIVE_GAP = 0.03
# It also ends where this many steps, 2.9 times the width, gained next to nothing (half a neighbour
# in 1,000): what is missing then is not for a wider window to find. Narrow windows get more time.
PLATEAU_STEPS, PLATEAU_GAIN, PLATEAU_WIDTH = 4, 0.0005, 256
# The sweep ends past the target once the curve is this high, so that later recalls are covered.
COVERED_RECALL = 0.995

# A point itself, and some duplicates, come before its nearest other point.
DISTINCT_NEIGHBOURS = 4

Row = tuple[int, int, float]  # k, width, recall


class Sample(NamedTuple):
    """Queries and their true neighbours."""

    queries: npt.NDArray[Any]
    truth: SearchResult


def draw_sample(
    core: _core.Index,
    queries: Any,
    k: int,
    sample: int,
    seed: int,
    threads: int,
    progress: CoreProgress,
) -> Sample:
    """Take the given queries, or make some out of points of the index."""
    meta, vectors, ids = core.meta(), core.vectors(), core.ids()
    if queries is None:
        asked = _imitate_queries(vectors, meta["metric"], sample, seed, threads, progress)
    else:
        asked, _ = as_queries(queries, meta["dim"], vectors.dtype)
        check_values(asked, meta["metric"], "queries")
    if asked.shape[0] == 0:
        raise ValueError("queries: tuning needs at least one query (the index may be empty)")
    found, distances = make_output(None, asked.shape[0], k, False)
    _core.exact_search(vectors, asked, meta["metric"], k, threads, found, distances, progress)
    if ids is not None:
        found = np.where(found >= 0, ids[found], -1)
    return Sample(asked, SearchResult(found, distances))


def _imitate_queries(
    vectors: npt.NDArray[Any],
    metric: str,
    sample: int,
    seed: int,
    threads: int,
    progress: CoreProgress,
) -> npt.NDArray[Any]:
    """Move points of the index away from where they are, as far as their nearest neighbours lie.

    Points themselves would be too easy: the graph was built around them, and widths tuned on them
    gave up to 7 points less recall on held-out queries than promised. Moved in a random direction
    by that distance, widths for 0.9 to 0.99 gave 1.3 points less to 2.7 points more (GloVe words
    under three metrics, Fashion-MNIST under two).
    """
    random = np.random.default_rng(seed)
    rows = np.sort(random.permutation(len(vectors))[:sample])
    points, _ = as_queries(vectors[rows], vectors.shape[1], vectors.dtype)
    # Inner products measure no distance between points.
    measure = "cosine" if metric == "cosine" else "l2"
    ids, squared = make_output(None, len(rows), DISTINCT_NEIGHBOURS, False)
    _core.exact_search(vectors, points, measure, ids.shape[1], threads, ids, squared, progress)
    squared = np.where(np.isfinite(squared), np.maximum(squared, 0), 0)
    apart = np.argmax(squared > 0, axis=1)  # the first that is no duplicate
    distance = np.sqrt(np.take_along_axis(squared, apart[:, None], axis=1))
    moved = points.astype(np.float32)
    if metric == "cosine":  # 1 - cosine is half the squared distance of unit vectors
        distance *= np.sqrt(np.float32(2)) * np.linalg.norm(moved, axis=1, keepdims=True)
    step = random.standard_normal(moved.shape, dtype=np.float32)
    moved += step * (distance / np.linalg.norm(step, axis=1, keepdims=True))
    if vectors.dtype.kind != "f":
        info = np.iinfo(vectors.dtype)
        moved = np.clip(np.rint(moved), info.min, info.max).astype(vectors.dtype)
    zero = ~moved.any(axis=1)  # by rounding; cosine cannot be asked about it
    moved[zero] = points[zero]
    return moved


def calibrate(
    core: _core.Index, sample: Sample, k: int, target: float, threads: int, progress: CoreProgress
) -> TuneReport:
    """Measure recall@k over widths until the least width for `target` is known."""
    ids, distances = make_output(None, sample.queries.shape[0], k, False)

    def measure(width: int) -> float:
        core.search(sample.queries, k, width, 0, threads, ids, distances, None, progress)
        return recall(SearchResult(ids, distances), sample.truth)

    # A width of n sees every point that can be reached.
    most = min(_core.LIMITS["width"][2], max(k, core.meta()["count"]))
    curve = _sweep(measure, k, most, target)
    reached = [width for width in sorted(curve) if curve[width] >= target]
    width = reached[0] if reached else max(curve)
    return TuneReport(
        k=k,
        target=target,
        width=width,
        recall=curve[width],
        reached=bool(reached),
        queries=sample.queries.shape[0],
        curve=tuple(sorted(curve.items())),
    )


def _sweep(
    measure: Callable[[int], float], least: int, most: int, target: float
) -> dict[int, float]:
    curve: dict[int, float] = {}
    width = least
    while True:
        curve[width] = measure(width)
        values = list(curve.values())
        flat = width >= PLATEAU_WIDTH and len(values) > PLATEAU_STEPS
        if flat and values[-1] - values[-1 - PLATEAU_STEPS] < PLATEAU_GAIN:
            break
        if width == most or values[-1] >= max(target, COVERED_RECALL):
            break
        width = min(most, max(width + 1, int(width * SWEEP_FACTOR)))
    above = min((w for w in curve if curve[w] >= target), default=None)
    below = max((w for w in curve if above is not None and w < above), default=None)
    while above is not None and below is not None and above - below > max(1, RELATIVE_GAP * above):
        middle = (above + below) // 2
        curve[middle] = measure(middle)
        if curve[middle] >= target:
            above = middle
        else:
            below = middle
    return curve


def merge_rows(rows: list[Row], report: TuneReport) -> list[Row]:
    """Replace the curve of the report's k."""
    kept = [row for row in rows if row[0] != report.k]
    return sorted(kept + [(report.k, width, value) for width, value in report.curve])


def width_for(rows: list[Row], k: int, wanted: float) -> int:
    """Return the width that the stored curve gives for recall@k.

    The curve of a larger k serves a smaller one: its last neighbours are the harder ones. Between
    two measured widths recall is taken to rise linearly with the logarithm of the width; the curve
    is concave there, so that errs to the wide side.
    """
    usable = [row[0] for row in rows if row[0] >= k]
    if not usable:
        state = "has no calibrated curve" if not rows else "has curves only for smaller k"
        raise ValueError(
            f"recall: the index {state}; call index.tune(k={k}, recall={wanted}) first, "
            "or pass width="
        )
    curve = [(width, value) for at, width, value in rows if at == min(usable)]
    above = next((i for i, point in enumerate(curve) if point[1] >= wanted), None)
    if above is None:
        best = max(value for _, value in curve)
        raise ValueError(
            f"recall: the calibrated curve ends at {best:.4f}; call "
            f"index.tune(k={k}, recall={wanted}), or pass width="
        )
    high_width, high = curve[above]
    if above == 0:
        return max(k, high_width)
    low_width, low = curve[above - 1]
    share = (wanted - low) / (high - low)
    width = low_width * (high_width / low_width) ** share
    return max(k, min(high_width, int(np.ceil(width))))
