# SPDX-License-Identifier: Apache-2.0
"""What batches promise: no duplicates, few padded tokens, one topic, neighbours; over ranks too."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bigrain.quant._kmeans import k_means  # noqa: E402
from bigrain.train.data import TrainingSet  # noqa: E402
from bigrain.train.samplers import (  # noqa: E402
    Locality,
    NoDuplicates,
    TokenBudget,
    TopicAware,
)

N = 240
RNG = np.random.default_rng(0)
KEYS = RNG.integers(0, 90, (N, 2))
LENGTHS = RNG.geometric(0.05, N).clip(1, 100)
VECTORS = np.eye(6, dtype=np.float32)[np.arange(N) % 6] * 5 + RNG.normal(0, 0.3, (N, 6))
POSITIVES = np.arange(N)
# A ring: each query's results are the next rows' positives.
RING = (np.arange(N)[:, None] + np.arange(0, 6)) % N

KINDS: dict[str, Any] = {
    "NoDuplicates": lambda **o: NoDuplicates(KEYS, 8, **o),
    "TokenBudget": lambda **o: TokenBudget(LENGTHS, 300, pool=4, **o),
    "TopicAware": lambda **o: TopicAware(VECTORS, 8, 6, **o),
    "walk": lambda **o: Locality(RING, POSITIVES, 8, order="walk", **o),
    "snowball": lambda **o: Locality(RING, POSITIVES, 8, order="snowball", **o),
}


def take(sampler: Any, count: int) -> list[list[int]]:
    return [rows.tolist() for rows in islice(sampler, count)]


@pytest.mark.parametrize("kind", KINDS)
def test_resumes_and_depends_on_the_seed_alone(kind: str) -> None:
    make = KINDS[kind]
    expected = take(make(seed=3), 90)  # three epochs or more
    assert take(make(seed=3), 90) == expected
    assert take(make(seed=4), 90) != expected
    assert sorted(map(sorted, expected[:20])) != sorted(map(sorted, expected[-20:]))
    for stop in (0, 1, 29, 30, 31, 77):
        first = make(seed=3)
        assert take(first, stop) == expected[:stop]
        state, again = first.state_dict(), make(seed=3)
        again.load_state_dict(state)
        assert take(again, 90 - stop) == expected[stop:]
    with pytest.raises(ValueError, match="state: expected seed 4, found 3"):
        make(seed=4).load_state_dict(state)


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_share_an_epoch(kind: str) -> None:
    samplers = [KINDS[kind](seed=1, rank=rank, world=3) for rank in range(3)]
    seen: list[int] = []
    for _ in range(200):
        rows = [next(iter(sampler)) for sampler in samplers]
        if samplers[0].epoch:
            break
        assert all(part.dtype == np.int64 for part in rows)
        merged = np.concatenate(rows).tolist()
        assert len(set(merged)) == len(merged)
        seen += merged
    if kind != "TopicAware":  # which samples topics
        assert len(set(seen)) == len(seen)
    assert len(seen) >= (0.8 if kind == "TokenBudget" else 0.9) * N
    with pytest.raises(ValueError, match="rank: expected 0 to 2, found 3"):
        KINDS[kind](rank=3, world=3)


def test_no_duplicates_over_ranks_and_columns() -> None:
    samplers = [NoDuplicates(KEYS, 8, rank=rank, world=2) for rank in range(2)]
    for parts in islice(zip(*samplers, strict=True), 40):
        keys = KEYS[np.concatenate(parts)]
        assert len(np.unique(keys[:, 0])) == len(np.unique(keys[:, 1])) == 16
    with pytest.raises(ValueError, match="no batch of this size"):
        next(iter(NoDuplicates([1, 1, 1, 2], 3)))
    data = TrainingSet(["a", "A", "b", "c"], ["x", "y", "X "], np.array([0, 1, 2, 1]))
    first = next(iter(NoDuplicates.from_data(data, 2)))
    assert set(first.tolist()) in ({0, 3}, {1, 2}, {2, 3})


def test_token_budget_is_kept_and_used() -> None:
    batches = take(TokenBudget(LENGTHS, 300, pool=4), 30)
    padded = [len(rows) * LENGTHS[rows].max() for rows in batches]
    assert max(padded) <= 300
    real = sum(LENGTHS[rows].sum() for rows in batches)
    shuffled = np.random.default_rng(1).permutation(N).reshape(-1, 10)
    naive = LENGTHS.sum() / sum(10 * LENGTHS[rows].max() for rows in shuffled)
    assert real / sum(padded) > 1.4 * naive
    with pytest.raises(ValueError, match="lengths: expected 1 to budget=50"):
        TokenBudget(LENGTHS, 50)


def test_topics_are_single_and_margins_flat() -> None:
    margins = RNG.exponential(1.0, N)  # most are small
    sampler = TopicAware(VECTORS, 8, 6, margins=margins, bins=5)
    assert len(np.unique(sampler.topics)) == 6
    counts = np.zeros(5)
    edges = np.linspace(margins.min(), margins.max(), 6)
    for rows in islice(sampler, 120):
        assert len({row % 6 for row in rows.tolist()}) == 1
        assert len(set(rows.tolist())) == 8
        bins = np.clip(np.digitize(margins[rows], edges) - 1, 0, 4)
        there = np.bincount(bins, minlength=5)
        available = np.bincount(
            np.clip(np.digitize(margins[np.arange(rows[0] % 6, N, 6)], edges) - 1, 0, 4),
            minlength=5,
        )
        lagging = available > there  # which no bin may do by more than one while it has rows
        assert not lagging.any() or there[lagging].min() >= there.max() - 1
        counts += there
    assert counts[0] / counts.sum() < 0.6 < (margins < edges[1]).mean()


def test_small_topics_dissolve() -> None:
    x = np.concatenate([np.zeros((30, 2)), np.ones((3, 2)) * 9, np.ones((30, 2)) * 10])
    assert len(np.unique(k_means(x, 3, seed=2, least=1))) >= 2
    labels = k_means(x, 20, least=8)
    assert np.bincount(labels)[np.unique(labels)].min() >= 8
    assert len(set(labels[30:].tolist()) & set(labels[:30].tolist())) == 0
    with pytest.raises(ValueError, match="k: expected 1 to 63 clusters"):
        k_means(x, 64)


@pytest.mark.parametrize("order", ["walk", "snowball"])
def test_locality_batches_are_neighbours(order: Any) -> None:
    def spread(rows: Any) -> float:
        """The share of a batch's rows whose results hold another row's positive."""
        return float(np.mean([np.isin(np.delete(RING[r], 0), rows).any() for r in rows]))

    local = np.mean(
        [spread(rows) for rows in islice(Locality(RING, POSITIVES, 8, order=order), 30)]
    )
    random = np.mean(
        [spread(rows) for rows in np.random.default_rng(2).permutation(N).reshape(-1, 8)]
    )
    assert local > 0.6 > 0.3 > random
    with pytest.raises(ValueError, match="order: expected 'walk' or 'snowball'"):
        Locality(RING, POSITIVES, 8, order="run")  # type: ignore[arg-type]


def test_walk_is_last_in_and_snowball_first_in() -> None:
    # A tree: 0 leads to 1 and 2, these to 3, 4 and 5, 6.
    near = np.full((7, 2), -1)
    near[0], near[1], near[2] = (1, 2), (3, 4), (5, 6)
    for seed in range(40):
        walk = next(iter(Locality(near, np.arange(7), 3, order="walk", seed=seed))).tolist()
        ball = next(iter(Locality(near, np.arange(7), 3, order="snowball", seed=seed))).tolist()
        if walk[0] == 0:
            assert walk[2] in near[walk[1]]
            assert set(ball[1:]) == {1, 2}
