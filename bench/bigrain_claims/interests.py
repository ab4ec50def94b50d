# SPDX-License-Identifier: Apache-2.0
"""Users with several interests: planted worlds, the arms' user models, training and serving.

Every arm shares what is not its own: item vectors, a linear item tower that starts as the identity
and is trained, steps, batches, negatives, and the number of candidates. MIND's dynamic routing (Li
et al., CIKM 2019) stands here, as an arm only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

import bigrain
from bigrain.train import user as models

I64 = NDArray[np.int64]
# The experiment's world: histories of 30 items in 64 dimensions, 1 to 6 of 50 interests.
CLUSTERS, DIM, HISTORY, MOST = 50, 64, 30, 6
ITEMS, CANDIDATES = 2000, 120
# So wide that the search is as good as exact: candidates, not the index, are compared here.
WIDTH = 3 * CANDIDATES
STEPS, QUOTA_STEPS, BATCH, NEGATIVES, TAU = 200, 150, 256, 128, 0.1
# Weight of Octopus's regulariser: with unit item vectors the loss is of the order of 1.
ORTHO = 0.1


@dataclass(frozen=True)
class World:
    """Items and users.

    Attributes:
        items: (n, d) float32 unit vectors.
        cluster: (n,) of items, -1 where unknown.
        history: (u, L) rows of items, -1 pads; target: (u,) the next item.
        interests: (u, MOST) clusters of a user's active interests, -1 pads.
        train, test: rows of users.
    """

    items: Tensor
    cluster: I64
    history: I64
    target: I64
    interests: I64
    train: I64
    test: I64

    @property
    def many(self) -> I64:
        """(u,) active interests per user."""
        return cast(I64, (self.interests >= 0).sum(1))


def planted(seed: int, train: int = 4000, test: int = 1200, noise: float = 0.5) -> World:
    """A world whose answers are known.

    A user has 1 to 6 clusters (in turn, so that test users have as many of each), in shares drawn
    from Dirichlet(1), and items of a cluster by Zipf's law; the target's cluster is drawn evenly
    from those in the history. `noise` is the length of an item's difference from its centre.
    """
    rng = np.random.default_rng([seed, 7])
    centres = _unit(rng.standard_normal((CLUSTERS, DIM)))
    cluster = np.arange(ITEMS) % CLUSTERS
    offset = noise * rng.standard_normal((ITEMS, DIM)) / np.sqrt(DIM)
    items = _unit(centres[cluster] + offset).astype(np.float32)
    # Item c + j * CLUSTERS is the j-th most popular of cluster c.
    zipf = np.cumsum(1 / np.arange(1, ITEMS // CLUSTERS + 1))
    users = train + test
    place = np.searchsorted(zipf / zipf[-1], rng.random((users, HISTORY + 1)))
    which = np.empty((users, HISTORY + 1), np.int64)
    interests = np.full((users, MOST), -1, np.int64)
    for i in range(users):
        chosen = rng.choice(CLUSTERS, 1 + i % MOST, replace=False)
        which[i] = rng.choice(chosen, HISTORY + 1, p=rng.dirichlet(np.ones(len(chosen))))
        active = np.unique(which[i, :HISTORY])
        interests[i, : len(active)] = active
        which[i, HISTORY] = rng.choice(active)
    chosen_items = which + CLUSTERS * place
    history, target = chosen_items[:, :HISTORY], chosen_items[:, HISTORY]
    rows = np.arange(users)
    vectors = torch.from_numpy(items)
    return World(vectors, cluster, history, target, interests, rows[:train], rows[train:])


def shuffled(world: World, seed: int) -> World:
    """The world with every user's history given to another: the control."""
    order = np.random.default_rng([seed, 8]).permutation(len(world.history))
    return World(
        world.items,
        world.cluster,
        world.history[order],
        world.target,
        world.interests,
        world.train,
        world.test,
    )


