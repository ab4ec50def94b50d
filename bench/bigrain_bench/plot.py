# SPDX-License-Identifier: Apache-2.0
"""The picture of a run: recall on x, queries per second on a log y, the Pareto front only."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from bigrain_bench.pareto import Point, front
from bigrain_bench.report import OURS

OUR_COLOUR = "#d1495b"
# Calm hues that stay apart in print and for the colour-blind.
PEER_COLOURS = ("#2e4057", "#3a86a8", "#6a994e", "#8d6b94", "#c18c5d", "#5f6b6d", "#84a59d")
INK, FAINT = "#22262b", "#d9dde1"
TICKS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
LEGEND_INSIDE = 4  # curves
FULL = 0.9995  # where a measured recall of 1 is drawn: the axis has no 1


def draw(report: dict[str, Any], path: Path) -> None:
    """Writes the picture as PNG or SVG, by the suffix. Needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    curves = _curves(report)
    style: Any = {"font.family": "DejaVu Sans", "text.color": INK, "axes.edgecolor": FAINT}
    with matplotlib.rc_context({**style, "xtick.color": INK, "ytick.color": INK}):
        # A legend of few lines lies in the empty corner, a longer one below the axes.
        below = 0.11 * len(curves) if len(curves) > LEGEND_INSIDE else 0
        figure, axes = pyplot.subplots(figsize=(8, 4.8 + below), dpi=200)
        for name, (points, colour, note) in curves.items():
            _curve(axes, name, points, colour, note)
        _axes(axes, [points for points, _, _ in curves.values()])
        _words(figure, axes, report)
        _legend(figure, axes)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, facecolor="white")
        pyplot.close(figure)


def _curves(report: dict[str, Any]) -> dict[str, tuple[list[Point], str, str]]:
    """Per engine its front, colour and a note; ours last, so that it is drawn on top."""
    rows = [row for row in report["engines"] if row["points"]]
    rows.sort(key=lambda row: row["name"] == OURS)
    peers = [row["name"] for row in rows if row["name"] != OURS]
    found = {}
    for row in rows:
        points = front((point["recall"], point["qps"]) for point in row["points"])
        ours = row["name"] == OURS
        colour = OUR_COLOUR if ours else PEER_COLOURS[peers.index(row["name"]) % len(PEER_COLOURS)]
        note = f"built in {row['build_seconds']:.1f} s, {row['bytes_per_vector']:,.0f} B/vector"
        found[row["name"]] = (points, colour, note)
    return found


def place(recall: float) -> float:
    """The axis: each step to the right divides the share of missed neighbours."""
    return -math.log10(1 - min(recall, FULL))


def _curve(axes: Any, name: str, points: list[Point], colour: str, note: str) -> None:
    ours = name == OURS
    axes.plot(
        [place(recall) for recall, _ in points],
        [qps for _, qps in points],
        color=colour,
        linewidth=2.8 if ours else 1.5,
        marker="o",
        markersize=5 if ours else 3.2,
        markeredgecolor="white",
        markeredgewidth=0.7 if ours else 0.4,
        zorder=3 if ours else 2,
        label=f"{name}  ({note})",
    )
    # Above its fast end, where curves lie farthest apart, each curve bears its name.
    axes.annotate(
        name,
        (place(points[0][0]), points[0][1]),
        xytext=(1, 7),
        textcoords="offset points",
        color=colour,
        fontsize=10.5 if ours else 9,
        weight="bold" if ours else "normal",
        zorder=4,
    )


def _axes(axes: Any, curves: list[list[Point]]) -> None:
    recalls = [recall for points in curves for recall, _ in points]
    speeds = [qps for points in curves for _, qps in points]
    low = max(min(recalls, default=0.5), TICKS[0])
    left = max((tick for tick in TICKS if tick <= low), default=TICKS[0])
    axes.set_xlim(max(place(left), place(low) - 0.15), place(FULL) + 0.05)
    shown = [tick for tick in TICKS if tick >= left]
    axes.set_xticks([place(tick) for tick in shown], [f"{tick:g}" for tick in shown])
    axes.set_yscale("log")
    if speeds:
        axes.set_ylim(min(speeds) / 1.25, max(speeds) * 1.9)
    axes.yaxis.set_major_locator(_log_locator())
    axes.yaxis.set_major_formatter(lambda value, _: _thousands(value))
    axes.yaxis.set_minor_formatter(lambda *_: "")
    axes.grid(visible=True, which="major", color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0, labelsize=9)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _log_locator() -> Any:
    from matplotlib.ticker import LogLocator

    return LogLocator(base=10, subs=(1, 2, 5), numticks=20)


def _thousands(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def _words(figure: Any, axes: Any, report: dict[str, Any]) -> None:
    data, options = report["data"], report["options"]
    threads = options["threads"]
    figure.subplots_adjust(left=0.085, right=0.975, top=0.845, bottom=0.115)
    left = axes.get_position().x0
    figure.text(left, 0.945, "Queries per second at a given recall", fontsize=13, weight="bold")
    figure.text(
        left,
        0.892,
        f"{data['name']}, {data['rows']:,} vectors of {data['dim']} dimensions, {data['metric']}; "
        f"{threads} thread{'s' if threads != 1 else ''}; up and to the right is better",
        fontsize=9,
        color="#5c636a",
    )
    axes.set_xlabel(f"recall@{options['k']} (by distance)", fontsize=9.5)


def _legend(figure: Any, axes: Any) -> None:
    """Ours first, then the peers as they were named."""
    handles, labels = axes.get_legend_handles_labels()
    handles, labels = handles[-1:] + handles[:-1], labels[-1:] + labels[:-1]
    if len(handles) <= LEGEND_INSIDE:
        box = axes.legend(handles, labels, loc="lower left", fontsize=9, framealpha=0.9)
        box.get_frame().set_edgecolor("none")
        return
    rows = (len(handles) + 1) // 2
    figure.subplots_adjust(bottom=0.115 + 0.037 * rows)
    left = axes.get_position().x0 - 0.015
    figure.legend(
        handles,
        labels,
        loc="lower left",
        bbox_to_anchor=(left, 0.01),
        fontsize=9,
        ncols=2,
        frameon=False,
        columnspacing=3,
    )
