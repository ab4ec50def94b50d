# SPDX-License-Identifier: Apache-2.0
"""From measured points to the figures that are quoted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

Point = tuple[float, float]  # recall, queries per second


def front(points: Iterable[Point]) -> list[Point]:
    """The points that no other beats in both recall and speed, by rising recall."""
    best: list[Point] = []
    for recall, qps in sorted(points, key=lambda point: (-point[0], -point[1])):
        if not best or qps > best[-1][1]:
            best.append((recall, qps))
    return best[::-1]


def qps_at(points: Sequence[Point], recall: float) -> float | None:
    """Speed at a recall, on the front: log(QPS) is taken as linear between two points.

    Below the first point its own speed counts, which favours nobody; beyond the last, None.
    """
    curve = front(points)
    if not curve or curve[-1][0] < recall:
        return None
    if recall <= curve[0][0]:
        return curve[0][1]
    for (r0, q0), (r1, q1) in pairwise(curve):
        if r0 <= recall <= r1:
            share = (recall - r0) / (r1 - r0)
            return math.exp(math.log(q0) * (1 - share) + math.log(q1) * share)
    return None
