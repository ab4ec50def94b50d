# SPDX-License-Identifier: Apache-2.0
"""Runs the engines in turn: build, then recall, then speed in alternating rounds.

Speed: for each point of the curves in turn every engine is asked the whole batch in one call, with
the stated number of threads, for at least the stated time; then the next round begins. What is
reported is the median over rounds, and every round's figure is kept.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bigrain_bench.datasets import Dataset
from bigrain_bench.remote import EngineError, Remote
from bigrain_bench.truth import Truth, recall

# A curve ends where recall does: wider searches would only repeat the last point, slower.
ENOUGH = 0.9995
# A point slower than another of no less recall by this factor cannot be on the front.
HOPELESS = 0.7


@dataclass(frozen=True)
class Options:
    """How a run is done."""

    k: int = 10
    rounds: int = 5
    seconds: float = 0.2  # least time of one timed measurement
    threads: int = 1
    build_threads: int = 2
    build_rounds: int = 1
    widths: tuple[int, ...] = ()  # instead of each engine's own; only where "width" is the setting
    clock: str = "wall"  # "cpu": processor time of the worker, for one thread on a shared machine


@dataclass
class Plan:
    """An engine to measure."""

    name: str
    params: dict[str, Any] = field(default_factory=dict)
    python: str | None = None


@dataclass
class Measured:
    """What is known of one engine so far. `points` holds one entry per setting."""

    plan: Plan
    remote: Remote | None = None
    about: dict[str, Any] = field(default_factory=dict)
    builds: list[dict[str, Any]] = field(default_factory=list)
    points: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None
    refused: str | None = None  # why the last setting that was not taken was not

    @property
    def label(self) -> str:
        """Name and chosen parameters: "hnswlib M=16"."""
        chosen = " ".join(f"{name}={value}" for name, value in self.plan.params.items())
        return f"{self.plan.name} {chosen}".rstrip()

    def ask(self, verb: str, **arguments: Any) -> dict[str, Any] | None:
        """The worker's answer; None once the engine has failed."""
        if self.remote is None:
            return None
        try:
            return self.remote.ask(verb, **arguments)
        except EngineError as error:
            self.fail(error)
            return None

    def fail(self, error: Exception) -> None:
        self.error = str(error)
        self.close()

    def close(self) -> None:
        if self.remote is not None:
            self.remote.close()
            self.remote = None


def measure(
    data: Dataset,
    truth: Truth,
    plans: list[Plan],
    options: Options,
    say: Callable[[str], None],
) -> list[Measured]:
    """Measures all of `plans` on one data set; a peer that fails is reported and left out."""
    engines = [Measured(plan) for plan in plans]
    with tempfile.TemporaryDirectory(prefix="bigrain-bench-") as name:
        folder = Path(name)
        try:
            write_inputs(data, folder)
            for engine in engines:
                open_engine(engine, data, folder)
            for _ in range(options.build_rounds):
                for engine in engines:
                    build(engine, data, options, say)
            for engine in engines:
                _trace_curve(engine, data, truth, options, folder, say)
            _time_rounds(engines, options, say)
        finally:
            for engine in engines:
                engine.close()
    for engine in engines:
        if engine.error:
            say(f"left out: {engine.error}")
    return engines


def write_inputs(data: Dataset, folder: Path) -> None:
    """What the workers read."""
    np.save(folder / "base.npy", data.base, allow_pickle=False)
    np.save(folder / "queries.npy", data.queries, allow_pickle=False)


def open_engine(engine: Measured, data: Dataset, folder: Path) -> None:
    """Starts the engine's worker on the files of `write_inputs`."""
    try:
        engine.remote = Remote(engine.plan.name, folder, engine.plan.python)
    except EngineError as error:
        engine.fail(error)
    about = engine.ask(
        "open",
        engine=engine.plan.name,
        params=engine.plan.params,
        metric=data.metric,
        base=str(folder / "base.npy"),
        queries=str(folder / "queries.npy"),
    )
    engine.about = about or {}


def build(engine: Measured, data: Dataset, options: Options, say: Callable[[str], None]) -> None:
    """Builds once, and keeps what it took."""
    built = engine.ask("build", threads=options.build_threads)
    if built is None:
        return
    engine.builds.append(built)
    each = built["index_bytes"] / len(data.base)
    say(f"{engine.label}: built in {built['seconds']:.2f} s, {each:,.0f} B/vector")


