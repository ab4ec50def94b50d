# SPDX-License-Identifier: Apache-2.0
"""Measures the curve from recall to (width, rerank, slack) for `tune`.

Recall has three prices: a wider window and a later end by distance find more (hops and codes), more
candidates decided by full vectors lose less of what was found (full distances). Steps: from the
cheapest setting, try more of each, and take the one that gains more recall for its cost, until the
target is passed; halve the step that passed it; keep what no cheaper setting beats. So the settings
measured lie along the front, some 60 to 120 searches of the sample instead of a grid of 2,000. Cost
is counted, not timed: the same choice on every machine and for every number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bigrain import _core
from bigrain._arrays import make_output
from bigrain._curve import Setting, front
from bigrain._exact import hits_by_distance
from bigrain._progress import CoreProgress
from bigrain._results import CurvePoint, SearchResult, SearchStats, TuneReport
from bigrain._sample import Fold, patched

# A step of width or rerank; with 1.3 the searches doubled and the choice stayed within 3 %. Recall
# answers to slack more sharply.
STEP, SLACK_STEP = 1.5, 1.25
# Of slack: less ends searches before k answers are worth having; beyond, only width ends them.
FIRST_SLACK, MOST_SLACK = 0.01, 1.0
# The step that passed the target is halved until it is this part of the setting, and so are those
# that passed the recalls most often asked for: between coarse steps a curve is taken to be lower
# than it is, by up to 2 points of recall at .90.
RELATIVE_GAP, USUAL_RECALLS = 0.03, (0.9, 0.95, 0.99)
# The walk also ends where this many steps gained next to nothing (half a neighbour in 1,000): what
# is missing then is not for a wider window to find. Narrow windows get more time.
PLATEAU_STEPS, PLATEAU_GAIN, PLATEAU_WIDTH = 4, 0.0005, 256
# The walk goes on past the target until the curve is this high, so that later recalls are covered.
COVERED_RECALL = 0.995
# The first window is this part of k: half of k reaches .8 to .9 already (bench/LOG.md).
FIRST_WIDTH_SHARE = 4
# Standard errors by which the promised recall lies below the measured one.
MARGIN_ERRORS = 1.0
# Cost of a code distance and a full one in cache lines read: their own, and what everything else
# about them takes (the hop's share, the pool; a new address, an exact distance). Measured: codes of
# 2, 7, 13 lines took 20, 35, 60 ns, vectors of 6, 24, 49 lines 164, 140, 245 ns (bench/LOG.md,
# "cost"): 3 ns a line, and 15 and 110 ns beside.
LINE_BYTES, LINES_BESIDE_CODE, LINES_BESIDE_VECTOR = 64, 5.0, 37.0


class Measure(NamedTuple):
    """Recall as measured, its standard error, and the cache lines that a query reads."""

    recall: float
    error: float
    cost: float

    @property
    def promised(self) -> float:
        """The recall that unseen queries will reach five times in six."""
        return max(0.0, self.recall - MARGIN_ERRORS * self.error)


Measured = dict[Setting, Measure]


def calibrate(
    core: _core.Index, folds: list[Fold], k: int, target: float, threads: int, report: CoreProgress
) -> TuneReport:
    """Measure settings until the cheapest one for `target` is known."""
    lines = _lines(core)

    def measure(setting: Setting) -> Measure:
        return _measure(core, folds, k, setting, threads, lines, report)

    # At n every point that can be reached is seen.
    most = min(_core.LIMITS["width"][2], max(k, core.meta()["count"]))
    slack = math.inf if core.meta()["metric"] == "ip" else FIRST_SLACK
    measured = walk(measure, k, most, target, slack)
    curve = front(
        [(k, w, c, m.promised, s) for (w, c, s), m in measured.items()],
        [m.cost for m in measured.values()],
    )
    _, width, rerank, promised, slack = next((row for row in curve if row[3] >= target), curve[-1])
    chosen = measured[width, rerank, slack]
    return TuneReport(
        k=k,
        target=target,
        width=width,
        rerank=rerank,
        slack=slack,
        recall=promised,
        margin=chosen.recall - promised,
        reached=promised >= target,
        queries=sum(len(fold.queries) for fold in folds),
        curve=tuple(CurvePoint(*row[1:]) for row in curve),
    )


def _lines(core: _core.Index) -> npt.NDArray[np.float64]:
    """Return what a hop, a code distance and a full distance cost, in cache lines."""
    meta, parts = core.meta(), core.part_bytes()
    count = max(1, meta["count"])
    code = parts["codes"] / count / LINE_BYTES + LINES_BESIDE_CODE
    vector = parts["vectors"] / count / LINE_BYTES + LINES_BESIDE_VECTOR
    return np.array([0.0, code, vector])  # hops are counted beside their codes


def _measure(
    core: _core.Index,
    folds: list[Fold],
    k: int,
    setting: Setting,
    threads: int,
    lines: npt.NDArray[np.float64],
    report: CoreProgress,
) -> Measure:
    shares, costs = [], []
    for fold in folds:
        rows = len(fold.queries)
        ids, distances = make_output(None, rows, k, False)
        stats = np.empty((rows, len(SearchStats._fields)), np.uint32)
        with patched(core, fold.patch):
            core.search(fold.queries, k, *setting, threads, False, ids, distances, stats, report)
        hits, exist = hits_by_distance(SearchResult(ids, distances), fold.truth)
        shares.append(np.where(exist > 0, hits / np.maximum(exist, 1), 1.0))
        costs.append(stats[:, : len(lines)] @ lines)
    share = np.concatenate(shares)
    error = float(share.std(ddof=1)) / math.sqrt(len(share)) if len(share) > 1 else 0.0
    return Measure(float(share.mean()), error, float(np.concatenate(costs).mean()))


def walk(
    measure: Callable[[Setting], Measure], k: int, most: int, target: float, slack: float
) -> Measured:
    """Measure settings along the front, narrow to wide, most finely around the recalls wanted.

    `slack`: of the first setting; infinity: of all.
    """
    measured: Measured = {}

    def at(setting: Setting) -> Measure:
        if setting not in measured:
            measured[setting] = measure(setting)
        return measured[setting]

    here = (max(1, k // FIRST_WIDTH_SHARE), k, slack)
    path = [here]
    while not _ends([at(step) for step in path], here, most, target):
        here = _next(at, here, most)
        path.append(here)
    for wanted in sorted({*USUAL_RECALLS, target}):
        passed = [i for i, step in enumerate(path) if at(step).promised >= wanted]
        if passed and passed[0] > 0:
            _halve(at, path[passed[0] - 1], path[passed[0]], wanted)
    return measured


def _ends(path: list[Measure], here: Setting, most: int, target: float) -> bool:
    if min(here[:2]) >= most or path[-1].recall >= 1.0:
        return True
    if path[-1].promised >= max(target, COVERED_RECALL):
        return True
    flat = len(path) > PLATEAU_STEPS and here[0] >= PLATEAU_WIDTH
    return flat and path[-1].recall - path[-1 - PLATEAU_STEPS].recall < PLATEAU_GAIN


def _next(at: Callable[[Setting], Measure], here: Setting, most: int) -> Setting:
    """Return the step that gains most recall for its cost; all at once where none gains."""
    width, rerank, slack = here
    wider, deeper = (min(most, max(size + 1, int(size * STEP))) for size in (width, rerank))
    later = slack * SLACK_STEP if slack < MOST_SLACK else slack
    tried = (wider, rerank, slack), (width, deeper, slack), (width, rerank, later)
    steps = [step for step in tried if step != here]
    now = at(here)
    rates = [(at(step).recall - now.recall) / max(at(step).cost - now.cost, 1e-9) for step in steps]
    if max(rates) <= 0:
        return wider, deeper, later
    return steps[int(np.argmax(rates))]


def _halve(at: Callable[[Setting], Measure], below: Setting, above: Setting, target: float) -> None:
    while _apart(below, above):
        middle = _middle(below, above)
        if at(middle).promised >= target:
            above = middle
        else:
            below = middle


def _apart(below: Setting, above: Setting) -> bool:
    sizes = zip(below[:2], above[:2], strict=True)
    if any(high - low > max(1, RELATIVE_GAP * high) for low, high in sizes):
        return True
    return above[2] < math.inf and above[2] - below[2] > RELATIVE_GAP * above[2]


def _middle(below: Setting, above: Setting) -> Setting:
    width, rerank = ((low + high + 1) // 2 for low, high in zip(below[:2], above[:2], strict=True))
    return width, rerank, (below[2] + above[2]) / 2
