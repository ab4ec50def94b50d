# SPDX-License-Identifier: Apache-2.0
"""User vectors: grouping, masks, gradients, quotas, the merge."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bigrain.train import user as u  # noqa: E402

torch.set_num_threads(1)


def history(b: int = 3, L: int = 6, d: int = 5, seed: int = 0, dtype: Any = None) -> Any:
    """Items with ragged masks; the last user has none."""
    random = torch.Generator().manual_seed(seed)
    hist = torch.randn(b, L, d, generator=random, dtype=dtype or torch.float64)
    mask = torch.arange(L) < torch.tensor([L, L - 2, 0])[:b, None]
    return hist, mask


def models(d: int = 5, dtype: Any = None) -> dict[str, Any]:
    torch.manual_seed(0)
    made = {
        "attn": u.AttnPool(d),
        "comirec": u.ComiRecSA(2, d),
        "octopus": u.Octopus(3, d),
        "hash": u.HashInterest(2, d),
    }
    return {name: model.to(dtype or torch.float64) for name, model in made.items()}


def vectors(model: Any, hist: Any, mask: Any) -> Any:
    out = model(hist, mask)
    return out[0] if isinstance(out, tuple) else out


@pytest.mark.parametrize("name", ["attn", "comirec", "octopus", "hash"])
def test_padding_says_nothing_and_empty_users_are_zero(name: str) -> None:
    model = models()[name]
    hist, mask = history()
    noisy = torch.where(mask[:, :, None], hist, torch.full_like(hist, 1e3))
    torch.testing.assert_close(vectors(model, hist, mask), vectors(model, noisy, mask))
    noisy.requires_grad_(True)
    out = vectors(model, noisy, mask)
    out.square().sum().backward()
    assert not out[2].any()
    assert bool(torch.isfinite(noisy.grad).all())
    assert not noisy.grad[~mask].any()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters())


@pytest.mark.parametrize("name", ["attn", "comirec", "octopus", "hash"])
@pytest.mark.parametrize("b", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_shapes_and_dtypes(name: str, b: int, dtype: str) -> None:
    kind = getattr(torch, dtype)
    hist, mask = history(b, dtype=kind)
    out = models(dtype=kind)[name](hist, mask)
    if name == "attn":
        assert out.shape == (b, 5)
        return
    users, active = out[:2]
    assert users.dtype == kind
    assert active.shape == users.shape[:2]
    assert active.dtype == torch.bool
    if name == "hash":
        assert (out[2].dtype, tuple(out[2].shape)) == (torch.int32, (b, 6))


@pytest.mark.parametrize("name", ["attn", "comirec", "octopus", "hash"])
def test_gradcheck_by_items(name: str) -> None:
    model = models()[name]
    hist, mask = history()
    hist.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: vectors(model, x, mask), (hist,))


@pytest.mark.parametrize("name", ["attn", "comirec", "octopus"])
def test_gradcheck_by_parameters(name: str) -> None:
    model = models()[name]
    hist, mask = history()
    names = [key for key, _ in model.named_parameters()]
    values = tuple(p.detach().clone().requires_grad_(True) for p in model.parameters())

    def run(*parameters: Any) -> Any:
        named = dict(zip(names, parameters, strict=True))
        out = torch.func.functional_call(model, named, (hist, mask))
        return out[0] if isinstance(out, tuple) else out

    assert torch.autograd.gradcheck(run, values)


def test_octopus_equals_a_loop() -> None:
    model = models()["octopus"]
    hist, mask = history()
    users, active, count = model(hist, mask)
    H = model.channels.detach()
    for i in range(len(hist)):
        for g in range(3):
            mine = [x for x, m in zip(hist[i], mask[i], strict=True) if m and (H @ x).argmax() == g]
            assert int(count[i, g]) == len(mine)
            assert bool(active[i, g]) == bool(mine)
            expected = torch.zeros(5, dtype=torch.float64)
            if mine:
                items = torch.stack(mine)
                expected = torch.softmax(items @ H[g], 0) @ items
            torch.testing.assert_close(users[i, g], expected, rtol=0, atol=1e-12)
    assert model.assign(hist, mask)[~mask].eq(-1).all()


def test_item_basis_reconstructs_as_well_as_the_best() -> None:
    items = torch.randn(50, 6, generator=torch.Generator().manual_seed(1)) * torch.arange(1, 7)
    H = u.item_basis(items, 3, seed=4)
    torch.testing.assert_close(H @ H.T, torch.eye(3), rtol=0, atol=1e-5)
    singular = torch.linalg.svdvals(items)
    lost = (items - items @ H.T @ H).square().sum()
    torch.testing.assert_close(lost, singular[3:].square().sum())
    model = u.Octopus(3, 6, items=items)
    assert float(model.ortho().detach()) < 1e-9
    with torch.no_grad():
        model.channels.mul_(2)
    torch.testing.assert_close(model.ortho().detach(), torch.tensor(27.0))
    with pytest.raises(ValueError, match="channels: expected 1 to 6"):
        u.Octopus(7, 6)


def test_hash_groups_are_the_items_of_equal_code() -> None:
    model = models()["hash"]
    hist, mask = history(L=9)
    users, active, codes = model(hist, mask)
    assert codes[~mask].eq(-1).all()
    for i in range(3):
        own = codes[i][mask[i]]
        distinct = own.unique()
        assert int(active[i].sum()) == len(distinct)
        for g, code in enumerate(distinct):
            mean = hist[i][mask[i]][own == code].mean(0)
            torch.testing.assert_close(users[i, g], mean, rtol=0, atol=1e-12)
    assert int(codes.max()) < 4
    assert u.group_codes(torch.tensor([[7, 2, 7, -1]])).tolist() == [[1, 0, 1, -1]]
    with pytest.raises(ValueError, match="bits: expected 1 to 31"):
        u.HashInterest(32, 5)


def test_hyperplanes_learn_straight_through() -> None:
    # Two items on either side of the plane: the gradient is that of the membership's tanh.
    model = u.HashInterest(1, 2, slope=1.0)
    with torch.no_grad():
        model.planes.copy_(torch.tensor([[1.0, 0.0]]))
    hist = torch.tensor([[[0.5, 1.0], [-0.2, 0.0]]])
    users, _, codes = model(hist, torch.ones(1, 2, dtype=torch.bool))
    assert codes.tolist() == [[1, 0]]
    users[0, 1, 1].backward()  # the group of code 1, second coordinate, so far of item 0 alone
    # u = (m0 * 1 + m1 * 0) / (m0 + m1) at m = (1, 0): du = 0 * dm0 - 1 * dm1.
    slope = 0.5 * (1 - torch.tanh(torch.tensor(-0.2)) ** 2)
    expected = -slope * torch.tensor([[-0.2, 0.0]])
    torch.testing.assert_close(model.planes.grad, expected)


@pytest.mark.parametrize("mode", ["closest", "soft"])
@pytest.mark.parametrize("own", [False, True])
def test_multi_interest_equals_a_loop(mode: str, own: bool) -> None:
    random = torch.Generator().manual_seed(3)
    users, target, neg = (
        torch.randn(*shape, generator=random, dtype=torch.float64, requires_grad=True)
        for shape in ((3, 4, 5), (3, 5), (3, 6, 5) if own else (6, 5))
    )
    active = torch.tensor([[True, False, True, True], [False, True, True, False], [False] * 4])
    log_q = torch.randn(7, generator=random, dtype=torch.float64)

    def loss(a: Any, b: Any, c: Any) -> Any:
        return u.multi_interest(a, active, b, c, log_q, mode, tau=0.7)

    total = 0.0
    for i in range(2):
        live = users[i][active[i]]
        near = live @ target[i]
        read = live[near.argmax()] if mode == "closest" else torch.softmax(near / 0.7, 0) @ live
        items = torch.cat([target[i, None], neg[i] if own else neg])
        total = total - torch.log_softmax(items @ read / 0.7 - log_q, 0)[0]
    torch.testing.assert_close(loss(users, target, neg), total / 2, rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(loss, (users, target, neg))
    none = u.multi_interest(users, torch.zeros(3, 4, dtype=torch.bool), target, neg)
    assert not none.any()


def test_quota_and_its_rounding() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 9.0], [0.0, 0.0, 0.0]])
    active = torch.tensor([[True, True, True], [True, True, False], [False] * 3])
    star = torch.tensor([1, 0, 0])
    own = -torch.log_softmax(logits[0], 0)[1] - torch.log_softmax(logits[1, :2], 0)[0]
    torch.testing.assert_close(u.quota(logits, active, star), own / 2)
    assert float(u.quota(logits, torch.zeros_like(active), star)) == 0
    with pytest.raises(ValueError, match="g_star"):
        u.quota(logits, active, torch.tensor([0, 2, 0]))
    for total in (0, 1, 7, 100):
        shares = u.serving_quota(logits, active, total, alpha=0.5)
        assert shares.dtype == torch.int64
        assert shares.sum(1).tolist() == [total, total, 0]
        assert int(shares[1, 2]) == 0
        exact = torch.softmax(0.5 * logits[0], 0) * total
        assert float((shares[0] - exact).abs().max()) < 1
    assert u.serving_quota(logits, active, 5, alpha=0)[1].tolist() == [3, 2, 0]
    # Shares .245, .665, .090 of 10 are 2.45, 6.65, .90: two are left, for .90 and .65.
    assert u.serving_quota(logits, active, 10)[0].tolist() == [2, 7, 1]


def test_quota_net_learns_the_largest_group() -> None:
    torch.manual_seed(0)
    model = u.Octopus(4, 8)
    net = u.QuotaNet(8, 16)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    hist = torch.randn(64, 10, 8)
    users, active, count = model(hist, torch.ones(64, 10, dtype=torch.bool))
    for _ in range(60):
        loss = u.quota(net(users, active, count), active, count.argmax(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert bool(loss < 0.5)
    assert model.channels.grad is None  # decoupled


def test_diverse_merge() -> None:
    scores, category = torch.tensor([3.0, 2.9, 2.8, 1.0]), torch.tensor([0, 0, 0, 1])
    assert u.diverse_merge(scores, category, 3, 0.0).tolist() == [0, 1, 2]
    assert u.diverse_merge(scores, category, 2, 2.0).tolist() == [0, 3]
    assert u.diverse_merge(scores, category, 9, 0.0).tolist() == [0, 1, 2, 3]


def test_bad_histories_are_named() -> None:
    model = models(dtype=torch.float32)["octopus"]
    with pytest.raises(ValueError, match=r"hist: expected shape \(b, L, 5\)"):
        model(torch.zeros(2, 3, 4), torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(TypeError, match="mask: expected bool"):
        model(torch.zeros(2, 3, 5), torch.ones(2, 3))
    with pytest.raises(ValueError, match="mask: expected shape"):
        model(torch.zeros(2, 3, 5), torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="mode"):
        u.multi_interest(torch.zeros(1, 1, 2), None, torch.zeros(1, 2), torch.zeros(1, 2), mode="x")
