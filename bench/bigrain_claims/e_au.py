# SPDX-License-Identifier: Apache-2.0
"""E-AU: alignment and uniformity tell how good an embedding is (Wang and Isola, ICML 2020).

Queries and documents have encoders of their own, whose matrices start as different rotations:
before training a query's answer is as far as any document, so that what a loss does not align stays
at chance. Align is over test queries and their answers, uniform over the same texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bigrain.eval.significance import compare
from bigrain.train.losses import align, contrastive, uniform
from bigrain_claims import tier_s
from bigrain_claims.claim import ArmResult, Claim, Row, Verdict, of_arm, per_query, spread, values

INIT, DIRECT, INFONCE = "untrained", "align+uniform", "infonce"
ALIGN, UNIFORM = "align only", "uniform only"
# arm: weight of align, weight of uniform; or temperature.
WEIGHTS = {
    DIRECT: (1.0, 1.0),
    "align+uniform/4": (1.0, 0.25),
    "align/4+uniform": (0.25, 1.0),
    ALIGN: (1.0, 0.0),
    UNIFORM: (0.0, 1.0),
}
TAUS = {INFONCE: 0.05, "infonce tau=.2": 0.2, "infonce tau=1": 1.0}
CLAIM = Claim(
    id="E-AU",
    statement="The lower alignment and uniformity together, the better the embedding.",
    source="Wang and Isola, ICML 2020, sections 4 and 5",
    reported=(
        "STL-10: over 304 encoders those with low align and low uniform are the accurate ones; "
        "training on their sum does as well as the contrastive loss or better."
    ),
    rule=(
        "Over all runs (at least 15), Spearman's correlation of align + uniform, on test, with "
        "test MRR@10 is negative with p < .05 (permutation). Printed beside it with whether it "
        "held: InfoNCE ends below the untrained encoder on both; training on align + uniform is "
        "within noise of InfoNCE (tau .05) or above it (paired permutation test, p >= .05)."
    ),
    control=(
        "Either term alone must not do: align only and uniform only must both stay below half of "
        "InfoNCE's MRR@10. Printed with whether it held: below a tenth of it, which is chance "
        "for practical purposes, and uniform above -0.5 (collapse) for align only."
    ),
    arms=(INIT, *TAUS, *WEIGHTS),
    seeds=3,
)
BATCH, STEPS, EVERY = 256, 150, 50
GRID = (1e-3, 3e-3, 1e-2)
TUNED = tuple(arm for arm in CLAIM.arms if arm != INIT)
# Best of GRID on dev, by python -m bigrain_claims.tune E-AU; 3e-2 was worse for the sums.
RATES = dict.fromkeys(TAUS, 3e-3) | dict.fromkeys(WEIGHTS, 1e-2)


def run(
    arm: str, seed: int, device: str, data: Any, lr: float | None = None, split: str = "test"
) -> dict[str, Any]:
    """MRR@10, align and uniform of a pair of encoders, and the latter two every 50 steps."""
    query, document = tier_s.StaticBag(seed=seed), tier_s.StaticBag(seed=seed + 500)
    curve = [[0, *measure(query, document, data, split)]]

    def hook(step: int, encoder: tier_s.StaticBag) -> None:
        if step % EVERY == 0:
            curve.append([step, *measure(encoder, document, data, split)])

    if arm != INIT:
        settings: dict[str, Any] = {"steps": STEPS, "batch_size": BATCH, "lr": lr or RATES[arm]}
        settings |= {"documents": document, "hook": hook, "seed": seed, "device": device}
        tier_s.train(query, data, loss_of(arm), **settings)
    found = tier_s.evaluate(query, data, split, document)
    return {**found, "align": curve[-1][1], "uniform": curve[-1][2], "curve": curve}


def loss_of(arm: str) -> Callable[..., Tensor]:
    """InfoNCE, or the weighted sum of align and the mean uniform of both sides."""

    def loss(q: Tensor, p: Tensor, n: Tensor | None, *, p_ids: Tensor, **_: Any) -> Tensor:
        if arm in TAUS:
            return contrastive(q, p, tau=TAUS[arm], p_ids=p_ids)
        for_align, for_uniform = WEIGHTS[arm]
        return for_align * align(q, p) + for_uniform * (uniform(q) + uniform(p)) / 2

    return loss


def measure(
    query: tier_s.StaticBag, document: tier_s.StaticBag, data: Any, split: str
) -> tuple[float, float]:
    """Align of 1,000 pairs of a split, and uniform, the mean of both sides."""
    rows = getattr(data.judged, split)[:1000]
    q = torch.from_numpy(query.encode(data.queries, rows))
    d = torch.from_numpy(document.encode(data.documents, data.judged.positive[rows]))
    return (
        round(float(align(q, d)), 5),
        round(float(uniform(q) + uniform(torch.unique(d, dim=0))) / 2, 5),
    )


def spearman(x: Any, y: Any, draws: int = 10_000) -> tuple[float, float]:
    """Rank correlation, ties ranked in the middle, and its two-sided permutation p-value."""
    a, b = _ranks(x), _ranks(y)
    a, b = (a - a.mean()) / a.std(), (b - b.mean()) / b.std()
    found = float(a @ b) / len(a)
    rng = np.random.default_rng(0)
    shuffled = np.array([rng.permutation(a) @ b for _ in range(draws)]) / len(a)
    extreme = np.count_nonzero(np.abs(shuffled) >= abs(found) - 1e-12)
    return found, (extreme + 1) / (draws + 1)


def _ranks(x: Any) -> NDArray[np.float64]:
    _, which, counts = np.unique(np.asarray(x), return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    middle: NDArray[np.float64] = (ends - (counts - 1) / 2)[which]
    return middle


def judge(results: Sequence[ArmResult]) -> Verdict:
    """The correlation, both against untrained, direct against InfoNCE, and the two ablations."""
    means = {arm: float(values(results, arm, "mrr@10").mean()) for arm in CLAIM.arms}
    both = [r.figures["align"] + r.figures["uniform"] for r in results]
    rho, p = spearman(both, [r.figures["mrr@10"] for r in results])
    by_arm = spearman([_both(results, arm) for arm in CLAIM.arms], list(means.values()))
    shown = len(results) >= 15 and rho < 0 and p < 0.05
    failed = max(means[ALIGN], means[UNIFORM]) < means[INFONCE] / 2
    rows = [
        Row(f"Spearman over {len(results)} runs", "negative", f"{rho:.3f}, p = {p:.4f}", shown),
        Row(f"Spearman over {len(means)} arms", "", f"{by_arm[0]:.3f}, p = {by_arm[1]:.4f}"),
        *(_beside(results, means)),
    ]
    for arm in CLAIM.arms:
        numbers = [spread(values(results, arm, figure), 3) for figure in ("align", "uniform")]
        ours = f"MRR@10 {spread(values(results, arm, 'mrr@10'))}, align {numbers[0]}, uniform "
        holds = means[arm] < means[INFONCE] / 2 if arm in (ALIGN, UNIFORM) else None
        name = f"control: {arm}" if holds is not None else arm
        rows.append(Row(name, "", ours + numbers[1], holds))
    text = (
        f"Spearman's correlation of align + uniform with MRR@10 over {len(results)} runs is "
        f"{rho:.2f} (p = {p:.4f}). Trained on the sum an encoder reaches MRR@10 "
        f"{means[DIRECT]:.3f}, with InfoNCE {means[INFONCE]:.3f}. Align alone collapses, and keeps "
        f"{means[ALIGN] / means[INFONCE]:.0%} of InfoNCE's MRR@10 in what distances are left. A "
        f"caveat: both numbers also follow how anisotropic an encoder started, so they compare "
        f"encoders of one start."
    )
    return Verdict(shown, failed, rows, text)


def _both(results: Sequence[ArmResult], arm: str) -> float:
    return float(np.mean(values(results, arm, "align") + values(results, arm, "uniform")))


def _beside(results: Sequence[ArmResult], means: dict[str, float]) -> list[Row]:
    """What the rule prints without demanding it."""
    rows = []
    for figure in ("align", "uniform"):
        start, end = (values(results, arm, figure).mean() for arm in (INIT, INFONCE))
        ours = f"{start:.3f} to {end:.3f}"
        rows.append(Row(f"{figure}, untrained to InfoNCE", "falls", ours, bool(end < start)))
    test = compare(*(per_query(results, arm, "rr@10") for arm in (INFONCE, DIRECT)))
    ours = f"{test.difference:+.4f} [{test.low:+.4f}, {test.high:+.4f}], p = {test.p:.4f}"
    fine = test.p >= 0.05 or test.difference > 0
    rows.append(Row("trained on align + uniform, against InfoNCE", "as good or better", ours, fine))
    for arm in (ALIGN, UNIFORM):
        share = means[arm] / means[INFONCE]
        rows.append(Row(f"{arm}: at chance", "chance", f"{share:.1%} of InfoNCE's", share < 0.1))
    collapsed = values(results, ALIGN, "uniform").mean()
    rows.append(
        Row("align only: collapse", "uniform 0", f"{collapsed:.3f}", bool(collapsed > -0.5))
    )
    return rows


def plot(results: Sequence[ArmResult], axes: Any) -> None:
    """Every run: align over uniform, MRR@10 as colour, as in the paper's figure 5."""
    runs = [run for arm in CLAIM.arms for run in of_arm(results, arm)]
    places = [[run.figures[figure] for run in runs] for figure in ("uniform", "align")]
    dots = axes.scatter(*places, c=[run.figures["mrr@10"] for run in runs], cmap="viridis", s=26)
    for arm in CLAIM.arms:
        first = of_arm(results, arm)[0].figures
        place = (first["uniform"], first["align"])
        # Neighbours' names lie on either side, those at the right edge to the left.
        above = arm not in (INFONCE, "infonce tau=.2", ALIGN)
        side = "right" if place[0] > -1 else "left"
        shift = (-5 if side == "right" else 5, 4 if above else -11)
        axes.annotate(arm, place, shift, textcoords="offset points", ha=side, fontsize=7)
    axes.figure.colorbar(dots, label="MRR@10, BoolQ test")
    axes.set_xlabel("uniform (lower is better)")
    axes.set_ylabel("align (lower is better)")
