# SPDX-License-Identifier: Apache-2.0
"""What an experiment is: a claim with its rule, results per arm and seed, and a verdict.

An experiment is a module `bigrain_claims.e_<name>` with

- `CLAIM`, a `Claim`, whose rule is committed before the first run and never loosened after it;
- `run(arm, seed, device, data) -> dict`, figures as numbers or lists, and arrays with a value per
  query under "per_query";
- `judge(results) -> Verdict`, `results` a list of `ArmResult`;
- `plot(results, axes)`, one matplotlib Axes;
- optionally `load() -> data`, called once; without it `data` is BoolQ, tokenized for Tier S.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Claim:
    """A published claim and how it is tried.

    Args:
        id: "E-NEG".
        statement: the claim in a sentence.
        reported: the published figure that the page sets beside ours.
        rule: what must be found for the claim to count as shown.
        control: what must fail, or else the experiment shows nothing.
        arms: what is compared.
        seeds: runs per arm.
        source: the paper and its section.
    """

    id: str
    statement: str
    reported: str
    rule: str
    control: str
    arms: tuple[str, ...]
    seeds: int = 5
    source: str = ""


@dataclass(frozen=True)
class ArmResult:
    """One run: figures, values per query, and where and when they were made."""

    claim: str
    arm: str
    seed: int
    figures: dict[str, Any]
    per_query: dict[str, F64] = field(default_factory=dict)
    seconds: float = 0.0
    environment: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A line of a claim's table; `holds` is None where nothing is asked of the figure."""

    what: str
    reported: str
    ours: str
    holds: bool | None = None


@dataclass(frozen=True)
class Verdict:
    """Whether the rule was met and the control failed; a claim needs both."""

    shown: bool
    control_failed: bool
    figures: list[Row]
    text: str

    @property
    def word(self) -> str:
        """The verdict as the page prints it."""
        if not self.control_failed:
            return "void: the control passed"
        return "shown" if self.shown else "not shown"


class Experiment(Protocol):
    """The module of an experiment."""

    CLAIM: Claim

    def run(self, arm: str, seed: int, device: str, data: Any) -> dict[str, Any]: ...
    def judge(self, results: Sequence[ArmResult]) -> Verdict: ...
    def plot(self, results: Sequence[ArmResult], axes: Any) -> None: ...


def of_arm(results: Sequence[ArmResult], arm: str) -> list[ArmResult]:
    """The runs of an arm by seed."""
    found = sorted((r for r in results if r.arm == arm), key=lambda r: r.seed)
    if not found:
        raise ValueError(
            f"results: no run of arm {arm!r}; found {sorted({r.arm for r in results})}"
        )
    return found


def values(results: Sequence[ArmResult], arm: str, figure: str) -> F64:
    """A figure of every seed of an arm, (seeds,)."""
    return np.array([r.figures[figure] for r in of_arm(results, arm)], np.float64)


def per_query(results: Sequence[ArmResult], arm: str, name: str) -> F64:
    """The mean over an arm's seeds of a value per query, (queries,): what paired tests compare."""
    return cast(F64, np.mean([r.per_query[name] for r in of_arm(results, arm)], axis=0))


def spread(numbers: F64, digits: int = 4) -> str:
    """A mean and, with two or more runs, their sample standard deviation."""
    text = f"{np.mean(numbers):.{digits}f}"
    return text if len(numbers) < 2 else f"{text} ± {np.std(numbers, ddof=1):.{digits}f}"
