# SPDX-License-Identifier: Apache-2.0
"""The picture of a run from disk: recall against reads, and against latency."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bigrain_bench.plot import FAINT, FULL, INK, OUR_COLOUR, PEER_COLOURS, TICKS, place
from bigrain_bench.report import OURS

PANELS = (("ios", "reads of 4 KiB per query"), ("mean_ms", "mean latency of a query, ms"))


def draw(report: dict[str, Any], path: Path) -> None:
    """Writes the picture as PNG or SVG, by the suffix. Needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    style: Any = {"font.family": "DejaVu Sans", "text.color": INK, "axes.edgecolor": FAINT}
    with matplotlib.rc_context({**style, "xtick.color": INK, "ytick.color": INK}):
        figure, both = pyplot.subplots(1, 2, figsize=(10, 4.6), dpi=200)
        for axes, (key, label) in zip(both, PANELS, strict=True):
            _panel(axes, report, key)
            axes.set_title(label, fontsize=10, loc="left", color=INK)
            axes.set_xlabel(f"recall@{report['options']['k']} (by distance)", fontsize=9.5)
        both[0].legend(fontsize=9, framealpha=0.9, loc="upper left", edgecolor="none")
        _words(figure, report)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, facecolor="white")
        pyplot.close(figure)


def _panel(axes: Any, report: dict[str, Any], key: str) -> None:
    rows = sorted((row for row in report["engines"] if row["points"]), key=_ours_last)
    low = min((point["recall"] for row in rows for point in row["points"]), default=TICKS[0])
    left = max((tick for tick in TICKS if tick <= low), default=TICKS[0])
    for number, row in enumerate(rows):
        ours = row["name"] == OURS
        points = sorted((point["recall"], point[key]) for point in row["points"])
        axes.plot(
            [place(recall) for recall, _ in points],
            [value for _, value in points],
            color=OUR_COLOUR if ours else PEER_COLOURS[number % len(PEER_COLOURS)],
            linewidth=2.6 if ours else 1.5,
            marker="o",
            markersize=4.5 if ours else 3.2,
            markeredgecolor="white",
            label=f"{row['name']}  ({row['resident_per_vector']:,.0f} B/vector resident)",
        )
    shown = [tick for tick in TICKS if tick >= left]
    axes.set_xlim(place(left), place(FULL) + 0.05)
    axes.set_xticks([place(tick) for tick in shown], [f"{tick:g}" for tick in shown])
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0, labelsize=8.5)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _ours_last(row: dict[str, Any]) -> bool:
    return bool(row["name"] == OURS)


def _words(figure: Any, report: dict[str, Any]) -> None:
    data, threads = report["data"], report["options"]["threads"]
    figure.subplots_adjust(left=0.055, right=0.985, top=0.8, bottom=0.12, wspace=0.12)
    figure.text(0.055, 0.94, "From disk: less is better", fontsize=13, weight="bold")
    figure.text(
        0.055,
        0.885,
        f"{data['name']}, {data['rows']:,} vectors of {data['dim']} dimensions, {data['metric']}; "
        f"{threads} thread{'s' if threads != 1 else ''}, memory {report['disk']['memory']}",
        fontsize=9,
        color="#5c636a",
    )
