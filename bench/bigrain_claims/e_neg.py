# SPDX-License-Identifier: Apache-2.0
"""E-NEG: more negatives per query, better retrieval (DPR, Karpukhin et al., EMNLP 2020).

Two forms. (i) isolating: batch, steps and learning rate are fixed and each query's softmax sees its
positive and N random others of the batch. (ii) as usually told: the batch grows at equal examples
seen, with a learning rate per arm, which also changes the number and the noise of the updates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bigrain.eval.significance import compare
from bigrain.train.losses import contrastive
from bigrain_claims import tier_s
from bigrain_claims.claim import ArmResult, Claim, Row, Verdict, per_query, spread, values

COUNTS = (1, 7, 31, 127, 511)  # DPR's 7, 31 and 127, one below and one above
BATCHES = (8, 32, 128, 512)
CONSTANT, REPEATED = "n7+constant", "n7x18"
CLAIM = Claim(
    id="E-NEG",
    statement="More negatives per query give a better retriever.",
    source="Karpukhin et al., EMNLP 2020, table 3, in-batch rows",
    reported="Top-20 accuracy on Natural Questions 69.1 / 70.8 / 73.0 with 7 / 31 / 127 negatives.",
    rule=(
        "With batch (512), steps and learning rate fixed and N = 1, 7, 31, 127, 511 random "
        "in-batch negatives per query, mean MRR@10 rises at every step of N, and from 7 to 127 "
        "with p < .05 (paired permutation test over test queries, means over seeds). How batches "
        "of 8 to 512 compare at equal examples seen is printed whichever way it falls."
    ),
    control=(
        "7 negatives and 120 fixed random unit vectors: as many columns as with 127 negatives, but "
        "no more documents. Must not reach half of the gain from 7 to 127. Printed beside it, "
        "without a demand: the same 7 negatives counted 127 / 7 times each."
    ),
    arms=(
        *(f"n{count}" for count in COUNTS),
        *(CONSTANT, REPEATED),
        *(f"b{batch}" for batch in BATCHES),
    ),
    seeds=5,
)
BATCH, STEPS, EXAMPLES, TAU = 512, 100, 19_200, 0.05  # DPR's loss has no temperature, SimCSE's .05
GRID = (3e-4, 1e-3, 3e-3, 1e-2)  # the first for the two small batches alone
# Best of GRID on dev, by python -m bigrain_claims.tune E-NEG. RATE, of all arms of form (i), is
# best on average over 7 and 127.
RATE = 3e-3
RATES = {"b8": 1e-3, "b32": 1e-3, "b128": 3e-3, "b512": 3e-3}
TUNED = ("n7", "n127", *(f"b{batch}" for batch in BATCHES))


def run(
    arm: str, seed: int, device: str, data: Any, lr: float | None = None, split: str = "test"
) -> dict[str, Any]:
    """MRR@10 and hits of one encoder."""
    batch = int(arm[1:]) if arm[0] == "b" else BATCH
    steps = EXAMPLES // batch if arm[0] == "b" else STEPS
    lr = lr or (RATES[arm] if arm[0] == "b" else RATE)
    encoder = tier_s.StaticBag(seed=seed)
    settings: dict[str, Any] = {"steps": steps, "batch_size": batch, "lr": lr}
    tier_s.train(encoder, data, loss_of(arm, seed, device), seed=seed, device=device, **settings)
    return {**settings, **tier_s.evaluate(encoder, data, split)}


def loss_of(arm: str, seed: int, device: str) -> Callable[..., Tensor]:
    """The loss of an arm; its draws follow from the seed."""
    generator = torch.Generator(device).manual_seed(seed)
    constant = torch.randn(127 - 7, tier_s.DIM, generator=generator, device=device)
    constant = torch.nn.functional.normalize(constant, dim=1)

    def loss(q: Tensor, p: Tensor, n: Tensor | None, *, p_ids: Tensor, **_: Any) -> Tensor:
        if arm in (CONSTANT, REPEATED):
            own, others = drawn(q, p, p_ids, 7, generator)
            if arm == REPEATED:
                columns = [own, others + math.log(127 / 7)]
            else:
                columns = [own, others, q @ constant.T / TAU]
            return -torch.log_softmax(torch.cat(columns, 1), 1)[:, 0].mean()
        count = int(arm[1:]) if arm[0] == "n" else None
        return contrastive(q, p, tau=TAU, p_ids=p_ids, n_max=count, generator=generator)

    return loss


def drawn(
    q: Tensor, p: Tensor, p_ids: Tensor, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Logits of each query's positive, (b, 1), and of `count` random others, (b, count)."""
    logits = q @ p.T / TAU
    same = p_ids[:, None] == p_ids
    keys = torch.rand(logits.shape, generator=generator, device=q.device)
    picked = keys.masked_fill(same, -1).topk(count, dim=1).indices
    return logits.diagonal()[:, None], logits.gather(1, picked)


