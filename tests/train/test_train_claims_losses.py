# SPDX-License-Identifier: Apache-2.0
"""Verdicts of E-GRAD, E-DCS and E-UNI on planted results, and one tiny world of E-UNI."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

sys.path.append(str(Path(__file__).parents[2] / "bench"))

from bigrain_claims import e_dcs, e_grad, e_uni, grad_checks  # noqa: E402
from bigrain_claims.claim import ArmResult  # noqa: E402


def checks(equal: float = 1e-14, wrong: float = 0.5) -> list[ArmResult]:
    names = (*grad_checks.WRONG, "GradCache without replay")
    shape = {"sizes": "even", "world": 4, "cosine": 0.9, "ratio": 1.0}
    found: list[dict[str, Any]] = [
        {"kind": "equal", "check": "pairs", "dtype": dtype, "error": equal, **shape}
        for dtype in e_grad.TOLERANCE
    ]
    found += [
        {"kind": "wrong", "check": name, "dtype": "float64", "error": wrong, **shape}
        for name in names
    ]
    return [ArmResult("E-GRAD", "checks", 0, {"checks": found})]


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({}, "shown"),
        ({"equal": 1e-9}, "not shown"),
        ({"wrong": 0.01}, "void: the control passed"),
    ],
)
def test_verdict_on_gradients(given: dict[str, float], word: str) -> None:
    assert e_grad.judge(checks(**given)).word == word


MEANS = dict(zip(e_dcs.CLAIM.arms, (0.50, 0.600, 0.55, 0.57, 0.601), strict=True))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({}, "shown"),
        ({e_dcs.DCS: 0.63}, "not shown"),
        ({e_dcs.NCS: 0.61}, "not shown"),
        ({e_dcs.ONE_SMALL: 0.58}, "not shown"),
        ({e_dcs.ALONE: 0.601}, "void: the control passed"),
    ],
)
def test_verdict_on_shared_embeddings(change: dict[str, float], word: str) -> None:
    rng = np.random.default_rng(0)
    runs, common = [], rng.random(400) / 10
    for arm, mean in {**MEANS, **change}.items():
        for seed in range(3):
            rr = mean + 0.004 * (seed - 1) + common + rng.normal(0, 0.01, 400)
            figures = {
                "mrr@10": mean + 0.004 * (seed - 1),
                "largest difference from 1 x 128": 1e-6,
                "bytes_per_step": {"embeddings": 1, "gradients": 2},
            }
            runs.append(ArmResult("E-DCS", arm, seed, figures, {"rr@10": rr}))
    assert e_dcs.judge(runs).word == word


@pytest.mark.parametrize(
    ("middle", "shuffled", "word"),
    [
        ((0.66, 0.58), (0.6, 0.5), "shown"),
        ((0.62, 0.52), (0.6, 0.5), "not shown"),
        ((0.66, 0.58), (0.69, 0.59), "void: the control passed"),
    ],
)
def test_verdict_on_two_aims(
    middle: tuple[float, float], shuffled: tuple[float, float], word: str
) -> None:
    points = {e_uni.KD: (0.7, 0.5), e_uni.CLICK: (0.6, 0.6), e_uni.SHUFFLED: shuffled}
    points |= dict.fromkeys(e_uni.JOINT, middle)
    runs = []
    for arm, point in points.items():
        named = dict(zip(("relevance@10", "clicks@100"), point, strict=True))
        figures = {f"{part} {n}": v for part in ("dev", "test") for n, v in named.items()}
        each = {name: np.full(e_uni.TEST, value) for name, value in named.items()}
        runs.append(ArmResult("E-UNI", arm, 0, figures, each))
    assert e_uni.judge(runs).word == word


def test_a_small_world_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ITEMS", 300), ("TRAIN", 300), ("DEV", 20), ("TEST", 40), ("STEPS", 60)):
        monkeypatch.setattr(e_uni, name, value)
    torch.set_num_threads(1)
    found = {arm: e_uni.run(arm, 0, "cpu", None) for arm in (e_uni.KD, e_uni.SHUFFLED)}
    assert found[e_uni.KD]["test relevance@10"] > 0.4
    assert found[e_uni.KD] == e_uni.run(e_uni.KD, 0, "cpu", None) | {
        "per_query": found[e_uni.KD]["per_query"]
    }
    better = found[e_uni.KD]["test relevance@10"] - found[e_uni.SHUFFLED]["test relevance@10"]
    assert better > 0.05
