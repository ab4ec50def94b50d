# SPDX-License-Identifier: Apache-2.0
"""Runs engines that answer from disk: build, then recall and reads, then speed and latency in turn.

As in memory (measure.py), except that a second process answers, which has not built; that the
kernel's count of the bytes it read (/proc/self/io) is the one ruler of reads, in units of 4 KiB;
and that the device is measured by fio in each round, so that shares of it are of the same minute.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bigrain_bench import fio
from bigrain_bench.datasets import Dataset
from bigrain_bench.measure import (
    ENOUGH,
    Measured,
    Options,
    Plan,
    fail_without_points,
    open_engine,
    try_setting,
    warm_up,
    write_inputs,
)
from bigrain_bench.pareto import front
from bigrain_bench.truth import Truth

READ = 4096
# The stamp of built files, by which a later run knows that they are what it would build.
STAMP = "built.json"
# Points timed per engine at most, spread over the front.
TIMED = 12
QUANTILES = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
Say = Callable[[str], None]
Point = dict[str, Any]


@dataclass
class DiskRun:
    """Engines with their points, and what fio saw in each round."""

    engines: list[Measured]
    device: list[fio.Device] = field(default_factory=list)


@dataclass(frozen=True)
class DiskOptions:
    """What a run from disk has beside `Options`."""

    memory: str = "min"
    folder: Path | None = None  # where files stay for the next run; None: a temporary folder
    depth: int = 32  # of fio
    singles: int = 1000  # single queries whose latencies are taken, per point and round


def measure(
    data: Dataset, truth: Truth, plans: list[Plan], options: Options, disk: DiskOptions, say: Say
) -> DiskRun:
    """Measures all of `plans`; an engine that fails is reported and left out."""
    run = DiskRun([Measured(plan) for plan in plans])
    with tempfile.TemporaryDirectory(prefix="bigrain-bench-") as name:
        scratch = Path(name)
        write_inputs(data, scratch)
        try:
            for engine in run.engines:
                folder = (disk.folder or scratch) / data.name / engine.plan.name
                prepare(engine, data, options, folder, scratch, say)
            for engine in run.engines:
                _trace(engine, data, truth, options, scratch, say)
            _time_rounds(run, options, disk, say)
        finally:
            for engine in run.engines:
                engine.close()
    for engine in run.engines:
        if engine.error:
            say(f"left out: {engine.error}")
    return run


def prepare(
    engine: Measured, data: Dataset, options: Options, folder: Path, scratch: Path, say: Say
) -> None:
    """Builds the files in one process, unless they are there, and opens them in another."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = {name: value for name, value in engine.plan.params.items() if name != "memory"}
    vectors = Dataset(data.name, data.base, data.base[:0], data.metric)  # whatever is asked
    wanted = {"params": chosen, "data": vectors.digest(), "metric": data.metric}
    engine.plan.params["folder"] = str(folder.resolve())
    built = _stamped(folder, wanted)
    if built is None:
        for left in folder.iterdir():
            left.unlink()
        open_engine(engine, data, scratch)
        if (built := engine.ask("build", threads=options.build_threads)) is None:
            return
        engine.close()
        built["threads"] = options.build_threads
        (folder / STAMP).write_text(json.dumps({**wanted, "built": built}), encoding="utf-8")
    open_engine(engine, data, scratch)
    loaded = engine.ask("load", threads=options.threads, k=options.k)
    if loaded is None:
        return
    engine.builds.append({**built, **loaded})
    resident = loaded["resident_bytes"] / len(data.base)
    say(f"{engine.plan.name}: built in {built['seconds']:.1f} s, resident {resident:,.0f} B/vector")


def _stamped(folder: Path, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """What was noted of a build of just these files, if there was one."""
    try:
        stamp: dict[str, Any] = json.loads((folder / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    built: dict[str, Any] | None = stamp.pop("built", None)
    return built if stamp == wanted else None


def _trace(
    engine: Measured, data: Dataset, truth: Truth, options: Options, scratch: Path, say: Say
) -> None:
    """Recall, reads and a rough speed of each setting; what is on no front goes."""
    asked = engine.ask("settings", k=options.k)
    settings: list[dict[str, float]] = asked["settings"] if asked else []
    if options.widths:
        settings = [setting for setting in settings if setting["width"] in options.widths]
    warm_up(engine, settings, options)
    for setting in settings:
        point = try_setting(engine, setting, data, truth, options, scratch)
        if point is None:
            continue
        engine.points.append({**point, "latencies": []})
        if point["recall"] >= ENOUGH and setting.keys() == {"width"}:
            break
    engine.points = spread(worthy(engine.points))
    fail_without_points(engine)
    if engine.points:
        say(f"{engine.plan.name}: {len(engine.points)} points to be timed")


def worthy(points: list[Point]) -> list[Point]:
    """The points that no other beats in recall and rough speed, by rising recall."""
    kept = set(front((point["recall"], point["rough_qps"]) for point in points))
    found = [point for point in points if (point["recall"], point["rough_qps"]) in kept]
    return sorted(found, key=lambda point: float(point["recall"]))


def spread(points: list[Point], most: int = TIMED) -> list[Point]:
    """At most `most` of them, the ends among them."""
    if len(points) <= most:
        return points
    return [points[at * (len(points) - 1) // (most - 1)] for at in range(most)]


def _time_rounds(run: DiskRun, options: Options, disk: DiskOptions, say: Say) -> None:
    longest = max((len(engine.points) for engine in run.engines), default=0)
    for number in range(options.rounds):
        file = next((engine.builds[-1]["file"] for engine in run.engines if engine.points), None)
        device = fio.measure(Path(file), disk.depth, options.threads) if file else None
        if device:
            run.device.append(device)
        for at in range(longest):
            for engine in run.engines:
                if at < len(engine.points):
                    _time_point(engine, engine.points[at], options, disk)
        say(f"round {number + 1} of {options.rounds} done")
    for engine in run.engines:
        for point in engine.points:
            summarise(point, options)


def _time_point(engine: Measured, point: Point, options: Options, disk: DiskOptions) -> None:
    ask: dict[str, Any] = {"k": options.k, "setting": point["setting"]}
    found = engine.ask("search", **ask, threads=options.threads, seconds=options.seconds, save=None)
    single = engine.ask("latencies", **ask, queries=disk.singles)
    if found is None or single is None:
        return
    point["rounds"].append(found["qps"])
    point["cpu_rounds"].append(found["cpu_qps"])
    point.setdefault("read_rounds", []).append(found["read_bytes"])
    point["latencies"].append(latency(single["seconds"]))


def latency(seconds: list[float]) -> dict[str, float]:
    """Mean and quantiles, in milliseconds; a quantile is a value that occurred."""
    ordered = sorted(seconds)
    last = len(ordered) - 1
    found = {name: ordered[round(share * last)] * 1e3 for name, share in QUANTILES.items()}
    return {"mean": statistics.fmean(ordered) * 1e3, **found}


def summarise(point: Point, options: Options) -> None:
    """The medians of the rounds of a point."""
    if not point["rounds"]:
        return
    point["qps"] = statistics.median(point["rounds"])
    point["cpu_us"] = 1e6 * options.threads / statistics.median(point["cpu_rounds"])
    point["bytes"] = statistics.median(point["read_rounds"])
    point["ios"] = point["bytes"] / READ
    for name in ("mean", *QUANTILES):
        point[f"{name}_ms"] = statistics.median(each[name] for each in point["latencies"])
