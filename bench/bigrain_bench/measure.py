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
            _open(engines, data, folder)
            _build(engines, data, options, say)
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


def _open(engines: list[Measured], data: Dataset, folder: Path) -> None:
    files = {"base": folder / "base.npy", "queries": folder / "queries.npy"}
    np.save(files["base"], data.base, allow_pickle=False)
    np.save(files["queries"], data.queries, allow_pickle=False)
    for engine in engines:
        try:
            engine.remote = Remote(engine.plan.name, folder, engine.plan.python)
        except EngineError as error:
            engine.fail(error)
        engine.about = (
            engine.ask(
                "open",
                engine=engine.plan.name,
                params=engine.plan.params,
                metric=data.metric,
                **{key: str(path) for key, path in files.items()},
            )
            or {}
        )


def _build(
    engines: list[Measured], data: Dataset, options: Options, say: Callable[[str], None]
) -> None:
    for _ in range(options.build_rounds):
        for engine in engines:
            built = engine.ask("build", threads=options.build_threads)
            if built is None:
                continue
            engine.builds.append(built)
            each = built["index_bytes"] / len(data.base)
            say(f"{engine.plan.name}: built in {built['seconds']:.2f} s, {each:,.0f} B/vector")


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
    settings: list[dict[str, int]] = asked["settings"] if asked else []
    if options.widths and settings and "width" in settings[0]:
        settings = [{"width": width} for width in options.widths]
    ids_file = folder / "ids.npy"
    warm = {"k": options.k, "threads": options.threads, "seconds": 0, "save": None}
    if settings and engine.ask("search", setting=settings[0], **warm) is None:
        return  # the first search after a build meets cold pages: it only warms up
    for setting in settings:
        arguments: dict[str, Any] = {"k": options.k, "setting": setting}
        found = engine.ask(
            "search", **arguments, threads=options.threads, seconds=0, save=str(ids_file)
        )
        if found is None:
            return
        ids = np.load(ids_file, allow_pickle=False)
        by_distance, by_id = recall(data.base, data.queries, data.metric, ids, truth)
        point = {"setting": setting, "recall": by_distance, "id_recall": by_id}
        cost = engine.ask("cost", **arguments) or {}
        engine.points.append({**point, **cost, "rough_qps": found["qps"], "rounds": []})
        if by_distance >= ENOUGH:
            break
    engine.points = [point for point in engine.points if not _hopeless(point, engine.points)]
    if engine.points:
        reach = max(point["recall"] for point in engine.points)
        say(f"{engine.plan.name}: {len(engine.points)} points up to recall {reach:.4f}")


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
                    _time_point(engine, engine.points[at], options)
        say(f"round {number + 1} of {options.rounds} done")
    for engine in engines:
        for point in engine.points:
            if point["rounds"]:
                point["qps"] = statistics.median(point["rounds"])


def _time_point(engine: Measured, point: dict[str, Any], options: Options) -> None:
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
