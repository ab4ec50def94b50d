# SPDX-License-Identifier: Apache-2.0
"""`python -m bigrain_claims.tune E-NEG`: every arm's best learning rate on dev, to be recorded.

An experiment that has `GRID` and `run(..., lr, split)` is run once per arm and rate with a seed
that no reported run has. The dictionary it prints goes into the experiment's file by hand: reported
runs never tune.
"""

from __future__ import annotations

import sys
from typing import Any

from bigrain_claims import registry

SEED = 1_000


def main(name: str) -> None:
    """Prints dev MRR@10 of every arm and rate, and the dictionary of the best."""
    found: list[Any] = [e for e in registry.experiments() if e.CLAIM.id == name]
    if not found or not hasattr(found[0], "GRID"):
        raise SystemExit(f"{name}: no experiment of this id with a GRID of learning rates")
    experiment = found[0]
    data = registry.load(experiment)
    best = {}
    for arm in getattr(experiment, "TUNED", experiment.CLAIM.arms):
        scores = {
            lr: experiment.run(arm, SEED, "cpu", data, lr=lr, split="dev")["mrr@10"]
            for lr in experiment.GRID
        }
        print(arm, {lr: round(score, 4) for lr, score in scores.items()}, flush=True)
        best[arm] = max(scores, key=lambda lr: scores[lr])
    print(best)


if __name__ == "__main__":
    main(sys.argv[1].upper())
