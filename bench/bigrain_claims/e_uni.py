# SPDX-License-Identifier: Apache-2.0
"""E-UNI: one encoder for relevance and clicks (Uni-Retriever, Zhang et al., KDD 2022).

Planted data, since the paper's is not public, nor are its teacher and weights: a reconstruction.
An item has a topic vector and a popularity; relevance is the match of topics; a query's clicks are
drawn by relevance and popularity together. The teacher knows topics only. One term distils the
teacher's scores of random lists, the other contrasts clicked items, corrected for how often they
are clicked, without which in-batch negatives would teach that popular items are bad.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bigrain.eval.significance import compare
from bigrain.train.losses import contrastive, joint, kd_listnet
from bigrain_claims.claim import ArmResult, Claim, Row, Verdict, per_query, spread, values

F64 = NDArray[np.float64]
ITEMS, TRAIN, DEV, TEST = 5000, 4000, 500, 1000
TOPIC, WIDTH, SEEN = 16, 32, 24
# Scores of relevance: the softmax of MATCH * cosine puts half of a query's clicks on about 100 of
# 5,000 items; popularity then spreads over a factor of about 50 (2 standard deviations each way).
MATCH, SPREAD = 12.0, 1.0
TRAIN_CLICKS, TEST_CLICKS = 4, 20
STEPS, BATCH, LIST, RATE = 600, 128, 64, 3e-3
WEIGHTS = (0.03, 0.1, 0.3, 1.0, 3.0)
KD, CLICK, SHUFFLED = "teacher only", "clicks only", "joint, shuffled teacher"
JOINT = {f"joint, w = {weight:g}": weight for weight in WEIGHTS}
CLAIM = Claim(
    id="E-UNI",
    statement="One encoder trained on a teacher's relevance and on clicks serves both.",
    source="Zhang et al., KDD 2022 (arXiv 2202.06212)",
    reported="Online gains in sponsored search; no table of the trade-off is public.",
    rule=(
        "On the plane of relevance of the top 10 and recall of clicks in the top 100, the joint "
        "model whose weight of the teacher is best on dev queries lies on or above the line from "
        "the teacher-only to the clicks-only model on test queries, at equal steps."
    ),
    control=(
        "The joint model of weight 1 with the teacher's scores exchanged between items: must lie "
        "below the line."
    ),
    arms=(KD, CLICK, *JOINT, SHUFFLED),
    seeds=5,
)


@dataclass(frozen=True)
class World:
    """Planted items and queries; clicks are rows of items, (queries, clicks)."""

    items: Tensor
    queries: Tensor
    relevance: Tensor
    train_clicks: Tensor
    log_q: Tensor
    clicks: Tensor


def load() -> None:
    """Nothing: each seed draws its own world."""


def world(seed: int) -> World:
    """Draw items, queries and clicks."""
    g = torch.Generator().manual_seed(seed)
    total = TRAIN + DEV + TEST
    topics = nn.functional.normalize(torch.randn(ITEMS, TOPIC, generator=g), dim=1)
    popularity = SPREAD * torch.randn(ITEMS, generator=g)
    asked = nn.functional.normalize(torch.randn(total, TOPIC, generator=g), dim=1)
    relevance = asked @ topics.T
    chances = torch.softmax(MATCH * relevance + popularity, 1)
    train_clicks = torch.multinomial(chances[:TRAIN], TRAIN_CLICKS, generator=g)
    clicks = torch.multinomial(chances[TRAIN:], TEST_CLICKS, generator=g)
    mix = torch.randn(TOPIC + 1, SEEN, generator=g) / 4
    items = torch.cat([topics * 4, popularity[:, None]], 1) @ mix
    items = items + 0.1 * torch.randn(items.shape, generator=g)
    counts = torch.bincount(train_clicks.flatten(), minlength=ITEMS) + 0.5
    return World(
        items, asked * 4, relevance, train_clicks, torch.log(counts / counts.sum()), clicks
    )


class Towers(nn.Module):
    """Two small networks; inner product, so that popularity has room."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Sequential(nn.Linear(TOPIC, 64), nn.ReLU(), nn.Linear(64, WIDTH))
        self.item = nn.Sequential(nn.Linear(SEEN, 64), nn.ReLU(), nn.Linear(64, WIDTH))


