# SPDX-License-Identifier: Apache-2.0
"""Central encoding, the cache's clock, bus attention, prediction at every position, refinement."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bigrain.train import speedy  # noqa: E402
from bigrain.train.user import AttnPool  # noqa: E402

torch.set_num_threads(1)


def tokens(n: int = 12, K: int = 3, T: int = 5, seed: int = 0) -> Any:
    """Ragged segments; items 3 and 5 lack a segment, item 7 has no text."""
    random = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, 20, (n, K, T), generator=random)
    length = torch.randint(1, T + 1, (n, K), generator=random)
    ids = ids.masked_fill(torch.arange(T) >= length[..., None], 0)
    ids[:, :, 0] = 1
    ids[3, 2], ids[5, 0], ids[7] = 0, 0, 0
    return ids


def test_central_encoding_equals_naive_in_loss_and_gradient() -> None:
    texts, losses, gradients = tokens(), [], []
    random = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 12, (4, 6), generator=random)
    mask = torch.arange(6) < torch.tensor([6, 4, 2, 0])[:, None]
    ids, neg = ids.masked_fill(~mask, -1), torch.randint(0, 12, (4, 5, 3), generator=random)
    for central in (True, False):
        torch.manual_seed(0)
        encoder = speedy.BusEncoder(20, 8, heads=2, length=5).double()
        pool = AttnPool(8).double()
        dummy = torch.zeros(8, dtype=torch.float64, requires_grad=True)
        if central:
            every = torch.cat([ids.flatten(), neg.flatten()])
            out = speedy.encode_unique(every, lambda i, e=encoder: e(texts[i]), dummy)
            hist, negatives = out[: ids.numel()].view(4, 6, 8), out[ids.numel() :].view(4, 5, 3, 8)
        else:
            hist = torch.stack(
                [
                    torch.stack([encoder(texts[i][None])[0] if i >= 0 else dummy for i in row])
                    for row in ids
                ]
            )
            negatives = encoder(texts[neg.flatten()]).view(4, 5, 3, 8)
        users = speedy.ar_user(hist, mask, pool.logits(hist))
        loss = speedy.ar_loss(users, hist[:, 1:], negatives, mask[:, 1:])
        loss.backward()
        losses.append(loss.detach())
        parameters = [*encoder.named_parameters(), *pool.named_parameters()]
        gradients.append({n: p.grad for n, p in parameters if p.grad is not None})
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-12, atol=0)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-12, atol=1e-14)


def test_encode_unique_pads_and_calls_once() -> None:
    seen: list[list[int]] = []

    def encode(ids: Any) -> Any:
        seen.append(ids.tolist())
        return ids[:, None].float() * torch.ones(2)

    out = speedy.encode_unique(torch.tensor([[3, 1, -1], [1, 1, -1]]), encode)
    assert seen == [[1, 3]]
    assert out[..., 0].tolist() == [[3, 1, 0], [1, 1, 0]]
    dummy = torch.tensor([9.0, 8.0])
    out = speedy.encode_unique(torch.tensor([-1, 2]), encode, dummy)
    assert out.tolist() == [[9, 8], [2, 2]]
    assert speedy.encode_unique(torch.tensor([[-1]]), encode, dummy).tolist() == [[[9, 8]]]
    with pytest.raises(ValueError, match="ids: expected an id other than padding"):
        speedy.encode_unique(torch.tensor([-1]), encode)
    with pytest.raises(TypeError, match="ids: expected int64"):
        speedy.encode_unique(torch.tensor([1.0]), encode)


def test_cache_age_counts_from_the_encoding() -> None:
    cache = speedy.NewsCache(5, 2, beta=1e9, gamma=2)
    ids = torch.tensor([1, 3])
    # Encoded at step 4, stored after the optimizer of step 4 or much later: written is 4.
    cache.store(ids, torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True), step=4)
    for step, hits in ((4, True), (6, True), (7, False)):
        emb, hit = cache.lookup(torch.tensor([3, 1, 0]), step)
        assert hit.tolist() == [hits, hits, False]
        assert not emb.requires_grad
        assert emb.tolist() == ([[3, 4], [1, 2], [0, 0]] if hits else [[0, 0]] * 3)


def test_cache_is_read_with_the_published_probability() -> None:
    cache = speedy.NewsCache(4, 1, beta=0.002, gamma=10**6, seed=5)
    ids = torch.arange(4)
    cache.store(ids, torch.ones(4, 1), 0)
    assert not any(bool(cache.lookup(ids, 0)[1].any()) for _ in range(50))  # p_0 = 0
    rates = []
    for _ in range(3000):
        hit = cache.lookup(ids, 500)[1]
        assert bool(hit.all()) == bool(hit.any())  # one draw per batch
        rates.append(float(hit[0]))
    p = 1 - math.exp(-1)
    assert abs(sum(rates) / 3000 - p) < 4 * math.sqrt(p * (1 - p) / 3000)
    off = speedy.NewsCache(4, 1, beta=1e9, gamma=0)
    off.store(ids, torch.ones(4, 1), 3)
    assert not off.lookup(ids, 3)[1].any()
    with pytest.raises(ValueError, match="gamma"):
        speedy.NewsCache(4, 1, gamma=-1)


def test_cached_vectors_carry_no_gradient_and_misses_do() -> None:
    weight = torch.ones(4, 2, requires_grad=True)
    calls: list[int] = []

    def encode(ids: Any) -> Any:
        calls.append(len(ids))
        return weight[ids]

    cache = speedy.NewsCache(4, 2, beta=1e9, gamma=5)
    speedy.encode_unique(torch.tensor([0, 1]), encode, cache=cache, step=1)
    with torch.no_grad():
        weight.mul_(2)  # the optimizer
    out = speedy.encode_unique(torch.tensor([0, 1, 2, 2]), encode, cache=cache, step=2)
    assert calls == [2, 1]
    assert out[:, 0].tolist() == [1, 1, 2, 2]
    out.sum().backward()
    assert weight.grad[:, 0].tolist() == [0, 0, 2, 0]
    every = speedy.encode_unique(torch.tensor([0, 2]), encode, cache=cache, step=3)
    assert calls == [2, 1]
    assert not every.requires_grad


def test_cache_resumes_its_draws() -> None:
    first = speedy.NewsCache(3, 2, beta=0.1, gamma=50, seed=2)
    first.store(torch.arange(3), torch.ones(3, 2), 0)
    state = first.state_dict()
    after = [bool(first.lookup(torch.arange(3), 7)[1].any()) for _ in range(30)]
    second = speedy.NewsCache(3, 2, beta=0.1, gamma=50, seed=9)
    second.load_state_dict(state)
    assert [bool(second.lookup(torch.arange(3), 7)[1].any()) for _ in range(30)] == after


def bus_by_hand(layer: Any, x: Any, mask: Any, item: int, seg: int) -> Any:
    """One head after another over the list of what a segment may see, the own bus once."""
    _, K, T, d = x.shape
    see = [x[item, s, 0] for s in range(K) if s != seg and mask[item, s, 0]]
    see += [x[item, seg, t] for t in range(T) if mask[item, seg, t]]
    k, v = layer.keys(layer.norms[0](torch.stack(see))).chunk(2, -1)
    q, heads = layer.query(layer.norms[0](x[item, seg])), layer.heads
    parts = []
    for a, b, c in zip(*(m.chunk(heads, -1) for m in (q, k, v)), strict=True):
        parts.append(torch.softmax(a @ b.T / (d // heads) ** 0.5, -1) @ c)
    y = x[item, seg] + layer.out(torch.cat(parts, -1))
    y = y + layer.feed(layer.norms[1](y))
    return y * mask[item, seg][:, None]


def test_bus_layer_equals_a_loop() -> None:
    torch.manual_seed(0)
    mask = tokens() > 0
    x = torch.randn(*mask.shape, 8, dtype=torch.float64)
    layer = speedy.BusLayer(8, 2).double()
    out = layer(x, x[:, :, 0], mask)
    for item in range(len(x)):
        for seg in range(3):
            if mask[item, seg].any():
                expected = bus_by_hand(layer, x, mask, item, seg)
                torch.testing.assert_close(out[item, seg], expected, rtol=0, atol=1e-12)
    assert not out[~mask].any()
    alone = layer(x, None, mask)
    torch.testing.assert_close(alone[:, :1], layer(x[:, :1], None, mask[:, :1]))
    # Were the own bus not masked, it would count twice.
    one = layer(x[:1, :1], x[:1, :1, 0], mask[:1, :1])
    torch.testing.assert_close(one, layer(x[:1, :1], None, mask[:1, :1]))
    with pytest.raises(ValueError, match="dim: expected a multiple"):
        speedy.BusLayer(9, 2)


def test_bus_layer_gradcheck_with_empty_segments() -> None:
    torch.manual_seed(0)
    mask = tokens(8)[5:8, :, :3] > 0
    x = torch.randn(3, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    layer = speedy.BusLayer(4, 2).double()
    assert torch.autograd.gradcheck(lambda a: layer(a, a[:, :, 0], mask), (x,))


def test_bus_encoder_carries_words_across_segments() -> None:
    torch.manual_seed(0)
    texts = tokens()
    changed = texts.clone()
    changed[0, 0, 1] = 19 - changed[0, 0, 1]
    for bus in (True, False):
        encoder = speedy.BusEncoder(20, 8, heads=2, length=5, bus=bus)
        parts: list[Any] = []
        encoder.norm.register_forward_hook(lambda _m, i, _o, kept=parts: kept.append(i[0]))
        out, _ = encoder(texts), encoder(changed)
        assert not torch.equal(parts[0][0, 0], parts[1][0, 0])
        assert torch.equal(parts[0][0, 1], parts[1][0, 1]) != bus
        assert out.shape == (12, 8)
        assert not out[7].any()
        assert bool(torch.isfinite(out).all())
    joint = encoder(texts.view(12, 1, 15)[:, :, :5], torch.ones(12, 1, 5, dtype=torch.int64))
    assert joint.shape == (12, 8)


def test_ar_user_sees_the_past_only() -> None:
    torch.manual_seed(0)
    hist = torch.randn(3, 5, 4, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0] * 5]).bool()
    pool = AttnPool(4).double()
    users = speedy.ar_user(hist, mask, pool.logits(hist))
    assert users.shape == (3, 4, 4)
    for t in range(4):
        torch.testing.assert_close(users[:, t], pool(hist[:, : t + 1], mask[:, : t + 1]))
    torch.testing.assert_close(speedy.ar_user(hist, mask)[0, 2], hist[0, :3].mean(0))
    assert not users[1, :2].any()
    assert not users[2].any()
    assert speedy.ar_user(hist[:, :1], mask[:, :1]).shape == (3, 0, 4)
    hist.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: speedy.ar_user(x, mask, pool.logits(x)), (hist,))


@pytest.mark.parametrize("S", [0, 1, 3])
def test_ar_loss_equals_a_loop(S: int) -> None:
    torch.manual_seed(0)
    user, pos, neg = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 3, 4), (2, 3, 4), (2, 3, S, 4))
    )
    mask = torch.tensor([[True, False, True], [False, False, True]])
    total = torch.tensor(0.0, dtype=torch.float64)
    for i, t in mask.nonzero():
        items = torch.cat([pos[i, t][None], neg[i, t]])
        total = total - torch.log_softmax(items @ user[i, t], 0)[0]
    loss = speedy.ar_loss(user, pos, neg, mask)
    torch.testing.assert_close(loss, total / 3, rtol=0, atol=1e-12)
    assert not speedy.ar_loss(user, pos, neg, torch.zeros_like(mask)).any()
    assert torch.autograd.gradcheck(lambda *a: speedy.ar_loss(*a, mask), (user, pos, neg))
    with pytest.raises(ValueError, match="neg: expected shape"):
        speedy.ar_loss(user, pos, neg[:, :2], mask)


def test_refine_keeps_weighty_words_in_order() -> None:
    texts = [["the", "rare", "cat", "cat", "sat"], ["the", "cat"], ["the", "dog", "sat"]]
    kept = speedy.refine(texts, 2, stop={"the"})
    # idf: rare, dog log 3; cat, sat log 1.5; cat's tf of 2 is worth 2 * 3 / 4 = 1.5.
    assert kept[0] == (["rare", "cat"], [1, 2])
    assert kept[2] == (["dog", "sat"], [1, 1])
    assert speedy.refine(texts, 1)[1] == (["cat"], [1])
    assert speedy.refine([[]]) == [([], [])]
