# SPDX-License-Identifier: Apache-2.0
"""A run as one JSON document and as a table."""

from __future__ import annotations

import dataclasses
import json
import statistics
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bigrain_bench import machine
from bigrain_bench.datasets import Dataset
from bigrain_bench.measure import Measured, Options
from bigrain_bench.pareto import qps_at

OURS = "bigrain"
TARGETS = (0.90, 0.95, 0.99)
RECALL_RULE = (
    "recall@k by distance: a returned row counts when its exact distance is at most the true "
    "k-th distance, so that exact ties count; id_recall counts the rows of one ground truth"
)


def document(data: Dataset, engines: list[Measured], options: Options) -> dict[str, Any]:
    """Everything about a run, ready for json.dump."""
    rows = [_engine(engine, len(data.base)) for engine in engines]
    return {**head(data, options), "engines": rows, "ratios": _ratios(rows)}


def head(data: Dataset, options: Options) -> dict[str, Any]:
    """What every document says of machine, data and rules."""
    return {
        "format": 1,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "data": {
            "name": data.name,
            "rows": data.base.shape[0],
            "dim": data.base.shape[1],
            "queries": data.queries.shape[0],
            "metric": data.metric,
            "sha256": data.digest(),
        },
        "options": dataclasses.asdict(options),
        "recall_rule": RECALL_RULE,
        "timing_rule": "one call for the whole batch; median over alternating rounds",
    }


def _engine(engine: Measured, rows: int) -> dict[str, Any]:
    """One engine's part of the document."""
    found: dict[str, Any] = {"name": engine.plan.name, "error": engine.error, **engine.about}
    if engine.builds:
        found |= built(engine, rows)
    timed = [point for point in engine.points if "qps" in point]
    curve = [(point["recall"], point["qps"]) for point in timed]
    found["points"] = timed
    found["qps_at"] = {f"{target:.2f}": qps_at(curve, target) for target in TARGETS}
    return found


def built(engine: Measured, rows: int) -> dict[str, Any]:
    """Time and memory of its builds. Memory is told by the first: later ones reuse it."""
    seconds = [each["seconds"] for each in engine.builds]
    first = engine.builds[0]
    return {
        "build_seconds": statistics.median(seconds),
        "build_rounds": seconds,
        "build_cpu_seconds": statistics.median(each["cpu_seconds"] for each in engine.builds),
        "index_bytes": first["index_bytes"],
        "bytes_per_vector": first["index_bytes"] / rows,
        "resident_bytes": first["resident_bytes"],
    }


def _ratios(rows: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Ours over each peer's: above 1 is faster for QPS, below 1 is better for time and bytes."""
    ours = next((row for row in rows if row["name"] == OURS), None)
    found: dict[str, dict[str, float | None]] = {}
    for row in rows:
        if ours is None or row is ours:
            continue
        found[row["name"]] = {
            key: _over(ours.get(key), row.get(key))
            for key in ("build_seconds", "index_bytes", "resident_bytes")
        } | {f"qps@{at}": _over(ours["qps_at"][at], qps) for at, qps in row["qps_at"].items()}
    return found


def _over(ours: float | None, theirs: float | None) -> float | None:
    return ours / theirs if ours and theirs else None


def write(report: dict[str, Any], path: Path) -> None:
    """One JSON file per run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def table(report: dict[str, Any]) -> str:
    """The figures for a terminal; "-" where a recall was not reached or nothing is known."""
    data, options = report["data"], report["options"]
    heads = ["", "build s", "B/vector", "resident MB"]
    heads += [f"QPS @{target:.2f}" for target in TARGETS]
    rows = [
        [
            row["name"],
            _number(row.get("build_seconds"), ".2f"),
            _number(row.get("bytes_per_vector"), ",.0f"),
            _number(row.get("resident_bytes"), ",.0f", 1e-6),
            *(_number(qps, ",.0f") for qps in row["qps_at"].values()),
        ]
        for row in report["engines"]
    ]
    for name, ratio in report["ratios"].items():
        rows.append([f"{OURS} / {name}"] + [_number(value, ".2f") for value in ratio.values()])
    title = (
        f"{data['name']}: {data['rows']:,} x {data['dim']}, {data['metric']}, "
        f"{data['queries']:,} queries, recall@{options['k']} by distance, "
        f"{options['threads']} search and {options['build_threads']} build "
        f"thread{'s' if options['build_threads'] != 1 else ''}"
    )
    return title + "\n" + aligned([heads, *rows])


def sweep(report: dict[str, Any]) -> str:
    """Recall and speed of each width, engines side by side; only where the width is what varies."""
    curves = {
        row["name"]: {point["setting"].get("width"): point for point in row["points"]}
        for row in report["engines"]
    }
    widths = sorted({width for points in curves.values() for width in points if width})
    rows = [["width", *(part for name in curves for part in (name, "QPS"))]]
    for width in widths:
        cells = [str(width)]
        for points in curves.values():
            point = points.get(width, {})
            cells += [_number(point.get("recall"), ".4f"), _number(point.get("qps"), ",.0f")]
        rows.append(cells)
    return aligned(rows)


def _number(value: float | None, style: str, scale: float = 1) -> str:
    return "-" if value is None else format(value * scale, style)


def aligned(rows: list[list[str]]) -> str:
    """Columns: the first to the left, the others to the right."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