def try_setting(
    engine: Measured,
    setting: dict[str, float],
    data: Dataset,
    truth: Truth,
    options: Options,
    folder: Path,
    seconds: float = 0,
) -> dict[str, Any] | None:
    """One point of the curve, roughly timed; None where it was refused or the engine failed."""
    ids_file = folder / "ids.npy"
    arguments: dict[str, Any] = {"k": options.k, "setting": setting}
    found = engine.ask(
        "search", **arguments, threads=options.threads, seconds=seconds, save=str(ids_file)
    )
    if found is None:
        return None
    if "refused" in found:
        engine.refused = found["refused"]
        return None
    ids = np.load(ids_file, allow_pickle=False)
    by_distance, by_id = recall(data.base, data.queries, data.metric, ids, truth)
    cost = engine.ask("cost", **arguments) or {}
    # Of one thread processor time is steadier, and this figure only chooses among points.
    rough = found["cpu_qps" if options.threads == 1 else "qps"]
    point = {"setting": setting, "recall": by_distance, "id_recall": by_id, **cost}
    return {**point, "rough_qps": rough, "rounds": [], "cpu_rounds": []}


def _trace_curve(
    engine: Measured,
    data: Dataset,
    truth: Truth,
    options: Options,
    folder: Path,
    say: Callable[[str], None],
) -> None:
    """Recall of each setting, and a first rough speed that rules out hopeless ones."""
    asked = engine.ask("settings", k=options.k)
    settings: list[dict[str, float]] = asked["settings"] if asked else []
    if options.widths and settings and "width" in settings[0]:
        settings = [{"width": width} for width in options.widths]
    warm_up(engine, settings, options)
    for setting in settings:
        point = try_setting(engine, setting, data, truth, options, folder)
        if point is None:
            continue
        engine.points.append(point)
        if point["recall"] >= ENOUGH:
            break
    engine.points = [point for point in engine.points if not _hopeless(point, engine.points)]
    fail_without_points(engine)
    if engine.points:
        reach = max(point["recall"] for point in engine.points)
        say(f"{engine.plan.name}: {len(engine.points)} points up to recall {reach:.4f}")


def fail_without_points(engine: Measured) -> None:
    """An engine that takes none of its settings has failed."""
    if engine.refused and not engine.points:
        engine.fail(EngineError(f"{engine.label}: takes no setting: {engine.refused}"))


def warm_up(engine: Measured, settings: list[dict[str, float]], options: Options) -> None:
    """The first search after a build meets cold pages: its time is nobody's."""
    if settings:
        still = {"k": options.k, "threads": options.threads, "seconds": 0, "save": None}
        engine.ask("search", setting=settings[0], **still)


def _hopeless(point: dict[str, Any], points: list[dict[str, Any]]) -> bool:
    return any(
        other["recall"] >= point["recall"] and other["rough_qps"] * HOPELESS > point["rough_qps"]
        for other in points
    )


def _time_rounds(engines: list[Measured], options: Options, say: Callable[[str], None]) -> None:
    longest = max((len(engine.points) for engine in engines), default=0)
    for number in range(options.rounds):
        for at in range(longest):
            for engine in engines:
                if at < len(engine.points):
                    time_point(engine, engine.points[at], options)
        say(f"round {number + 1} of {options.rounds} done")
    take_medians(engines, options)


def time_point(engine: Measured, point: dict[str, Any], options: Options) -> None:
    """One timed measurement, by both clocks."""
    found = engine.ask(
        "search",
        k=options.k,
        setting=point["setting"],
        threads=options.threads,
        seconds=options.seconds,
        save=None,
    )
    if found is not None:
        point["rounds"].append(found["qps"])
        point["cpu_rounds"].append(found["cpu_qps"])


def take_medians(engines: list[Measured], options: Options) -> None:
    """The figure of each point that was timed."""
    for engine in engines:
        for point in engine.points:
            if rounds := timed_rounds(point, options):
                point["qps"] = statistics.median(rounds)


def timed_rounds(point: dict[str, Any], options: Options) -> list[float]:
    """The rounds of a point by the clock that counts."""
    rounds: list[float] = point["cpu_rounds" if options.clock == "cpu" else "rounds"]
    return rounds