class MindRouting(nn.Module):
    """MIND's behaviour-to-interest routing with a fixed number of capsules.

    One bilinear map for all capsules, routing logits that start from fixed Gaussian draws, three
    iterations, squash; no gradient through the routing logits (section 4.2 of the paper).
    """

    def __init__(self, capsules: int, dim: int, seed: int = 0) -> None:
        super().__init__()
        self.bilinear = nn.Linear(dim, dim, bias=False)
        nn.init.eye_(self.bilinear.weight)
        random = torch.Generator().manual_seed(seed)
        self.start: Tensor
        self.register_buffer("start", torch.randn(HISTORY, capsules, generator=random))

    def forward(self, hist: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Users (b, K, d) and active (b, K)."""
        mapped = self.bilinear(hist)
        logits = self.start[: hist.shape[1]].expand(len(hist), -1, -1)
        for last in (False, False, True):
            weights = torch.softmax(logits, 2) * mask[:, :, None]
            source = mapped if last else mapped.detach()
            z = torch.einsum("blk,bld->bkd", weights, source)
            square = z.square().sum(-1, keepdim=True)
            capsules = z * square / (1 + square) / (square + 1e-9).sqrt()
            logits = logits + torch.einsum("bkd,bld->blk", capsules, source).detach()
        return capsules, mask.any(1)[:, None].expand(capsules.shape[:2])


class Mean(nn.Module):
    """The plain mean of the history: one vector without parameters."""

    def forward(self, hist: Tensor, mask: Tensor) -> Tensor:
        """Users (b, d)."""
        return (hist * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True).clamp_min(1)


def make(arm: str, items: Tensor, seed: int) -> nn.Module:
    """The user model of an arm: name and, behind the last dash, its size."""
    name, _, size = arm.partition("-")
    dim = items.shape[1]
    if name == "octopus":
        return models.Octopus(int(size.split("-")[0]), dim, items=items, seed=seed)
    if name == "hash":
        return models.HashInterest(int(size.split("-")[0]), dim, seed=seed)
    torch.manual_seed(seed)
    if name == "comirec":
        return models.ComiRecSA(int(size), dim)
    if name == "mind":
        return MindRouting(int(size), dim, seed)
    return models.AttnPool(dim) if name == "attention" else Mean()


class Recommender(nn.Module):
    """Item tower and user model; unit vectors on both sides."""

    def __init__(self, arm: str, items: Tensor, seed: int) -> None:
        super().__init__()
        self.tower = nn.Linear(items.shape[1], items.shape[1], bias=False)
        nn.init.eye_(self.tower.weight)
        self.model = make(arm, items, seed)
        self.quota = models.QuotaNet(items.shape[1])

    def items(self, vectors: Tensor) -> Tensor:
        """Unit vectors of items."""
        return functional.normalize(self.tower(vectors), dim=-1)

    def users(self, hist: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Unit vectors (b, G, d), active and items per vector (b, G)."""
        out = self.model(hist, mask)
        if isinstance(out, Tensor):
            out = (out[:, None], mask.any(1)[:, None])
        vectors, active = out[:2]
        count = active.long()
        if isinstance(self.model, models.Octopus):
            count = out[2]
        elif isinstance(self.model, models.HashInterest):
            groups = models.group_codes(out[2])
            ones = functional.one_hot(groups.clamp_min(0), vectors.shape[1])
            count = (ones * mask[:, :, None]).sum(1)
        return functional.normalize(vectors, dim=-1), active, count

    def penalty(self) -> Tensor:
        """The regulariser of the user model."""
        if isinstance(self.model, models.Octopus):
            return ORTHO * self.model.ortho()
        return self.tower.weight.new_zeros(())


def train(
    world: World, arm: str, seed: int, lr: float, steps: int = STEPS, device: str = "cpu"
) -> Recommender:
    """Sampled softmax on the closest vector, then the quota network on which one it was."""
    net = Recommender(arm, world.items, seed).to(device)
    trained = [*net.tower.parameters(), *net.model.parameters()]
    optimizer = torch.optim.Adam(trained, lr)
    rng = np.random.default_rng([seed, 9])
    for _ in range(steps):
        rows = rng.choice(world.train, BATCH, replace=False)
        users, active, _, target = _batch(net, world, rows, device)
        negatives = rng.integers(0, len(world.items), NEGATIVES)
        neg = net.items(world.items[torch.from_numpy(negatives)].to(device))
        loss = models.multi_interest(users, active, target, neg, tau=TAU) + net.penalty()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    fit_quota(net, world, rng, device)
    return net


def fit_quota(net: Recommender, world: World, rng: np.random.Generator, device: str) -> None:
    """Train the quota network alone; an arm of one vector has nothing to learn here."""
    if isinstance(net.model, models.AttnPool | Mean):
        return
    optimizer = torch.optim.Adam(net.quota.parameters(), 3e-3)
    for _ in range(QUOTA_STEPS):
        rows = rng.choice(world.train, BATCH, replace=False)
        with torch.no_grad():
            users, active, count, target = _batch(net, world, rows, device)
            near = torch.einsum("bgd,bd->bg", users, target).masked_fill(~active, -torch.inf)
        loss = models.quota(net.quota(users, active, count), active, near.argmax(1))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _batch(
    net: Recommender, world: World, rows: I64, device: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    history = torch.from_numpy(world.history[rows])
    hist = net.items(world.items[history.clamp_min(0)].to(device))
    target = net.items(world.items[torch.from_numpy(world.target[rows])].to(device))
    return (*net.users(hist, (history >= 0).to(device)), target)


def serve(
    net: Recommender,
    world: World,
    merge: Literal["allocate", "score"],
    total: int = CANDIDATES,
    device: str = "cpu",
) -> dict[str, NDArray[np.float64]]:
    """Candidates for the test users through the index, and what they are worth.

    Returns:
        Per test user "recall" (the target is among the candidates), "coverage" (the share of
        active interests with a candidate), "vectors", "probes" (vectors with a quota).
    """
    with torch.no_grad():
        users, active, count, _ = _batch(net, world, world.test, device)
        vectors = net.items(world.items.to(device)).cpu().numpy()
        shares = models.serving_quota(net.quota(users, active, count), active, total)
    queries, alive = users.cpu().numpy(), active.cpu().numpy()
    asked = alive if merge == "score" else shares.cpu().numpy() > 0
    index = bigrain.Index.build(vectors, metric="ip")
    found = index.search_multi(
        queries,
        total,
        quota=None if merge == "score" else shares.cpu().numpy(),
        merge=merge,
        active=asked,
        width=WIDTH,
    ).ids
    target = world.target[world.test]
    own = world.interests[world.test]
    reached = (world.cluster[found][:, None, :] == own[:, :, None]).any(2) & (own >= 0)
    return {
        "recall": (found == target[:, None]).any(1).astype(np.float64),
        "coverage": reached.sum(1) / np.maximum((own >= 0).sum(1), 1),
        "vectors": alive.sum(1).astype(np.float64),
        "probes": asked.sum(1).astype(np.float64),
    }


def _unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return cast(NDArray[np.float64], x / np.linalg.norm(x, axis=1, keepdims=True))
