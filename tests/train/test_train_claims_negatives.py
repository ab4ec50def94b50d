# SPDX-License-Identifier: Apache-2.0
"""Judges of E-ANCE, E-ROCKET and E-KD on planted results, and what their arms are made of."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bigrain_claims import claim, e_ance, e_kd, e_rocket, noisy, teacher, tier_s  # noqa: E402

torch.set_num_threads(1)


def plant(experiment: Any, means: dict[str, float], **figures: Any) -> list[Any]:
    """Three seeds per arm whose MRR@10 is the mean, over 100 queries that share their luck."""
    luck = np.random.default_rng(0).normal(0, 0.2, 100)
    runs = []
    for arm in experiment.CLAIM.arms:
        for seed in range(3):
            own = np.random.default_rng(seed + 1).normal(0, 0.02, 100)
            rr = means[arm] + luck - luck.mean() + own - own.mean()
            # Arms do not share all of it, or any difference would be sure.
            rr += np.random.default_rng([seed, len(arm)]).normal(0, 0.002, 100)
            found = {"mrr@10": float(rr.mean()), **figures}
            runs.append(claim.ArmResult(experiment.CLAIM.id, arm, seed, found, {"rr@10": rr}))
    return runs


ANCE = {"random": 0.50, "bm25": 0.52, "static": 0.54, "r200": 0.56, "r50": 0.565,
        "r200-exact": 0.561, "r200-dealt": 0.505}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({}, "shown"),
        ({"bm25": 0.57}, "not shown"),
        ({"r50": 0.58}, "not shown"),
        ({"r200-exact": 0.58}, "not shown"),
        ({"r200-dealt": 0.54}, "void: the control passed"),
        ({"random": 0.57}, "shown"),  # no rule asks for a gain over random ones
    ],
)
def test_refreshed_negatives(change: dict[str, float], word: str) -> None:
    spent = {f"{name}_s": 1.0 for name in e_ance.SECONDS}
    runs = plant(e_ance, {**ANCE, **change}, staleness=99.5, list_recall=0.98, **spent)
    assert e_ance.judge(runs).word == word


ROCKET = {"in-batch": 0.50, "cross-batch": 0.52, "hard": 0.48, "denoised": 0.54, "misjudged": 0.49}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({}, "shown"),
        ({"hard": 0.545}, "not shown"),
        ({"in-batch": 0.545}, "not shown"),
        ({"misjudged": 0.52}, "void: the control passed"),
    ],
)
def test_denoised_negatives(change: dict[str, float], word: str) -> None:
    verdict = e_rocket.judge(plant(e_rocket, {**ROCKET, **change}, false=0.03))
    assert verdict.word == word


KD = {"labels-5": 0.50, "labels-20": 0.52, "labels-100": 0.55, "teacher-20": 0.54, "both-5": 0.53,
      "both-20": 0.56, "tuned-20": 0.56, "dealt-20": 0.50}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "reached", "word"),
    [
        ({}, 0.7, "shown"),
        ({"labels-100": 0.60}, 0.7, "shown"),  # the claim at equal labels; the other is printed
        ({}, 0.59, "not shown"),  # the teacher is too weak
        ({"both-20": 0.51}, 0.7, "not shown"),
        ({"dealt-20": 0.55}, 0.7, "void: the control passed"),
    ],
)
def test_distillation(change: dict[str, float], reached: float, word: str) -> None:
    verdict = e_kd.judge(plant(e_kd, {**KD, **change}, teacher=reached))
    assert verdict.word == word
    means = {**KD, **change}
    fewer = means["both-20"] < means["labels-100"]
    assert ("dropped is not shown" in verdict.text) == fewer


def test_paraphrases_keep_most_words() -> None:
    words = [f"w{i}" for i in range(1000)]
    found = noisy.paraphrase(" ".join(words), np.random.default_rng(0)).split()
    assert 0.75 < len(found) / len(words) < 0.85
    assert set(found) <= set(words)
    places = [int(word[1:]) for word in found]
    moved = sum(a > b for a, b in itertools.pairwise(places))
    assert 40 < moved < 110


def test_chances_are_fitted() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=20_000).astype(np.float32)
    y = rng.random(20_000) < 1 / (1 + np.exp(-(2 * x - 1)))
    slope, offset = teacher.fit_probability(x[y], x[~y])
    assert slope == pytest.approx(2, abs=0.1)
    assert offset == pytest.approx(-1, abs=0.1)


def tokens(count: int) -> Any:
    ids = np.random.default_rng(count).integers(0, 50, 5 * count).astype(np.int32)
    return tier_s.Tokens(ids, np.arange(count + 1, dtype=np.int64) * 5)


def test_lists_are_drawn_and_made_when_due() -> None:
    from bigrain_claims.texts import Judged

    count, asked = 200, 40
    nothing = np.zeros(0, np.int64)
    judged = Judged(
        "planted", [f"d{i}" for i in range(count)], [f"q{i}" for i in range(asked)],
        [(i,) for i in range(asked)], np.arange(asked), nothing, nothing,
    )  # fmt: skip
    texts = tier_s.Collection(judged, tokens(count), tokens(asked))
    bm25 = np.tile(np.arange(100, 100 + e_ance.DEPTH), (asked, 1))
    bm25[:, 7:] = -1
    data = e_ance.Data(texts, bm25, np.arange(count))
    table = torch.randn(50, 16, generator=torch.Generator().manual_seed(0))
    encoder = tier_s.StaticBag(table, dim=16)
    made = {"random": 0, "bm25": 0, "static": 1, "r200": 4, "r50": 16, "r200-exact": 4,
            "r200-dealt": 4}  # fmt: skip
    assert set(made) == set(e_ance.CLAIM.arms)
    lists = {}
    for arm, count_made in made.items():
        source = lists[arm] = e_ance.Lists(arm, 0, data)
        for step in range(e_ance.STEPS + 1):
            drawn = source.hook(step, encoder)
            due = step % e_ance.REDRAW == 0 and step < e_ance.STEPS
            assert (drawn is not None) == due
            if drawn is not None:
                assert drawn.shape == (asked, 1)
                assert (drawn >= 0).all()
                assert arm in ("random", "r200-dealt") or (drawn[:, 0] != np.arange(asked)).all()
        assert len(source.made) == count_made
    assert (lists["r200"].lists == lists["r200-exact"].lists).mean() > 0.9
    assert (lists["r200-dealt"].lists != lists["r200"].lists).mean() > 0.9
    assert sorted(lists["r200-dealt"].lists.tolist()) == sorted(lists["r200"].lists.tolist())
