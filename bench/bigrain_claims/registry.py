# SPDX-License-Identifier: Apache-2.0
"""Every experiment: the modules `bigrain_claims.e_*`."""

from __future__ import annotations

import importlib
import pkgutil
import time
from typing import Any, cast

import bigrain_claims
from bigrain_claims import store
from bigrain_claims.claim import ArmResult, Experiment

# The order of the page: from the loss to the whole system; others follow by name.
ORDER = (
    *("E-GRAD", "E-AU", "E-NEG", "E-DCS", "E-ANCE", "E-ROCKET", "E-KD", "E-MCL"),
    *("E-BI", "E-OCT", "E-SPD", "E-UNI"),
)


def experiments() -> list[Experiment]:
    """All of them, in the page's order."""
    names = [m.name for m in pkgutil.iter_modules(bigrain_claims.__path__) if m.name[:2] == "e_"]
    found = [cast(Experiment, importlib.import_module(f"bigrain_claims.{n}")) for n in names]

    def place(experiment: Experiment) -> tuple[int, str]:
        name = experiment.CLAIM.id
        return (ORDER.index(name) if name in ORDER else len(ORDER), name)

    return sorted(found, key=place)


def load(experiment: Experiment) -> Any:
    """The data of an experiment: its own, or BoolQ for Tier S."""
    if (own := getattr(experiment, "load", None)) is not None:
        return own()
    from bigrain_claims import tier_s

    return tier_s.load()


def run_arm(experiment: Experiment, arm: str, seed: int, device: str, data: Any) -> ArmResult:
    """One run, timed, with what it was made with."""
    claim = experiment.CLAIM
    if arm not in claim.arms:
        raise ValueError(f"arm: {claim.id} has {', '.join(claim.arms)}, found {arm!r}")
    made_with = store.environment(claim, device)
    start = time.perf_counter()
    figures = dict(experiment.run(arm, seed, device, data))
    seconds = time.perf_counter() - start
    per_query = figures.pop("per_query", {})
    return ArmResult(claim.id, arm, seed, figures, per_query, seconds, made_with)
