# SPDX-License-Identifier: Apache-2.0
"""What the experiments on users rest on: planted worlds, rank correlation, serving, exactness."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bigrain_claims import e_oct, e_spd, interests, news  # noqa: E402

torch.set_num_threads(1)


def test_a_planted_world_is_what_it_says() -> None:
    world = interests.planted(3, train=30, test=12)
    assert world.history.shape == (42, interests.HISTORY)
    for i in range(42):
        active = world.interests[i][world.interests[i] >= 0]
        assert set(world.cluster[world.history[i]]) == set(active)
        assert world.cluster[world.target[i]] in active
    assert world.many.max() <= interests.MOST
    assert (world.many[::6] == 1).all()
    again = interests.planted(3, train=30, test=12)
    np.testing.assert_array_equal(world.history, again.history)
    other = interests.shuffled(world, 0)
    assert sorted(map(tuple, other.history)) == sorted(map(tuple, world.history))


@pytest.mark.parametrize("arm", ["mean", "attention", "comirec-2", "mind-2", "octopus-4", "hash-2"])
def test_every_arm_trains_and_serves(arm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interests, "QUOTA_STEPS", 2)
    world = interests.planted(0, train=260, test=12)
    net = interests.train(world, arm, 0, 1e-3, steps=2)
    served = interests.serve(net, world, "score" if arm == "mind-2" else "allocate", total=40)
    assert all(values.shape == (12,) for values in served.values())
    single = arm in ("mean", "attention")
    assert bool((served["vectors"] == 1).all()) or not single
    assert served["coverage"][world.many[world.test] == 1].all()
    assert (served["probes"] <= served["vectors"]).all()


def test_spearman_shares_ranks_between_ties() -> None:
    x, y = np.array([1.0, 2, 2, 3, 4]), np.array([1.0, 3, 2, 5, 4])
    rho, p = e_oct.spearman(x, y)
    assert rho == pytest.approx(0.8721, abs=1e-4)  # as scipy.stats.spearmanr gives it
    assert 0.05 < p < 0.3
    assert e_oct.spearman(x, np.ones(5)) == (0.0, 1.0)


def planted_news() -> Any:
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, news.VOCABULARY, (400, news.SEGMENTS, news.SEGMENT))
    tokens[np.arange(news.SEGMENT) >= rng.integers(2, 20, (400, news.SEGMENTS, 1))] = news.PAD
    tokens[:, :, 0] = news.CLS
    texts = torch.from_numpy(tokens)
    return news.News(
        texts[:, :1, : news.TITLE],
        texts,
        np.arange(400) % 40,
        torch.zeros(news.VOCABULARY, news.DIM),
    )


def test_central_encoding_is_exact_and_the_cache_saves() -> None:
    articles = planted_news()
    readers = news.readers(articles, 0, train=40, test=6)
    off = e_spd.exactness(articles, readers, 0)
    assert max(off.values()) <= 1e-12
    # A test reader is shown two articles of their topics, and none that they have read.
    for i, reader in enumerate(readers.test):
        mine = set(articles.topic[readers.history[reader][readers.history[reader] >= 0]])
        clicked = readers.shown[i][readers.clicked[i] == 1]
        assert not set(clicked) & set(readers.history[reader])
        assert len(clicked) == news.CLICKED
        assert not set(articles.topic[readers.shown[i][readers.clicked[i] == 0]]) & mine
    _, fresh = news.train(articles, readers, 0, steps=3)
    _, kept = news.train(articles, readers, 0, cache=e_spd.cache_of("cache-forever", 0), steps=3)
    assert kept.encodes[0] == fresh.encodes[0]
    assert sum(kept.encodes) < sum(fresh.encodes)


@pytest.mark.parametrize("kind", ["bus", "joint", "independent"])
def test_segments_are_read_in_every_way(kind: str) -> None:
    found = news.read_segments(kind, planted_news(), 0, steps=1)
    assert 0 <= found["accuracy"] <= 1
    assert found["hits"].shape == (80,)
