# SPDX-License-Identifier: Apache-2.0
"""Judges of E-NEG and E-AU on planted results; every claim is stated in full, and published so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bigrain.train.losses import contrastive  # noqa: E402
from bigrain_claims import claim, e_au, e_neg, registry, report, store  # noqa: E402

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parent.parent.parent


def plant(name: str, means: dict[str, float], **figures: dict[str, float]) -> list[Any]:
    """Three seeds per arm whose MRR@10 is the mean, over 300 queries that share their luck."""
    luck = np.random.default_rng(0).normal(0, 0.2, 300)
    runs = []
    for arm, mean in means.items():
        for seed in range(3):
            own = np.random.default_rng(seed + 1).normal(0, 0.02, 300)
            rr = mean + luck - luck.mean() + own - own.mean()
            more = {what: of_arm[arm] for what, of_arm in figures.items()}
            found = {"mrr@10": float(rr.mean()), **more}
            runs.append(claim.ArmResult(name, arm, seed, found, {"rr@10": rr}))
    return runs


RISING = {"n1": 0.50, "n7": 0.55, "n31": 0.60, "n127": 0.62, "n511": 0.63}
OTHERS = {"n7x18": 0.56, "b8": 0.4, "b32": 0.5, "b128": 0.6, "b512": 0.61}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({}, "shown"),
        ({"n511": 0.61}, "not shown"),
        ({"n127": 0.5501, "n31": 0.55005, "n511": 0.551, "n7+constant": 0.55}, "not shown"),
        ({"n7+constant": 0.59}, "void: the control passed"),
    ],
)
def test_more_negatives(change: dict[str, float], word: str) -> None:
    means = {**RISING, "n7+constant": 0.551, **OTHERS, **change}
    if "n31" in change:  # a gain that is luck: the queries of 7 and 127 do not share theirs
        runs = plant("E-NEG", means)
        rng = np.random.default_rng(9)
        for run in runs:
            run.per_query["rr@10"][:] = rng.permutation(run.per_query["rr@10"])
        verdict = e_neg.judge(runs)
    else:
        verdict = e_neg.judge(plant("E-NEG", means))
    assert verdict.word == word
    assert len(verdict.figures) == 12


MRR = {
    "untrained": 0.001, "infonce": 0.60, "infonce tau=.2": 0.55, "infonce tau=1": 0.40,
    "align+uniform": 0.59, "align+uniform/4": 0.50, "align/4+uniform": 0.45,
    "align only": 0.01, "uniform only": 0.002,
}  # fmt: skip


@pytest.mark.parametrize(
    ("sign", "change", "word"),
    [
        (-1, {}, "shown"),
        (1, {}, "not shown"),
        (-1, {"align only": 0.4}, "void: the control passed"),
        (-1, {"uniform only": 0.31}, "void: the control passed"),
    ],
)
def test_alignment_and_uniformity(sign: int, change: dict[str, float], word: str) -> None:
    means = {**MRR, **change}
    numbers = {arm: sign * mean for arm, mean in means.items()}
    verdict = e_au.judge(plant("E-AU", means, align=numbers, uniform=numbers))
    assert verdict.word == word
    assert "Spearman" in verdict.text


def test_rank_correlation_is_spearmans() -> None:
    x, y = [1, 2, 3, 4, 5, 6, 7, 8], [2, 1, 4, 3, 6, 5, 8, 8]
    rho, p = e_au.spearman(x, y, draws=500)
    # Pearson's correlation of the ranks, where the tie of two is 7.5.
    a, b = np.array(x, float), np.array([2, 1, 4, 3, 6, 5, 7.5, 7.5])
    assert rho == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert p < 0.05
    assert e_au.spearman([1, 2, 3, 4], [4, 3, 2, 1], draws=50)[0] == pytest.approx(-1)


def batch(rows: int = 160) -> tuple[Any, Any, Any]:
    generator = torch.Generator().manual_seed(0)
    q, p = (torch.randn(rows, e_neg.tier_s.DIM, generator=generator) for _ in range(2))
    normal = torch.nn.functional.normalize
    return normal(q), normal(p), torch.arange(rows) // 2  # each document twice


def test_arms_of_negatives_are_what_they_say() -> None:
    q, p, ids = batch()
    # All others drawn: the same as no limit, and as the controls' own arithmetic.
    whole = contrastive(q, p, tau=e_neg.TAU, p_ids=ids)
    assert e_neg.loss_of("n511", 0, "cpu")(q, p, None, p_ids=ids) == pytest.approx(float(whole))
    own, others = e_neg.drawn(q, p, ids, 158, torch.Generator().manual_seed(0))
    logits = torch.cat([own, others], 1)
    assert float(-torch.log_softmax(logits, 1)[:, 0].mean()) == pytest.approx(float(whole))
    few = [float(e_neg.loss_of(arm, 0, "cpu")(q, p, None, p_ids=ids)) for arm in ("n1", "n7")]
    assert few[0] < few[1] < float(whole)
    for arm in (e_neg.CONSTANT, e_neg.REPEATED):
        assert float(e_neg.loss_of(arm, 0, "cpu")(q, p, None, p_ids=ids)) > few[1]


def test_arms_of_alignment_are_what_they_say() -> None:
    q, p, ids = batch()
    loss = {arm: float(e_au.loss_of(arm)(q, p, None, p_ids=ids)) for arm in e_au.TUNED}
    terms = loss["align only"], loss["uniform only"]
    assert loss["align+uniform"] == pytest.approx(sum(terms))
    assert loss["align+uniform/4"] == pytest.approx(terms[0] + terms[1] / 4)
    assert loss["infonce"] == pytest.approx(float(contrastive(q, p, tau=0.05, p_ids=ids)))


@pytest.mark.parametrize("experiment", registry.experiments(), ids=lambda e: e.CLAIM.id)
def test_every_claim_is_stated_in_full(experiment: Any) -> None:
    stated = experiment.CLAIM
    assert all((stated.statement, stated.reported, stated.rule, stated.control, stated.source))
    assert stated.seeds >= 1
    paths = {store.arm_path(Path(), stated.id, arm) for arm in stated.arms}
    assert len(paths) == len(stated.arms)  # no arm overwrites another's file
    kept = store.read(ROOT / "docs" / "claims", stated)
    if report.complete(stated, kept):  # what is published can be judged again
        assert {run.claim for run in kept} == {stated.id}
        verdict = experiment.judge(kept)
        assert verdict.figures
        assert verdict.text
        section = report.section(stated, kept, verdict, "")
        assert f"**Verdict: {verdict.word}.**" in section
        assert section.splitlines()[4] in (ROOT / "docs" / "claims.md").read_text("utf-8")
