# SPDX-License-Identifier: Apache-2.0
"""docs/claims.md and its pictures, from the JSON files alone: no other figure is printed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bigrain_claims import store
from bigrain_claims.claim import ArmResult, Claim, Experiment, Row, Verdict

HEAD = """# Published claims, each with its control

<!-- Written by `make claims` from the files in docs/claims/. Do not edit. -->

Each claim of the papers that `bigrain.train` follows is tried here in small: arms that share data,
initial weights, optimiser steps and candidates, and differ in one thing. A rule says what must be
found, and a control what must fail; both were committed before the first reported run. Figures are
means over seeds ± their standard deviation. "Reported" is the paper's figure, on its data and with
its model: only the direction can be compared. A claim that did not show is printed as not shown.

`make claims` repeats everything, `make claims CLAIMS='--only E-NEG'` one claim; what has results in
`bench-results/claims` is not run again.
"""
ASKED = {True: "yes", False: "**no**", None: ""}


def publish(experiments: Sequence[Experiment], results: Path, docs: Path) -> Path:
    """Copies results into `docs`/claims, draws, and writes `docs`/claims.md from what lies there.

    Runs that are there and not in `results` stay: a page may be brought up to date claim by claim.
    """
    kept = docs / "claims"
    for experiment in experiments:
        for arm in experiment.CLAIM.arms:
            source = store.arm_path(results, experiment.CLAIM.id, arm)
            target = store.arm_path(kept, experiment.CLAIM.id, arm)
            if source.exists() and source.resolve() != target.resolve():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
    done, missing = [], []
    for experiment in experiments:
        runs = store.read(kept, experiment.CLAIM)
        if complete(experiment.CLAIM, runs):
            done.append((experiment, runs, experiment.judge(runs)))
        else:
            missing.append(experiment.CLAIM.id)
    parts = [HEAD, _summary([(e.CLAIM, verdict) for e, _, verdict in done])]
    if missing:
        parts.append(f"Without results here: {', '.join(missing)}.\n")
    for experiment, runs, verdict in done:
        picture = f"images/claims-{experiment.CLAIM.id.lower()}.png"
        draw(experiment, runs, docs / picture)
        parts.append(section(experiment.CLAIM, runs, verdict, picture))
    page = docs / "claims.md"
    page.write_text("\n".join(parts), encoding="utf-8")
    return page


def complete(claim: Claim, runs: Sequence[ArmResult]) -> bool:
    """Whether every arm has the same seeds, at least one."""
    seeds = [{run.seed for run in runs if run.arm == arm} for arm in claim.arms]
    return bool(seeds and seeds[0]) and all(found == seeds[0] for found in seeds)


def _summary(done: Sequence[tuple[Claim, Verdict]]) -> str:
    lines = ["| experiment | claim | verdict |", "|---|---|---|"]
    for claim, verdict in done:
        # The anchor that a heading "E-NEG: title" gets is not the same everywhere; ids are.
        link = f'<a href="#{claim.id.lower()}">{claim.id}</a>'
        lines.append(f"| {link} | {_cell(claim.statement)} | {verdict.word} |")
    return "\n".join(lines) + "\n"


def section(claim: Claim, runs: Sequence[ArmResult], verdict: Verdict, picture: str) -> str:
    """A claim's part of the page."""
    lines = [
        f'<a id="{claim.id.lower()}"></a>',
        "",
        f"## {claim.id}",
        "",
        f"**Claim.** {claim.statement}" + (f" ({claim.source})" if claim.source else ""),
        "",
        f"**Reported.** {claim.reported}",
        "",
        f"**Rule.** {claim.rule}",
        "",
        f"**Control.** {claim.control}",
        "",
        f"**Verdict: {verdict.word}.** {verdict.text}",
        "",
        "| figure | reported | ours | as asked |",
        "|---|---|---|---|",
        *(_row(row) for row in verdict.figures),
        "",
        f"![{claim.id}]({picture})",
        "",
        _provenance(claim, runs),
        "",
    ]
    return "\n".join(lines)


def _provenance(claim: Claim, runs: Sequence[ArmResult]) -> str:
    """Runs, seconds, machine, versions and commits; and whether the rule was the same then."""

    def all_of(*keys: str) -> str:
        found = []
        for run in runs:
            value: Any = run.environment
            for key in keys:
                value = (value or {}).get(key)
            if value and str(value) not in found:
                found.append(str(value))
        return ", ".join(found) or "unknown"

    commits = ", ".join(dict.fromkeys(_short(run.environment.get("commit")) for run in runs))
    seeds = len({run.seed for run in runs})
    text = (
        f"{_count(len(claim.arms), 'arm')}, {_count(seeds, 'seed')}, "
        f"{sum(run.seconds for run in runs):.0f} s in all on {all_of('device')}; "
        f"{all_of('cpu')}, torch {all_of('versions', 'torch')}; commit {commits}."
    )
    if seeds < claim.seeds:
        text += f" Planned were {claim.seeds} seeds."
    if any(run.environment.get("rule") != store.rule_digest(claim) for run in runs):
        text += " **The rule or the arms have changed since these runs.**"
    return text


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _short(commit: str | None) -> str:
    if not commit:
        return "unknown"
    return commit[:9] + ("-dirty" if commit.endswith("-dirty") else "")


def _row(row: Row) -> str:
    cells = (row.what, row.reported, row.ours, ASKED[row.holds])
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def draw(experiment: Experiment, runs: Sequence[ArmResult], path: Path) -> None:
    """The picture of a claim. Needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    style: Any = {"font.family": "DejaVu Sans", "font.size": 9}
    style |= {"axes.grid": True, "grid.color": "#d9dde1"}
    with matplotlib.rc_context(style):
        figure, axes = pyplot.subplots(figsize=(6.4, 3.6), dpi=110, layout="constrained")
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        experiment.plot(runs, axes)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without matplotlib's version inside, the same results give the same file.
        figure.savefig(path, facecolor="white", metadata={"Software": None})
        pyplot.close(figure)
