# SPDX-License-Identifier: Apache-2.0
"""Tuned runs: every engine at the best of its own build configurations and search settings.

Engine by engine, each configuration is built once and its settings are timed roughly (the coarse
pass); only the points that decide the speed at a target recall stay. Then those of all engines are
timed in alternating rounds, point by point in turn, and the medians count. Speed at a recall is
taken on the curve of one configuration, never across two: nobody can run between two indexes.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bigrain_bench.datasets import Dataset
from bigrain_bench.engines import engine_class
from bigrain_bench.measure import (
    Measured,
    Options,
    Plan,
    build,
    fail_without_points,
    open_engine,
    take_medians,
    time_point,
    try_setting,
    warm_up,
    write_inputs,
)
from bigrain_bench.pareto import front, qps_at
from bigrain_bench.truth import Truth

TARGETS = (0.90, 0.95, 0.99)
# A configuration is timed again when its rough speed at a target is at least this share of the
# engine's best: rough speeds of a busy machine were seen to err by some 10 %.
NEAR = 0.85
KEPT = 2  # configurations per engine and target
# A sweep ends after this many settings in a row that are slower than SLOW of the speed at which
# the highest target has been reached: no later one, being more thorough, could matter.
LOST, SLOW = 8, 0.6
ROUGH_SECONDS = 0.1

Say = Callable[[str], None]
Point = dict[str, Any]


@dataclass
class Tuned:
    """What a tuned run found: every configuration, and per target the points timed in rounds."""

    engines: list[Measured] = field(default_factory=list)
    chosen: dict[float, list[tuple[Measured, list[Point]]]] = field(default_factory=dict)


def configurations(plan: Plan, data: Dataset) -> list[Plan]:
    """The engine's grid; parameters of `plan` override it, a list of values multiplies it."""
    rows, dim = data.base.shape
    values = {k: v if isinstance(v, list) else [v] for k, v in plan.params.items()}
    found: list[Plan] = []
    for params in engine_class(plan.name).grid(rows, dim, data.metric):
        for combination in itertools.product(*values.values()):
            merged = {**params, **dict(zip(values, combination, strict=True))}
            if all(merged != other.params for other in found):
                found.append(Plan(plan.name, merged, plan.python))
    return found


def tune(
    data: Dataset,
    truth: Truth,
    plans: list[Plan],
    options: Options,
    say: Say,
    checkpoint: Callable[[Tuned], None] | None = None,
) -> Tuned:
    """Measures all of `plans`; `checkpoint` is told after every engine's coarse pass."""
    tuned = Tuned(chosen={target: [] for target in TARGETS})
    with tempfile.TemporaryDirectory(prefix="bigrain-bench-") as name:
        folder = Path(name)
        write_inputs(data, folder)
        try:
            for plan in plans:
                _coarse(tuned, plan, data, truth, options, folder, say)
                if checkpoint:
                    checkpoint(tuned)
            _time_rounds(tuned, options, say)
        finally:
            for engine in tuned.engines:
                engine.close()
    return tuned


def _coarse(
    tuned: Tuned,
    plan: Plan,
    data: Dataset,
    truth: Truth,
    options: Options,
    folder: Path,
    say: Say,
) -> None:
    group: list[Measured] = []
    for configuration in configurations(plan, data):
        engine = Measured(configuration)
        tuned.engines.append(engine)
        group.append(engine)
        open_engine(engine, data, folder)
        if engine.remote is not None:
            build(engine, data, options, say)
            _trace(engine, data, truth, options, folder)
            say(f"{engine.label}: {_rough(engine)}")
        if engine.error:
            say(f"left out: {engine.error}")
            if not engine.about:  # it is not installed: its other configurations are not either
                break
    _choose(tuned, group)


def _rough(engine: Measured) -> str:
    curve = rough_curve(engine)
    speeds = ((target, qps_at(curve, target)) for target in TARGETS)
    found = ", ".join(f"{qps:,.0f} @{target:.2f}" for target, qps in speeds if qps)
    return f"{len(curve)} points, roughly {found or 'below every target'}"


def rough_curve(engine: Measured) -> list[tuple[float, float]]:
    """Recall and speed of the coarse pass."""
    return [(point["recall"], point["rough_qps"]) for point in engine.points]


def _trace(engine: Measured, data: Dataset, truth: Truth, options: Options, folder: Path) -> None:
    asked = engine.ask("settings", k=options.k, tuned=True)
    settings: list[dict[str, float]] = asked["settings"] if asked else []
    if options.widths and settings and "width" in settings[0]:
        settings = [each for each in settings if each["width"] in options.widths]
    warm_up(engine, settings, options)
    lost, enough = 0, 0.0
    seconds = min(ROUGH_SECONDS, options.seconds)
    for setting in settings:
        point = try_setting(engine, setting, data, truth, options, folder, seconds)
        if point is None:
            continue
        engine.points.append(point)
        if point["recall"] >= TARGETS[-1]:
            enough = max(enough, point["rough_qps"])
        lost = lost + 1 if point["rough_qps"] < SLOW * enough else 0
        if lost == LOST:
            break
    fail_without_points(engine)


def _choose(tuned: Tuned, group: list[Measured]) -> None:
    """Keeps the workers of the configurations that may win at a target, and ends the others."""
    kept: list[Measured] = []
    for target in TARGETS:
        speeds = [(qps_at(rough_curve(engine), target) or 0, engine) for engine in group]
        speeds.sort(key=lambda pair: -pair[0])
        for speed, engine in speeds[:KEPT]:
            if engine.remote is not None and speed and speed >= NEAR * speeds[0][0]:
                tuned.chosen[target].append((engine, decisive(engine.points, target)))
                kept.append(engine)
    for engine in group:
        if not any(engine is other for other in kept):
            engine.close()


def decisive(points: Sequence[Point], target: float) -> list[Point]:
    """The points of the rough front that decide the speed at `target`: two on either side."""
    best = set(front([(point["recall"], point["rough_qps"]) for point in points]))
    ordered = sorted(
        (point for point in points if (point["recall"], point["rough_qps"]) in best),
        key=lambda point: float(point["recall"]),
    )
    above = sum(point["recall"] < target for point in ordered)
    return ordered[max(0, above - 2) : above + 2]


def _time_rounds(tuned: Tuned, options: Options, say: Say) -> None:
    for number in range(options.rounds):
        timed: set[int] = set()  # a point near two targets is timed once a round
        for chosen in tuned.chosen.values():
            turns = itertools.zip_longest(*([(e, p) for p in pts] for e, pts in chosen))
            for engine, point in (turn for turns_at in turns for turn in turns_at if turn):
                if id(point) not in timed:
                    timed.add(id(point))
                    time_point(engine, point, options)
        say(f"round {number + 1} of {options.rounds} done")
    take_medians(tuned.engines, options)
