# SPDX-License-Identifier: Apache-2.0
"""The stored curve from recall to (width, rerank, slack), and how `search(recall=...)` reads it."""

from __future__ import annotations

import math

import numpy as np

from bigrain._results import TuneReport

# k, width, rerank (0: the default of a search), recall, slack (infinity: none).
Row = tuple[int, int, int, float, float]
Setting = tuple[int, int, float]  # width, rerank, slack


def front(rows: list[Row], costs: list[float]) -> list[Row]:
    """Return the rows that no cheaper one reaches, cheapest and lowest recall first."""
    kept: list[Row] = []
    for _, row in sorted(zip(costs, rows, strict=True), key=lambda pair: (pair[0], -pair[1][3])):
        if not kept or row[3] > kept[-1][3]:
            kept.append(row)
    return kept


def merge_rows(rows: list[Row], report: TuneReport) -> list[Row]:
    """Replace the curve of the report's k."""
    kept = [row for row in rows if row[0] != report.k]
    return sorted(kept + [(report.k, *point) for point in report.curve])


def setting_for(rows: list[Row], k: int, wanted: float) -> Setting:
    """Return the setting that the stored curve gives for recall@k.

    The curve of a larger k serves a smaller one: its last neighbours are the harder ones. Only
    settings that nothing cheaper beats are stored, so the least recall that suffices is the
    cheapest.
    """
    usable = [row[0] for row in rows if row[0] >= k]
    if not usable:
        state = "has no calibrated curve" if not rows else "has curves only for smaller k"
        raise ValueError(
            f"recall: the index {state}; call index.tune(k={k}, recall={wanted}) first, "
            "or pass width="
        )
    curve = sorted((row for row in rows if row[0] == min(usable)), key=lambda row: (row[3], row))
    wanted = float(np.float32(wanted))  # stored recalls are float32
    above = next((i for i, row in enumerate(curve) if row[3] >= wanted), None)
    if above is None:
        raise ValueError(
            f"recall: the calibrated curve ends at {curve[-1][3]:.4f}; call "
            f"index.tune(k={k}, recall={wanted:.6g}), or pass width="
        )
    return _between(curve[max(0, above - 1)], curve[above], wanted)


def _between(low: Row, high: Row, wanted: float) -> Setting:
    """Return the setting between two measured ones.

    Recall is taken to rise linearly with the logarithms of width, rerank and slack; the curve is
    concave there, so that errs to the wide side. Where one of them falls along the curve, or has no
    number, nothing is known of what lies between.
    """
    (_, *lower, low_recall, low_slack), (_, *upper, recall, slack) = low, high
    pairs = list(zip((*lower, low_slack), (*upper, slack), strict=True))
    known = all((a > 0) == (b > 0) and math.isfinite(a) == math.isfinite(b) for a, b in pairs)
    if recall <= low_recall or any(a > b for a, b in pairs) or not known:
        return high[1], high[2], slack
    share = max(0.0, (wanted - low_recall) / (recall - low_recall))
    width, rerank, early = (_geometric(a, b, share) for a, b in pairs)
    return math.ceil(width), math.ceil(rerank), early


def _geometric(low: float, high: float, share: float) -> float:
    if low == high or not low:
        return high
    between: float = low * (high / low) ** share
    return min(float(high), between)
