# SPDX-License-Identifier: Apache-2.0
"""A tuned run as one JSON document and as a table per recall."""

from __future__ import annotations

import statistics
from typing import Any

from bigrain_bench import report
from bigrain_bench.datasets import Dataset
from bigrain_bench.grid import Point, Tuned
from bigrain_bench.measure import Measured, Options, timed_rounds
from bigrain_bench.pareto import qps_at

OURS = report.OURS
RULE = (
    "per engine and recall the best of its configurations, speed taken on the curve of that "
    "configuration alone; ratios are medians over rounds, ours and the peer's of one round each"
)


def document(data: Dataset, tuned: Tuned, options: Options) -> dict[str, Any]:
    """Everything about a tuned run, ready for json.dump."""
    return {
        **report.head(data, options),
        "grid_rule": RULE,
        "configurations": [_configuration(engine, len(data.base)) for engine in tuned.engines],
        "targets": {f"{target:.2f}": _compared(tuned, target, options) for target in tuned.chosen},
    }


def _configuration(engine: Measured, rows: int) -> dict[str, Any]:
    found = {"name": engine.plan.name, "chosen": engine.plan.params, "error": engine.error}
    found |= engine.about
    if engine.builds:
        found |= report.built(engine, rows)
    return found | {"points": engine.points}


def _compared(tuned: Tuned, target: float, options: Options) -> list[dict[str, Any]]:
    """The engines at one recall, fastest first."""
    best: dict[str, dict[str, Any]] = {}
    for engine, points in tuned.chosen[target]:
        row = _row(tuned, engine, points, target, options)
        name = engine.plan.name
        if row and (name not in best or row["qps"] > best[name]["qps"]):
            best[name] = row
    ours = best.get(OURS)
    for row in best.values():
        row["ours_over_it"] = _ratio(ours, row) if ours and row is not ours else None
    return sorted(best.values(), key=lambda row: -float(row["qps"]))


def _row(
    tuned: Tuned, engine: Measured, points: list[Point], target: float, options: Options
) -> dict[str, Any] | None:
    """One engine's figures at a recall; None where the timed points do not reach it."""
    timed = [point for point in points if "qps" in point]
    qps = qps_at([(point["recall"], point["qps"]) for point in timed], target)
    if qps is None:
        return None
    # The setting that is named is the fastest that reaches the recall.
    reaching = [point for point in timed if point["recall"] >= target]
    point = max(reaching, key=lambda point: float(point["qps"]))
    rounds = [
        qps_at([(p["recall"], timed_rounds(p, options)[at]) for p in timed], target)
        for at in range(min(len(timed_rounds(p, options)) for p in timed))
    ]
    at = next(at for at, other in enumerate(tuned.engines) if other is engine)
    first = engine.builds[0]
    return {
        "name": engine.plan.name,
        "qps": qps,
        "rounds": rounds,
        "configuration": at,
        "chosen": engine.plan.params,
        "setting": point["setting"],
        "recall": point["recall"],
        "id_recall": point["id_recall"],
        "build_seconds": first["seconds" if options.clock == "wall" else "cpu_seconds"],
        "index_bytes": first["index_bytes"],
        "resident_bytes": first["resident_bytes"],
    }


def _ratio(ours: dict[str, Any], peer: dict[str, Any]) -> dict[str, float]:
    each = [a / b for a, b in zip(ours["rounds"], peer["rounds"], strict=False)]
    return {"median": statistics.median(each), "least": min(each), "greatest": max(each)}


def table(found: dict[str, Any]) -> str:
    """The figures for a terminal: one table per recall, and ours over the best peer."""
    data, options = found["data"], found["options"]
    parts = [
        f"{data['name']}: {data['rows']:,} x {data['dim']}, {data['metric']}, "
        f"{data['queries']:,} queries, k {options['k']}, search threads {options['threads']}, "
        f"build threads {options['build_threads']}, {options['rounds']} rounds, "
        f"{options['clock']} clock"
    ]
    rows = found["configurations"]
    parts += [f"left out: {row['error']}" for row in rows if row["error"]]
    for target, engines in found["targets"].items():
        parts += ["", f"recall {target}", report.aligned([HEADS, *map(_cells, engines)])]
        peers = [row for row in engines if row["name"] != OURS]
        if peers and len(peers) < len(engines):
            ratio = peers[0]["ours_over_it"]
            parts.append(
                f"best peer {peers[0]['name']}: {OURS} / {peers[0]['name']} {ratio['median']:.2f} "
                f"[{ratio['least']:.2f}, {ratio['greatest']:.2f}]"
            )
    return "\n".join(parts)


HEADS = ["", "QPS", "ours / it", "recall", "by id", "build s", "MB", "resident MB", "with"]


def _cells(row: dict[str, Any]) -> list[str]:
    ratio = row["ours_over_it"]
    pairs = {**row["chosen"], **row["setting"]}
    return [
        row["name"],
        f"{row['qps']:,.0f}",
        f"{ratio['median']:.2f}" if ratio else "",
        f"{row['recall']:.4f}",
        f"{row['id_recall']:.4f}",
        f"{row['build_seconds']:.1f}",
        f"{row['index_bytes'] / 1e6:,.0f}",
        f"{row['resident_bytes'] / 1e6:,.0f}",
        " ".join(f"{name}={value}" for name, value in pairs.items()),
    ]
