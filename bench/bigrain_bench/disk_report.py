# SPDX-License-Identifier: Apache-2.0
"""A run from disk as a document and as a table, with the columns that DiskANN prints."""

from __future__ import annotations

import dataclasses
import statistics
from itertools import pairwise
from typing import Any

from bigrain_bench.datasets import Dataset
from bigrain_bench.disk import DiskOptions, DiskRun
from bigrain_bench.engines import DISK
from bigrain_bench.measure import Measured, Options
from bigrain_bench.pareto import front
from bigrain_bench.report import OURS, aligned, built, head

TARGETS = (0.90, 0.95, 0.99)
# key, heading, format, and whether less of it is better
COLUMNS = (
    ("qps", "QPS", ",.0f"),
    ("mean_ms", "mean ms", ".2f"),
    ("p99_ms", "p99 ms", ".2f"),
    ("p999_ms", "p99.9 ms", ".2f"),
    ("ios", "IOs", ".1f"),
    ("bytes", "bytes", ",.0f"),
    ("cpu_us", "CPU us", ",.0f"),
    ("share", "of device", ".0%"),
)
READ_RULE = (
    "IOs: bytes that the process had read, by /proc/self/io, over 4,096 and queries; of device: "
    "IOs times QPS over fio's random reads of 4 KiB at `depth` in each of `threads` processes"
)
Row = dict[str, Any]


def document(data: Dataset, run: DiskRun, options: Options, disk: DiskOptions) -> Row:
    """Everything about a run, ready for json.dump."""
    iops = statistics.median(each.iops for each in run.device) if run.device else None
    rows = [_engine(engine, len(data.base), iops) for engine in run.engines]
    return {
        **head(data, options),
        "disk": {**dataclasses.asdict(disk), "folder": str(disk.folder or "")},
        "read_rule": READ_RULE,
        "device": {"iops": iops, "rounds": [each._asdict() for each in run.device]},
        "engines": rows,
        "ratios": ratios(rows),
    }


def _engine(engine: Measured, rows: int, iops: float | None) -> Row:
    found: Row = {
        "name": engine.plan.name.removesuffix(DISK),
        "error": engine.error,
        **engine.about,
    }
    if engine.builds:
        last = engine.builds[-1]
        found |= built(engine, rows)
        found |= {key: last[key] for key in ("memory_bytes", "load_seconds", "threads")}
        found["resident_per_vector"] = last["resident_bytes"] / rows
        found["memory_per_vector"] = last["memory_bytes"] / rows
    points = [point for point in engine.points if "qps" in point]
    for point in points:
        point["share"] = point["ios"] * point["qps"] / iops if iops else None
    found["points"] = points
    found["at"] = {f"{target:.2f}": at(points, target) for target in TARGETS}
    return found


def at(points: list[Row], target: float) -> Row | None:
    """Every column at a recall: linear in recall between two neighbours on the front of speed."""
    kept = set(front((point["recall"], point["qps"]) for point in points))
    curve = [point for point in points if (point["recall"], point["qps"]) in kept]
    curve.sort(key=lambda point: float(point["recall"]))
    if not curve or curve[-1]["recall"] < target:
        return None
    if target <= curve[0]["recall"]:
        return {key: curve[0][key] for key, _, _ in COLUMNS}
    low, high = next(pair for pair in pairwise(curve) if pair[1]["recall"] >= target)
    share = (target - low["recall"]) / (high["recall"] - low["recall"])
    return {
        key: None if low[key] is None else low[key] * (1 - share) + high[key] * share
        for key, _, _ in COLUMNS
    }


def ratios(rows: list[Row]) -> dict[str, dict[str, Row]]:
    """Ours over each peer's, per recall that both reach."""
    ours = next((row for row in rows if row["name"] == OURS), None)
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        if ours is None or row is ours:
            continue
        found[row["name"]] = {
            target: {
                key: ours["at"][target][key] / theirs[key] if theirs[key] else None
                for key, _, _ in COLUMNS
                if key != "share"
            }
            for target, theirs in row["at"].items()
            if theirs and ours["at"][target]
        }
    return found


def table(report: Row) -> str:
    """Per engine its points, then all engines at the recalls that matter."""
    data, options, device = report["data"], report["options"], report["device"]
    threads = options["threads"]
    title = (
        f"{data['name']}: {data['rows']:,} x {data['dim']}, {data['metric']}, "
        f"{data['queries']:,} queries, recall@{options['k']} by distance, "
        f"{threads} search thread{'s' if threads != 1 else ''}, memory {report['disk']['memory']}"
    )
    if device["iops"]:
        depth = f"{device['rounds'][0]['depth']} x {device['rounds'][0]['jobs']}"
        title += f"\ndevice: {device['iops']:,.0f} reads of 4 KiB per second at depth {depth} (fio)"
    else:
        title += "\ndevice: not measured; it needs fio"
    parts = [title]
    parts += [_points(row) for row in report["engines"] if row["points"]]
    return "\n\n".join([*parts, _summary(report)])


def _points(row: Row) -> str:
    threads = f"{row['threads']} thread{'s' if row['threads'] != 1 else ''}"
    resident = (
        f"resident {row['resident_per_vector']:,.0f} B/vector "
        f"({row['memory_per_vector']:,.0f} by its own account), built in "
        f"{row['build_seconds']:.1f} s on {threads}, "
        f"{row['bytes_per_vector']:,.0f} B/vector on disk"
    )
    heads = ["setting", "recall", *(heading for _, heading, _ in COLUMNS)]
    lines = [
        [
            " ".join(f"{name} {value}" for name, value in point["setting"].items()),
            f"{point['recall']:.4f}",
            *(_cell(point[key], style) for key, _, style in COLUMNS),
        ]
        for point in row["points"]
    ]
    return f"{row['name']}: {resident}\n" + aligned([heads, *lines])


def _summary(report: Row) -> str:
    lines = [["at recall", "", *(heading for _, heading, _ in COLUMNS)]]
    for target in (f"{target:.2f}" for target in TARGETS):
        for row in report["engines"]:
            found = row.get("at", {}).get(target) or {}
            cells = [_cell(found.get(key), style) for key, _, style in COLUMNS]
            lines.append([target, row["name"], *cells])
        for name, by_target in report["ratios"].items():
            if found := by_target.get(target):
                cells = [_cell(found.get(key), ".2f") for key, _, _ in COLUMNS]
                lines.append([target, f"{OURS} / {name}", *cells])
    return aligned(lines)


def _cell(value: float | None, style: str) -> str:
    return "-" if value is None else format(value, style)
