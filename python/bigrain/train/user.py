# SPDX-License-Identifier: Apache-2.0
"""Users as one vector or several, from the items they chose.

Sources: Octopus (Liu et al., SIGIR 2020: elastic channels, grouped aggregation, allocated merge),
its variant that groups by a hash code, and ComiRec-SA (Cen et al., KDD 2020) as the baseline with
a fixed number of vectors. Octopus published no code and its regulariser and tables were not at
hand: channels, hash groups and quota network here are reconstructions from descriptions.
What differs: the basis of item space, there found iteratively, is computed in closed form; the
quota network's inputs are ours.

Neither argmax nor sign has a gradient. Channels learn through the softmax of their group, where
they stand inside the weights. Hyperplanes learn straight-through: a group's membership is exact in
the forward pass and moves as the tanh of the margins in the backward pass, so an item one bit away
tells a hyperplane whether it should join; items learn through the aggregate alone.

Shapes: b users, L items of history, d width, G vectors per user, S negatives. Logits and softmax
are float32 or wider; what is masked weighs nothing, and a user without items gets zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bigrain._checks import check_shape, require, require_choice
from bigrain.train._tensors import masked_softmax, mean, wide


def check_history(hist: Tensor, mask: Tensor, dim: int | None = None) -> None:
    """Raise ValueError or TypeError unless hist is (b, L, d) and mask (b, L) bool."""
    check_shape(hist, "hist", "b", "L", "d" if dim is None else dim)
    if mask.dtype != torch.bool:
        raise TypeError(f"mask: expected bool, True where an item is, found {mask.dtype}")
    check_shape(mask, "mask", *hist.shape[:2])


class AttnPool(nn.Module):
    """One vector per user: additive attention (tanh layer of `hidden`, one query)."""

    def __init__(self, dim: int, hidden: int | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(dim, hidden or dim)
        self.query = nn.Linear(hidden or dim, 1, bias=False)

    def logits(self, hist: Tensor) -> Tensor:
        """Return (..., L) attention logits of items (..., L, d)."""
        scores: Tensor = self.query(torch.tanh(self.layer(hist)))
        return scores.squeeze(-1)

    def forward(self, hist: Tensor, mask: Tensor) -> Tensor:
        """Return (b, d) users of (b, L, d) items and their (b, L) bool mask."""
        check_history(hist, mask, self.layer.in_features)
        weights = masked_softmax(self.logits(hist), mask)[0].to(hist.dtype)
        return torch.einsum("bl,bld->bd", weights, hist)


class ComiRecSA(nn.Module):
    """A fixed number of vectors per user: `heads` of attention (ComiRec, section 3.3.2).

    The tanh layer is 4 d wide, as published, unless `hidden` says otherwise.
    """

    def __init__(self, heads: int, dim: int, hidden: int | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(dim, hidden or 4 * dim, bias=False)
        self.heads = nn.Linear(hidden or 4 * dim, heads, bias=False)

    def forward(self, hist: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return users (b, G, d) and active (b, G), all True for a user with any item."""
        check_history(hist, mask, self.layer.in_features)
        logits = self.heads(torch.tanh(self.layer(hist)))
        weights = masked_softmax(logits, mask[:, :, None])[0].to(hist.dtype)
        users = torch.einsum("blg,bld->bgd", weights, hist)
        return users, mask.any(1)[:, None].expand(users.shape[:2])


def item_basis(items: Tensor, channels: int, seed: int = 0) -> Tensor:
    """Return (channels, d) orthonormal rows H of least sum ||x - x H^T H||^2 over (n, d) items.

    The least is at the span of the top right singular vectors, whichever way it is turned; a
    random turn (by seed) keeps the first channel from taking every item.
    """
    check_shape(items, "items", "n", "d")
    most = f"1 to {min(items.shape)}, the smaller side of items {tuple(items.shape)}"
    require(1 <= channels <= min(items.shape), "channels", most, channels)
    top = torch.linalg.svd(wide(items), full_matrices=False)[2][:channels]
    random = torch.randn(channels, channels, generator=torch.Generator().manual_seed(seed))
    turn = torch.linalg.qr(random.to(top))[0]
    basis: Tensor = turn @ top
    return basis


