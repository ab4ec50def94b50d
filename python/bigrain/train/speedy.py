# SPDX-License-Identifier: Apache-2.0
"""Text encoders inside user models at bearable cost (SpeedyFeed: Xiao et al., KDD 2022).

Steps: `encode_unique` encodes each item of a batch once; `NewsCache` skips items encoded in recent
steps; `BusLayer` and `BusEncoder` encode a text in segments that speak through their first tokens;
`ar_user` and `ar_loss` learn from every position of a history in one pass; `refine` shortens texts.
Batches of a fixed number of tokens: `samplers.TokenBudget`. What differs: the cache draws from its
own seeded generator, and the bus layer normalises first (pre-norm), which needs no warm-up.

Shapes: n items, K segments of T tokens (the first is the segment's [CLS], its bus), b users,
L items of history, S negatives, d width. Ids are int64.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bigrain._checks import check_shape, require
from bigrain.train._tensors import masked_softmax, mean, wide
from bigrain.train.user import AttnPool, check_history

# SpeedyFeed's schedule of the cache and its weight k2 of term frequency.
BETA, GAMMA, K2 = 0.002, 20, 2.0


class NewsCache:
    """Embeddings of recent steps: a hit saves an encoding, is constant, and expires.

    Args:
        n: number of items; ids are 0 to n - 1.
        dim: width of the embeddings.
        beta: at step t a batch reads the cache with probability 1 - exp(-beta t).
        gamma: an entry older than so many steps is not read; 0 turns the cache off.
        seed: of the draws.
    """

    def __init__(
        self, n: int, dim: int, *, beta: float = BETA, gamma: int = GAMMA, seed: int = 0
    ) -> None:
        require(beta >= 0 and gamma >= 0, "beta, gamma", "0 or more", f"{beta} and {gamma}")
        self.beta, self.gamma = beta, gamma
        self.emb, self.written = torch.zeros(n, dim), torch.full((n,), -1)
        self.random = torch.Generator().manual_seed(seed)

    def lookup(self, ids: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Return (U, dim) embeddings without gradient, 0 where missed, and hits (U,) bool.

        One draw decides for the whole batch. Age is `step` less the step of encoding.
        """
        draw = float(torch.rand((), generator=self.random))
        where, written = ids.cpu(), self.written[ids.cpu()]
        read = self.gamma > 0 and draw < -math.expm1(-self.beta * step)
        hit = (written >= 0) & (step - written <= self.gamma) & read
        return (self.emb[where] * hit[:, None]).to(ids.device), hit.to(ids.device)

    def store(self, ids: Tensor, emb: Tensor, step: int) -> None:
        """Keep (U, dim) embeddings that were encoded at `step`, whenever this is called.

        What the optimizer changed since then makes them older, not younger: pass the step whose
        parameters produced them.
        """
        self.emb[ids.cpu()] = emb.detach().to(self.emb)
        self.written[ids.cpu()] = step

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        random = self.random.get_state()
        return {"emb": self.emb.clone(), "written": self.written.clone(), "random": random}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`'s result."""
        self.emb.copy_(state["emb"])
        self.written.copy_(state["written"])
        self.random.set_state(state["random"])


def encode_unique(
    ids: Tensor,
    encode: Callable[[Tensor], Tensor],
    dummy: Tensor | None = None,
    *,
    cache: NewsCache | None = None,
    step: int = 0,
) -> Tensor:
    """Encode each item of a batch once and hand the vectors back to their places.

    Args:
        ids: int64 of any shape; negative ones are padding.
        encode: (U,) ids, ascending without duplicates, to (U, d) vectors; called at most once.
        dummy: (d,) vector of padding; zeros when None.
        cache: read before and written after the encoding; hits pass no gradient.
        step: of the training loop, for the cache.

    Returns:
        (*ids.shape, d): equal to encoding every place on its own, in value and gradient.

    Raises:
        TypeError: ids are not int64.
        ValueError: no id to encode and no dummy to tell the width.
    """
    if ids.dtype != torch.int64:
        raise TypeError(f"ids: expected int64, found {ids.dtype}")
    unique, places = torch.unique(ids, return_inverse=True)
    pads = int((unique < 0).sum())
    unique, places = unique[pads:], places - pads
    if not len(unique):
        if dummy is None:
            raise ValueError("ids: expected an id other than padding, or a dummy; found neither")
        return dummy.expand(*ids.shape, -1)
    if cache is None:
        vectors = encode(unique)
    else:
        vectors, hit = cache.lookup(unique, step)
        if not bool(hit.all()):
            fresh = encode(unique[~hit])
            cache.store(unique[~hit], fresh, step)
            vectors = vectors.to(fresh).index_put(((~hit).nonzero()[:, 0],), fresh)
    out = vectors[places.clamp_min(0)]
    filler = out.new_zeros(out.shape[-1]) if dummy is None else dummy.to(out)
    return torch.where((places >= 0)[..., None], out, filler)


class BusLayer(nn.Module):
    """A transformer layer over segments that see each other's bus: N^2 / K instead of N^2.

    A token attends to the buses of all segments and to its own segment's tokens; the own bus,
    which is also the own first token, is masked so that it counts once.
    """

    def __init__(self, dim: int, heads: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        require(dim % heads == 0, "dim", f"a multiple of heads = {heads}", dim)
        self.heads, self.p = heads, dropout
        self.norms = nn.ModuleList([nn.LayerNorm(dim), nn.LayerNorm(dim)])
        self.query, self.keys, self.out = (nn.Linear(dim, m * dim) for m in (1, 2, 1))
        self.feed = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(
        self, x: Tensor, seg_cls: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Return (n, K, T, d) of (n, K, T, d).

        Args:
            x: tokens.
            seg_cls: (n, K, d) buses, in general x[:, :, 0]; None lets no segment see another.
            mask: (n, K, T) bool, True at tokens; masked ones come out as zeros.
        """
        n, K, T, d = x.shape
        mask = torch.ones(n, K, T, dtype=torch.bool, device=x.device) if mask is None else mask
        context, seen = x, mask
        if seg_cls is not None:
            context = torch.cat([seg_cls[:, None].expand(n, K, K, d), x], 2)
            others = mask[:, None, :, 0] & ~torch.eye(K, dtype=torch.bool, device=x.device)
            seen = torch.cat([others, mask], 2)
        q, (k, v) = self.query(self.norms[0](x)), self.keys(self.norms[0](context)).chunk(2, -1)
        heads = (n * K, -1, self.heads, d // self.heads)
        q, k, v = (a.view(heads).transpose(1, 2) for a in (q, k, v))
        # A segment without tokens would have nothing to attend to: let it see itself.
        seen = (seen | ~mask.any(2, keepdim=True)).view(n * K, 1, 1, -1)
        p = self.p if self.training else 0.0
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, dropout_p=p)
        x = x + functional.dropout(self.out(y.transpose(1, 2).reshape(n, K, T, d)), p)
        x = x + functional.dropout(self.feed(self.norms[1](x)), p)
        return x * mask[..., None]


class BusEncoder(nn.Module):
    """A small BusLM: token, place, segment and frequency embeddings, layers, attention pooling.

    The first layer sees its own segment only; from the second on the buses join, if `bus`. With
    all tokens in one segment (K = 1) it is an ordinary transformer with joint attention.

    Args:
        vocab: number of tokens; token 0 is padding, the first of a segment its [CLS].
        dim, layers, heads, dropout: of the transformer.
        length: tokens of the longest segment; segments: the most segments.
        bus: False encodes segments independently of each other.
    """

    def __init__(
        self,
        vocab: int,
        dim: int,
        layers: int = 2,
        heads: int = 4,
        *,
        length: int = 32,
        segments: int = 3,
        bus: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.bus = bus
        self.token, self.place = nn.Embedding(vocab, dim), nn.Embedding(length, dim)
        self.segment, self.frequency = nn.Embedding(segments, dim), nn.Embedding(8, dim)
        for table in (self.token, self.place, self.segment, self.frequency):
            nn.init.normal_(table.weight, std=0.02)  # BERT's
        self.layers = nn.ModuleList(BusLayer(dim, heads, dropout) for _ in range(layers))
        self.norm, self.pool = nn.LayerNorm(dim), AttnPool(dim)

    def forward(self, tokens: Tensor, counts: Tensor | None = None) -> Tensor:
        """Return (n, d) of tokens (n, K, T) int64; counts as `refine` gives them, 0 to 7."""
        _, K, T = tokens.shape
        mask = tokens > 0
        place = torch.arange(max(K, T), device=tokens.device)
        x = self.token(tokens) + self.place(place[:T]) + self.segment(place[:K])[:, None]
        if counts is not None:
            x = x + self.frequency(counts.clamp(0, 7))
        for i, layer in enumerate(self.layers):
            x = layer(x, x[:, :, 0] if self.bus and i and K > 1 else None, mask)
        pooled: Tensor = self.pool(self.norm(x[:, :, 0]), mask[:, :, 0])
        return pooled


def ar_user(hist: Tensor, mask: Tensor, logits: Tensor | None = None) -> Tensor:
    """Return (b, L - 1, d): after each item but the last, the user so far.

    Attention pooling whose weights are masked to a triangle: position t pools items 0 to t.

    Items (b, L, d) are oldest first, logits (b, L) as from `AttnPool.logits`; None weighs equally.
    """
    check_history(hist, mask)
    scores = hist.new_zeros(hist.shape[:2]) if logits is None else logits
    L = hist.shape[1]
    past = torch.ones(L, L, dtype=torch.bool, device=hist.device).tril()[: max(L - 1, 0)]
    seen = past & mask[:, None]
    weights = masked_softmax(scores[:, None].expand(-1, len(past), -1), seen, 2)[0]
    return weights.to(hist.dtype) @ hist


def ar_loss(user: Tensor, pos: Tensor, neg: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over positions of -log softmax(next item against sampled negatives).

    Args:
        user: (b, L - 1, d) of `ar_user`; pos: (b, L - 1, d) next items.
        neg: (b, L - 1, S, d).
        mask: (b, L - 1) bool: positions that count, those with an item before and after.

    Returns:
        Scalar; 0 if no position counts.
    """
    check_shape(neg, "neg", *user.shape[:2], "S", user.shape[2])
    u = wide(user)
    positive = (u * wide(pos)).sum(-1)
    negative = torch.einsum("bld,blsd->bls", u, wide(neg))
    losses = torch.logsumexp(torch.cat([positive[..., None], negative], -1), -1) - positive
    return mean(losses, mask)


def refine(
    texts: Sequence[Sequence[str]], top: int = 100, *, k2: float = K2, stop: Collection[str] = ()
) -> list[tuple[list[str], list[int]]]:
    """Keep each text's `top` words by idf * tf * (k2 + 1) / (tf + k2), once each, in order.

    Args:
        texts: words per text; idf = log(texts / texts with the word).
        top: words to keep; ties go to the earlier word.
        stop: words to leave out.

    Returns:
        Per text the words and how often each occurred, for `BusEncoder`'s frequency embedding.
    """
    counts = [Counter(word for word in text if word not in stop) for text in texts]
    having = Counter(word for count in counts for word in count)
    kept = []
    for count in counts:
        weight = {
            word: math.log(len(texts) / having[word]) * tf * (k2 + 1) / (tf + k2)
            for word, tf in count.items()
        }
        best = set(sorted(weight, key=lambda word: -weight[word])[:top])
        words = [word for word in count if word in best]
        kept.append((words, [count[word] for word in words]))
    return kept
