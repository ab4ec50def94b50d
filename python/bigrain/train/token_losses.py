# SPDX-License-Identifier: Apache-2.0
"""Scores and losses of token-level and sparse retrieval: pure functions of tensors.

Symbols: bq queries and bd documents of Lq and Ld tokens, t token width, V vocabulary. One kernel
gives all scores between queries and documents: for each query token the best of the document's
tokens that it may meet. ColBERT (Khattab and Zaharia, SIGIR 2020) lets it meet all; COIL (Gao et
al., NAACL 2021) those of the same id, with a floor at 0; uniCOIL (Lin and Ma, 2021) is COIL of
width 1. term_recall: DeepCT (Dai and Callan, 2019). flops, splade_pool: SPLADE (Formal et al.,
SIGIR 2021) after Paria et al., ICLR 2020.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from bigrain._checks import check_shape, require
from bigrain.train._tensors import dot, masked_softmax, mean, wide
from bigrain.train.dist import Group, all_gather_grad, group_info

# Products of token pairs held at a time: 64 MiB of float32. A choice, not a limit.
BLOCK = 1 << 24
# Of queries and documents.
Pair: TypeAlias = "tuple[Tensor | None, Tensor | None]"


def term_recall(pred: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of term weights over the tokens that `mask` keeps, (b, L) each."""
    check_shape(target, "target", *pred.shape)
    return mean((wide(pred) - wide(target)).square(), mask)


def impact_scores(
    w_q: Tensor, q_ids: Tensor, w_d: Tensor, d_ids: Tensor, masks: Pair = (None, None)
) -> Tensor:
    """Sum over query tokens of their weight times the greatest weight of that id in the document.

    Args:
        w_q: (bq, Lq) weights at least 0; q_ids: (bq, Lq) int64; w_d, d_ids: (bd, Ld).
        masks: (bq, Lq) and (bd, Ld) bool, False for padding.

    Returns:
        (bq, bd). A token that the document lacks adds 0; one that a query repeats counts again.
    """
    ones = torch.ones_like(w_q)[:, :, None]
    return _scores(ones, w_d[:, :, None], masks, (q_ids, d_ids), weights=w_q)


def coil_scores(
    q_tok: Tensor,
    q_ids: Tensor,
    d_tok: Tensor,
    d_ids: Tensor,
    q_mask: Tensor | None,
    d_mask: Tensor | None,
    cls_q: Tensor | None = None,
    cls_d: Tensor | None = None,
) -> Tensor:
    """Sum over query tokens of max(0, the best product with a token of the same id), + cls.

    Args:
        q_tok: (bq, Lq, t); q_ids: (bq, Lq) int64; d_tok: (bd, Ld, t); d_ids: (bd, Ld).
        q_mask: (bq, Lq) bool, False for padding and special tokens; d_mask: (bd, Ld).
        cls_q: (bq, d) vectors of the whole texts, whose product is added; cls_d: (bd, d).

    Returns:
        (bq, bd). The floor at 0 is what a search over lists of tokens gives as well.
    """
    scores = _scores(q_tok, d_tok, (q_mask, d_mask), (q_ids, d_ids), floor=True)
    require((cls_q is None) == (cls_d is None), "cls_q, cls_d", "both or neither", "one")
    return scores if cls_q is None or cls_d is None else scores + dot(cls_q, cls_d)


def maxsim(
    q_tok: Tensor, d_tok: Tensor, q_mask: Tensor | None = None, d_mask: Tensor | None = None
) -> Tensor:
    """Sum over query tokens of the best product with a document token.

    Args:
        q_tok: (bq, Lq, t); d_tok: (bd, Ld, t); q_mask: (bq, Lq) and d_mask: (bd, Ld) bool.

    Returns:
        (bq, bd); 0 for a document without tokens.
    """
    return _scores(q_tok, d_tok, (q_mask, d_mask))