def judge(results: Sequence[ArmResult]) -> Verdict:
    """Rising means, the test from 7 to 127, the control's share of that gain."""
    score = {arm: values(results, arm, "mrr@10") for arm in CLAIM.arms}
    means = {arm: float(found.mean()) for arm, found in score.items()}
    steps = np.diff([means[f"n{count}"] for count in COUNTS])
    test = compare(per_query(results, "n7", "rr@10"), per_query(results, "n127", "rr@10"))
    gain = means["n127"] - means["n7"]
    rising, sure = bool((steps > 0).all()), test.p < 0.05 and test.difference > 0
    failed = means[CONSTANT] - means["n7"] < gain / 2
    reported = {"n7": "top-20 69.1", "n31": "70.8", "n127": "73.0"}
    rows = []
    for i, count in enumerate(COUNTS):
        ours = spread(score[f"n{count}"])
        if i:
            ours += f", {steps[i - 1] / math.log2(count / COUNTS[i - 1]):+.4f} per doubling"
        holds = bool(steps[i - 1] > 0) if i else None
        rows.append(Row(f"(i) MRR@10, N = {count}", reported.get(f"n{count}", ""), ours, holds))
    interval = f"{test.difference:+.4f} [{test.low:+.4f}, {test.high:+.4f}], p = {test.p:.4f}"
    rows.append(Row("(i) from 7 to 127 negatives", "+3.9 points", interval, sure))
    for arm, what in ((CONSTANT, "7 and 120 fixed vectors"), (REPEATED, "7, each 18 times")):
        share = (means[arm] - means["n7"]) / gain if gain else math.nan
        ours = f"{spread(score[arm])}, {share:.0%} of the gain"
        rows.append(Row(f"control: {what}", "", ours, failed if arm == CONSTANT else None))
    for batch in BATCHES:
        ours = f"{spread(score[f'b{batch}'])} (lr {RATES[f'b{batch}']:g})"
        rows.append(Row(f"(ii) MRR@10, batch {batch}, equal examples", "", ours))
    by_batch = [means[f"b{batch}"] for batch in BATCHES]
    text = (
        f"From 7 to 127 negatives MRR@10 changes by {interval}; per doubling of N the gain is "
        f"{', '.join(_per_doubling(steps))}. At equal examples seen, batches of 8 / 32 / 128 / 512 "
        f"give {' / '.join(f'{mean:.3f}' for mean in by_batch)}."
    )
    return Verdict(rising and sure, failed, rows, text)


def _per_doubling(steps: Any) -> list[str]:
    pairs = zip(steps, COUNTS, COUNTS[1:], strict=False)
    return [f"{step / math.log2(b / a):+.4f}" for step, a, b in pairs]


def plot(results: Sequence[ArmResult], axes: Any) -> None:
    """MRR@10 over N, over the batch, and the controls."""
    series = (
        ("(i) N negatives, batch 512", COUNTS, "n", COUNTS),
        ("(ii) batch N + 1, equal examples", [b - 1 for b in BATCHES], "b", BATCHES),
    )
    for label, places, letter, sizes in series:
        found = [values(results, f"{letter}{size}", "mrr@10") for size in sizes]
        spreads = [one.std() for one in found]
        axes.errorbar(places, [one.mean() for one in found], spreads, marker="o", label=label)
    for arm, label in ((CONSTANT, "7 and 120 fixed vectors"), (REPEATED, "7, each 18 times")):
        axes.plot(127, values(results, arm, "mrr@10").mean(), "x", label=f"control: {label}")
    axes.set_xscale("log", base=2)
    axes.set_xticks(COUNTS, [str(count) for count in COUNTS])
    axes.set_xlabel("negatives per query")
    axes.set_ylabel("MRR@10, BoolQ test")
    axes.legend(frameon=False)
