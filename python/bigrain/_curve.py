# SPDX-License-Identifier: Apache-2.0
"""The stored curve from recall to (width, rerank), and how `search(recall=...)` reads it."""

from __future__ import annotations

import math

import numpy as np

from bigrain._results import TuneReport

Row = tuple[int, int, int, float]  # k, width, rerank (0: the default of a search), recall


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


def setting_for(rows: list[Row], k: int, wanted: float) -> tuple[int, int]:
    """Return the width and rerank that the stored curve gives for recall@k.

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


def _between(low: Row, high: Row, wanted: float) -> tuple[int, int]:
    """Return the setting between two measured ones.

    Recall is taken to rise linearly with the logarithms of width and rerank; the curve is concave
    there, so that errs to the wide side. Where one of them falls along the curve, or has no number,
    nothing is known of what lies between.
    """
    _, low_width, low_rerank, low_recall = low
    _, width, rerank, recall = high
    known = (low_rerank > 0) == (rerank > 0)
    if recall <= low_recall or low_width > width or low_rerank > rerank or not known:
        return width, rerank
    share = max(0.0, (wanted - low_recall) / (recall - low_recall))
    return _geometric(low_width, width, share), _geometric(low_rerank, rerank, share)


def _geometric(low: int, high: int, share: float) -> int:
    return min(high, math.ceil(low * (high / low) ** share)) if low else high