def _scores(
    q_tok: Tensor,
    d_tok: Tensor,
    masks: Pair,
    ids: Pair = (None, None),
    *,
    weights: Tensor | None = None,
    floor: bool = False,
) -> Tensor:
    """Score in blocks of queries, each computed anew in the backward pass where there are many."""
    check_shape(q_tok, "q_tok", "bq", "Lq", "t")
    check_shape(d_tok, "d_tok", "bd", "Ld", q_tok.shape[2])
    for side, tokens, mask, own in zip("qd", (q_tok, d_tok), masks, ids, strict=True):
        check_shape(mask, f"{side}_mask", *tokens.shape[:2])
        check_shape(own, f"{side}_ids", *tokens.shape[:2])
    weight = torch.ones_like(q_tok[..., 0]) if weights is None else weights
    if masks[0] is not None:
        weight = weight.masked_fill(~masks[0], 0)
    if d_tok.shape[1] == 0:
        return dot(weight.sum(1, keepdim=True), d_tok.sum((1, 2))[:, None]) * 0

    def block(part: slice) -> Tensor:
        products = dot(q_tok[part].flatten(0, 1), d_tok.flatten(0, 1))
        products = products.view(*weight[part].shape, *d_tok.shape[:2])
        if masks[1] is not None:
            products = products.masked_fill(~masks[1], -torch.inf)
        if ids[0] is not None and ids[1] is not None:
            products = products.masked_fill(ids[0][part, :, None, None] != ids[1], -torch.inf)
        best = products.amax(3)
        best = best.clamp(min=0) if floor else torch.where(best > -torch.inf, best, 0)
        return (best * wide(weight[part])[:, :, None]).sum(1)

    rows = max(BLOCK // max(q_tok.shape[1] * d_tok.shape[:2].numel(), 1), 1)
    parts = [slice(i, i + rows) for i in range(0, max(len(q_tok), 1), rows)]
    if len(parts) > 1 and torch.is_grad_enabled():
        return torch.cat([checkpoint(block, part, use_reentrant=False) for part in parts])
    return torch.cat([block(part) for part in parts])


def list_ce(scores: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
    """Cross entropy over lists of scores, such as those above.

    Args:
        scores: (b, N); labels: (b,) int64 columns.
        mask: (b, N) bool, False for columns to leave out; a row whose label is left out counts 0.
    """
    check_shape(scores, "scores", "b", "N")
    check_shape(labels, "labels", len(scores))
    check_shape(mask, "mask", *scores.shape)
    return mean(-masked_softmax(scores, mask)[1].gather(1, labels[:, None]))


def flops(w: Tensor, group: Group | None = None) -> Tensor:
    """Sum over terms of the squared mean weight over the rows of all ranks.

    It squares a mean, so the mean of the ranks' own values would be another quantity, that
    changes with their number.

    Args:
        w: (b, V) weights, dense or sparse COO; b may differ between ranks.
        group: ranks; every one returns the same value.
    """
    sums = torch.sparse.sum(w, 0).to_dense() if w.is_sparse else wide(w).sum(0)
    info = group_info(len(w), group, w.device)
    means = all_gather_grad(sums[None], group).sum(0) / max(info.total, 1)
    return means.square().sum()


def splade_pool(logits: Tensor, mask: Tensor, chunk: int = 32) -> Tensor:
    """Weight of each term: the greatest log(1 + relu(logit)) over the tokens, (b, L, V) -> (b, V).

    Args:
        logits: (b, L, V) of a masked language model; mask: (b, L) bool, False for padding.
        chunk: tokens at a time, so that no second (b, L, V) tensor is made.
    """
    check_shape(logits, "logits", "b", "L", "V")
    check_shape(mask, "mask", *logits.shape[:2])
    # log(1 + relu(x)) grows with x, so the greatest logit decides; 0 is the floor of relu
    best = wide(logits.new_zeros(len(logits), logits.shape[2]))
    for i in range(0, logits.shape[1], chunk):
        part = logits[:, i : i + chunk].masked_fill(~mask[:, i : i + chunk, None], 0)
        best = torch.maximum(best, wide(part).amax(1))
    return torch.log1p(best)
