# SPDX-License-Identifier: Apache-2.0
"""`python -m bigrain_claims`: runs what has no results yet, prints verdicts, writes the page."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bigrain_bench.fetch import FetchError
from bigrain_claims import registry, report, store
from bigrain_claims.claim import ArmResult, Experiment, Verdict


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if every experiment ran, whatever it showed; 1 if one could not."""
    options = _parser().parse_args(arguments)
    experiments = registry.experiments()
    chosen = _chosen(experiments, options.only)
    failed = [] if options.no_run else [e for e in chosen if not _run(e, options)]
    if options.pages is not None:
        page = report.publish(experiments, options.out, options.pages)
        print(f"written: {page}")
    if failed:
        print(f"could not run: {', '.join(e.CLAIM.id for e in failed)}", file=sys.stderr)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bigrain_claims", description=__doc__)
    parser.add_argument("--only", help="ids of claims, with commas between: E-NEG,E-AU")
    parser.add_argument("--seeds", type=int, help="runs per arm, instead of what each claim says")
    parser.add_argument("--device", default="cpu", help="where torch computes: cpu, cuda")
    parser.add_argument("--out", type=Path, default=Path("bench-results/claims"))
    parser.add_argument("--pages", type=Path, help="also write claims.md, JSON and pictures here")
    parser.add_argument("--no-run", action="store_true", help="only the page, from what there is")
    return parser


def _chosen(experiments: Sequence[Experiment], only: str | None) -> list[Experiment]:
    if only is None:
        return list(experiments)
    known = {experiment.CLAIM.id: experiment for experiment in experiments}
    asked = [name.strip().upper() for name in only.split(",") if name.strip()]
    if unknown := [name for name in asked if name not in known]:
        raise SystemExit(f"--only: {', '.join(unknown)}: known are {', '.join(known)}")
    return [known[name] for name in asked]


def _run(experiment: Experiment, options: argparse.Namespace) -> bool:
    """Runs the arms and seeds that have no result, and prints the verdict."""
    claim = experiment.CLAIM
    try:
        runs = run_missing(experiment, options.out, options.seeds or claim.seeds, options.device)
        show(claim.id, experiment.judge(runs))
    except FetchError as error:
        print(f"{claim.id}: {error}", file=sys.stderr)
        return False
    except Exception:  # the other claims still get their turn
        traceback.print_exc()
        return False
    return True


def run_missing(
    experiment: Experiment, out: Path, seeds: int, device: str = "cpu"
) -> list[ArmResult]:
    """Every arm with seeds 0 to seeds - 1, run where `out` holds no result of it."""
    claim = experiment.CLAIM
    have = {(run.arm, run.seed) for run in store.read(out, claim)}
    # All arms of a seed before the next: stopped early, the arms can still be compared.
    wanted = [(arm, seed) for seed in range(seeds) for arm in claim.arms]
    todo = [pair for pair in wanted if pair not in have]
    data: Any = registry.load(experiment) if todo else None
    start = time.perf_counter()
    for done, (arm, seed) in enumerate(todo):
        left = (time.perf_counter() - start) / done * (len(todo) - done) if done else 0
        place = f"{claim.id} {done + 1}/{len(todo)}"
        print(f"{place} {arm} seed {seed}, about {left:.0f} s left", flush=True)
        store.add(out, registry.run_arm(experiment, arm, seed, device, data))
    return [run for run in store.read(out, claim) if run.seed < seeds]


def show(name: str, verdict: Verdict) -> None:
    """A verdict and its table as text."""
    print(f"{name}: {verdict.word}. {verdict.text}")
    width = max((len(row.what) for row in verdict.figures), default=0)
    for row in verdict.figures:
        mark = {True: "as asked", False: "NOT as asked", None: ""}[row.holds]
        print(f"  {row.what:{width}}  reported {row.reported or '-'}  ours {row.ours}  {mark}")


if __name__ == "__main__":
    sys.exit(main())