def run(arm: str, seed: int, device: str, data: Any) -> dict[str, Any]:
    """Relevance of the top 10 and recall of clicks in the top 100, on dev and test."""
    given = world(seed)
    towers = train(arm, given, seed, device)
    figures: dict[str, Any] = {"per_query": {}}
    with torch.no_grad():
        scores = (
            towers.query(given.queries[TRAIN:].to(device)) @ towers.item(given.items.to(device)).T
        )
    top = scores.cpu().topk(100, dim=1).indices
    relevant = given.relevance[TRAIN:].gather(1, top[:, :10]).mean(1)
    found = (given.clicks[:, :, None] == top[:, None, :]).any(2).float().mean(1)
    for part, rows in (("dev", slice(0, DEV)), ("test", slice(DEV, None))):
        for name, each in (("relevance@10", relevant[rows]), ("clicks@100", found[rows])):
            figures[f"{part} {name}"] = float(each.mean())
            if part == "test":
                figures["per_query"][name] = each.double().numpy()
    return figures


def train(arm: str, given: World, seed: int, device: str) -> Towers:
    """Train an arm; all arms see the same batches and lists."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        towers = Towers()
    towers = towers.to(device)
    g = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(towers.parameters(), RATE)
    exchanged = torch.randperm(ITEMS, generator=g)
    weight = {KD: 1.0, CLICK: 0.0, SHUFFLED: 1.0, **JOINT}[arm]
    for step in range(STEPS):
        rows = torch.randint(TRAIN, (BATCH,), generator=g)
        places = torch.randint(TRAIN_CLICKS, (BATCH,), generator=g)
        lists = torch.randint(ITEMS, (BATCH, LIST), generator=g)
        clicked = given.train_clicks[rows, places]
        q = towers.query(given.queries[rows].to(device))
        goal = (
            MATCH * given.relevance[rows[:, None], exchanged[lists] if arm == SHUFFLED else lists]
        )
        listed = towers.item(given.items[lists].to(device))
        kd = kd_listnet((listed @ q[:, :, None]).squeeze(2), goal.to(device))
        pairs = contrastive(
            q,
            towers.item(given.items[clicked].to(device)),
            tau=1.0,
            p_ids=clicked.to(device),
            log_q=given.log_q[clicked].to(device),
        )
        loss = joint([kd, pairs], [weight, 0.0 if arm == KD else 1.0])
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return towers


def judge(results: Sequence[ArmResult]) -> Verdict:
    """Above the line: the shares of both models' advantages that a model keeps add up to 1."""

    def kept(arm: str, part: str) -> float:
        ends = {
            (end, name): values(results, end, f"{part} {name}").mean()
            for end in (KD, CLICK, arm)
            for name in ("relevance@10", "clicks@100")
        }
        shares = [
            (ends[arm, name] - ends[low, name]) / (ends[high, name] - ends[low, name])
            for name, low, high in (("relevance@10", CLICK, KD), ("clicks@100", KD, CLICK))
        ]
        return float(sum(shares))

    best = max(JOINT, key=lambda arm: kept(arm, "dev"))
    above, below = kept(best, "test") >= 1, kept(SHUFFLED, "test") < 1
    rows = []
    for arm in CLAIM.arms:
        relevance, clicks = (
            spread(values(results, arm, f"test {name}")) for name in ("relevance@10", "clicks@100")
        )
        share = "" if arm in (KD, CLICK) else f"; shares kept {kept(arm, 'test'):.2f}"
        holds = above if arm == best else below if arm == SHUFFLED else None
        ours = f"relevance@10 {relevance}, clicks@100 {clicks}{share}"
        rows.append(Row(f"{arm}{' (best on dev)' * (arm == best)}", "", ours, holds))
    test = compare(_distance(results, CLICK), _distance(results, best))
    text = (
        f"The model with weight {JOINT[best]:g} keeps shares of the two single models' advantages "
        f"that add up to {kept(best, 'test'):.2f}, where the line between them is 1: "
        f"{test.difference:+.2f} [{test.low:+.2f}, {test.high:+.2f}] above it, p = {test.p:.4f} "
        "over test queries."
    )
    return Verdict(above, below, rows, text)


def _distance(results: Sequence[ArmResult], arm: str) -> F64:
    """The shares kept, per test query; means are over seeds."""
    total = np.zeros(TEST)
    for name, low, high in (("relevance@10", CLICK, KD), ("clicks@100", KD, CLICK)):
        ends = {end: per_query(results, end, name) for end in (low, high, arm)}
        total += (ends[arm] - ends[low].mean()) / (ends[high].mean() - ends[low].mean())
    return total


def plot(results: Sequence[ArmResult], axes: Any) -> None:
    """The plane of both measures with the line between the single models."""
    names = ("test relevance@10", "test clicks@100")
    points = {a: [values(results, a, name).mean() for name in names] for a in CLAIM.arms}
    axes.plot(*zip(points[KD], points[CLICK], strict=True), "k--", linewidth=1)
    for arm, (x, y) in points.items():
        axes.plot(x, y, "x" if arm == SHUFFLED else "o", label=arm)
    axes.set_xlabel("relevance of the top 10")
    axes.set_ylabel("recall of clicks in the top 100")
    axes.legend(fontsize="small")