class Octopus(nn.Module):
    """As many vectors as the history activates channels.

    An item goes to channel argmax_g x . h_g; a channel with items becomes the sum of its items
    weighted by softmax(x . h_g) over them.

    The M channels, at most d, start as `item_basis` of items (n, d), of all space when None.
    """

    def __init__(
        self, channels: int, dim: int, *, items: Tensor | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        start = torch.eye(dim) if items is None else items
        self.channels = nn.Parameter(item_basis(start, channels, seed).clone())

    def assign(self, hist: Tensor, mask: Tensor) -> Tensor:
        """Return (b, L) int64 channels of the items, -1 where masked."""
        best = (wide(hist) @ wide(self.channels).T).argmax(-1)
        return best.masked_fill(~mask, -1)

    def forward(self, hist: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return users (b, M, d), active (b, M) bool and items per channel (b, M) int64."""
        check_history(hist, mask, self.channels.shape[1])
        logits = wide(hist) @ wide(self.channels).T
        channel = logits.argmax(-1).masked_fill(~mask, -1)
        members = channel[:, :, None] == torch.arange(len(self.channels), device=hist.device)
        weights = masked_softmax(logits, members)[0].to(hist.dtype)
        count = members.sum(1)
        return torch.einsum("blg,bld->bgd", weights, hist), count > 0, count

    def ortho(self) -> Tensor:
        """Return ||H H^T - I||_F^2, the regulariser that keeps channels apart."""
        gram = wide(self.channels) @ wide(self.channels).T
        return (gram - torch.eye(len(gram)).to(gram)).square().sum()


def group_codes(codes: Tensor) -> Tensor:
    """Return (b, L) int64 groups 0, 1, .. of equal code per user in ascending order, -1 pads."""
    if codes.shape[1] == 0:
        return codes.long()
    order = torch.where(codes < 0, torch.iinfo(torch.int64).max, codes.long())
    values, places = order.sort(dim=1, stable=True)
    rank = functional.pad((values[:, 1:] != values[:, :-1]).long(), (1, 0)).cumsum(1)
    groups = torch.empty_like(rank).scatter_(1, places, rank)
    return groups.masked_fill(codes < 0, -1)


class HashInterest(nn.Module):
    """As many vectors as the history has hash codes: the signs at learned hyperplanes.

    Items of one code are a group, its mean is a user vector: only occupied ones of the 2^bits
    possible groups exist. The 1 to 31 hyperplanes start orthonormal while bits <= dim and learn
    as the file's head says. The tanh's slope of 4 takes the margins of unit vectors in tens of
    dimensions, near 1/8, to its middle.
    """

    def __init__(self, bits: int, dim: int, *, seed: int = 0, slope: float = 4.0) -> None:
        super().__init__()
        require(1 <= bits <= 31, "bits", "1 to 31, as codes are int32", bits)
        planes = torch.randn(bits, dim, generator=torch.Generator().manual_seed(seed))
        if bits <= dim:
            planes = torch.linalg.qr(planes.T)[0].T
        self.planes, self.slope = nn.Parameter(planes.contiguous()), slope

    def forward(self, hist: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return users (b, G, d), active (b, G) bool and codes (b, L) int32, -1 where masked.

        G is the most groups any user has, at least 1; a user's groups ascend by code.
        """
        check_history(hist, mask, self.planes.shape[1])
        margins = wide(hist.detach()) @ wide(self.planes).T
        signs = torch.where(margins >= 0, 1.0, -1.0).to(margins)
        powers = 2 ** torch.arange(len(self.planes), device=hist.device)
        codes = ((signs > 0).long() * powers).sum(-1).masked_fill(~mask, -1)
        groups = group_codes(codes)
        size = max(1, int(groups.max()) + 1) if groups.numel() else 1
        belongs = groups[:, :, None] == torch.arange(size, device=hist.device)
        soft = torch.tanh(self.slope * margins)
        bits = signs + (soft - soft.detach())
        shared = torch.sign(torch.einsum("blg,blk->bgk", belongs.to(signs), signs))
        member = (1 + shared[:, None] * bits[:, :, None]).div(2).prod(-1) * mask[:, :, None]
        weights = member / member.sum(1, keepdim=True).clamp_min(1.0)
        users = torch.einsum("blg,bld->bgd", weights.to(hist.dtype), hist)
        active = belongs.any(1)
        return users * active[:, :, None], active, codes.int()


def multi_interest(
    users: Tensor,
    active: Tensor,
    target: Tensor,
    neg: Tensor,
    log_q: Tensor | None = None,
    mode: str = "closest",
    *,
    tau: float = 1.0,
) -> Tensor:
    """Return the sampled-softmax loss of each user's vector that lies closest to the target.

    Args:
        users: (b, G, d); active: (b, G) bool.
        target: (b, d) items; neg: (S, d) shared or (b, S, d) own negatives.
        log_q: log of the sampling probabilities, (1 + S,) or (b, 1 + S), target first; taken off
            the logits.
        mode: "closest" reads the active vector of largest product with the target (Octopus,
            ComiRec); "soft" the mean weighted by softmax of the products (label-aware attention,
            MIND).
        tau: temperature of the logits.

    Returns:
        Scalar mean over users with an active vector; 0 if there are none.
    """
    require_choice(mode, "mode", "closest", "soft")
    fine = neg.ndim in (2, 3) and neg.shape[-1] == users.shape[-1]
    require(fine, "neg", "shape (S, d) or (b, S, d)", tuple(neg.shape))
    u, t, n = wide(users), wide(target), wide(neg)
    products = torch.einsum("bgd,bd->bg", u, t)
    if mode == "closest":
        best = products.detach().masked_fill(~active, -torch.inf).argmax(1)
        read = u[torch.arange(len(u), device=u.device), best]
    else:
        read = torch.einsum("bg,bgd->bd", masked_softmax(products / tau, active)[0], u)
    negatives = read @ n.T if n.ndim == 2 else torch.einsum("bd,bsd->bs", read, n)
    logits = torch.cat([(read * t).sum(-1, keepdim=True), negatives], 1) / tau
    if log_q is not None:
        logits = logits - wide(log_q)
    return mean(torch.logsumexp(logits, 1) - logits[:, 0], active.any(1))


class QuotaNet(nn.Module):
    """Predict which of a user's vectors serves the next item; trained after the users, apart.

    Inputs per vector, ours, detached: the vector, the mean of the user's active vectors, the
    logarithm of its items and its share of them. One hidden layer.
    """

    def __init__(self, dim: int, hidden: int = 64) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2 * dim + 2, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, users: Tensor, active: Tensor, count: Tensor) -> Tensor:
        """Return (b, G) logits of users (b, G, d), active (b, G) and items per vector (b, G)."""
        u, n = users.detach(), (count * active).to(users.dtype)
        share = n / n.sum(1, keepdim=True).clamp_min(1)
        each = active.to(u.dtype) / active.sum(1, keepdim=True).clamp_min(1)
        mean = torch.einsum("bg,bgd->bd", each, u)[:, None]
        sizes = torch.stack([torch.log1p(n), share], -1)
        logits: Tensor = self.net(torch.cat([u, mean.expand_as(u), sizes], -1)).squeeze(-1)
        return logits


def quota(r_logits: Tensor, active: Tensor, g_star: Tensor) -> Tensor:
    """Return the masked cross entropy of (b, G) logits against the (b,) vector that served.

    Users without an active vector count for nothing; 0 if there are no others.
    """
    live = active.any(1)
    fine = active[live, g_star[live]].all()
    require(fine, "g_star", "an active vector per user", "an inactive one")
    log = masked_softmax(r_logits, active)[1]
    return mean(-log.gather(1, g_star.clamp_min(0)[:, None])[:, 0], live)


def serving_quota(r_logits: Tensor, active: Tensor, total: int, alpha: float = 1.0) -> Tensor:
    """Share `total` candidates per user in proportion to softmax(r)^alpha over active vectors.

    Logits and active are (b, G); alpha 0 shares equally, 1 as predicted. Returns (b, G) int64
    whose rows sum to N, 0 without active vectors: floors first, then one each to the largest
    remainders, ties to the lower vector.
    """
    require(total >= 0, "total", "0 or more candidates", total)
    exact = masked_softmax(alpha * r_logits.detach().double(), active)[0] * total
    floors = exact.floor().long()
    left = torch.where(active.any(1), total, 0) - floors.sum(1)
    order = (exact - floors).masked_fill(~active, -1.0).argsort(stable=True, dim=1, descending=True)
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, places)
    return floors + (rank < left[:, None]).long()


def diverse_merge(scores: Tensor, category: Tensor, total: int, lam: float) -> Tensor:
    """Choose candidates greedily by score + lam * (chosen ones of other categories).

    ComiRec's controllable aggregation (section 3.4): the greedy maximiser of
    sum score + lam * sum over pairs [categories differ], of distinct candidates with (n,) scores
    and categories. Returns positions in order of choice, int64 (min(total, n),).
    """
    gain = wide(scores).detach().clone()
    chosen = torch.empty(min(total, len(gain)), dtype=torch.int64)
    for i in range(len(chosen)):
        best = gain.argmax()
        chosen[i] = best
        gain += lam * (category != category[best])
        gain[best] = -torch.inf
    return chosen
