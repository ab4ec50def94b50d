# SPDX-License-Identifier: Apache-2.0
"""Which layout searches walk on: as asked, or by measurement.

The fast layout trades memory for code records not read, and whether that pays depends on the
vectors, the degree and the processor's caches: so "auto" times both on points of the index.
"""

from __future__ import annotations

import math
import time

import numpy as np

from bigrain import _core
from bigrain._arrays import as_queries, make_output
from bigrain._progress import CoreProgress

# A graph of fewer points fits the second-level cache, where there is nothing to win.
LEAST_POINTS = 4_096
SAMPLE, K = 512, 10
# One narrow and one wide search: about recall .9 and .99 of ten neighbours.
WIDTHS = (24, 128)
ROUNDS = 5
# The blocks take one to three times the memory of the codes: a smaller gain does not pay for them.
LEAST_GAIN = 1.10

ASKED = "as asked"


def set_layout(core: _core.Index, layout: str, threads: int, progress: CoreProgress) -> str:
    """Put the index into the layout, or into the one that wins; return why."""
    if layout != "auto":
        core.set_layout(layout, threads, progress)
        return ASKED
    core.set_layout("compact", threads, progress)
    count = core.meta()["count"]
    if count < LEAST_POINTS:
        return f"auto: {count:,} vectors, fewer than the {LEAST_POINTS:,} from which it is measured"
    before = _seconds(core, progress)
    core.set_layout("fast", threads, progress)
    gain = before / _seconds(core, progress)
    if gain < LEAST_GAIN:
        core.set_layout("compact", threads, progress)
    said = f"auto: the fast layout is {gain:.2f} times as fast on {SAMPLE} points of the index"
    return f"{said}, {'at least' if gain >= LEAST_GAIN else 'below'} {LEAST_GAIN:.2f}"


def _seconds(core: _core.Index, progress: CoreProgress) -> float:
    """Sum over the widths of the least time that a search of the sample took, on one thread."""
    vectors = core.vectors()
    rows = np.linspace(0, len(vectors) - 1, SAMPLE).astype(np.intp)
    asked, _ = as_queries(vectors[rows], vectors.shape[1], vectors.dtype)
    ids, distances = make_output(None, SAMPLE, K, False)
    total = 0.0
    for width in WIDTHS:
        times = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            core.search(asked, K, width, 0, math.inf, 1, False, ids, distances, None, progress)
            times.append(time.perf_counter() - start)
        total += min(times)
    return total
