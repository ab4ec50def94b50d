# SPDX-License-Identifier: Apache-2.0
"""What losses and models share: widths, scores, masked softmax and mean."""

from __future__ import annotations

import torch
from torch import Tensor

from bigrain._checks import check_shape


def wide(x: Tensor) -> Tensor:
    """Return x in float32, or as it is when wider."""
    return x if x.dtype == torch.float64 else x.float()


def dot(x: Tensor, y: Tensor) -> Tensor:
    """All scores, (n, d), (m, d) -> (n, m), in float32 at least, also under autocast."""
    with torch.autocast(x.device.type, enabled=False):
        return wide(x) @ wide(y).T


def rows_dot(q: Tensor, keys: Tensor) -> Tensor:
    """Scores of each query with its own keys: (b, d), (b, C, d) -> (b, C)."""
    with torch.autocast(q.device.type, enabled=False):
        return (wide(keys) @ wide(q)[:, :, None]).squeeze(2)


def masked_softmax(
    scores: Tensor, mask: Tensor | None = None, dim: int = 1
) -> tuple[Tensor, Tensor]:
    """Softmax over `dim` and its logarithm, float32 at least, both 0 where `mask` is False."""
    logits = wide(scores)
    hidden = ~mask if mask is not None else torch.tensor(False, device=logits.device)
    # The least finite value and not -inf: a list without candidates would give NaN.
    log = logits.masked_fill(hidden, torch.finfo(logits.dtype).min).log_softmax(dim)
    return log.exp().masked_fill(hidden, 0), log.masked_fill(hidden, 0)


def mean(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of what the mask keeps; 0, with a graph, of nothing."""
    if mask is None:
        return values.sum() / max(values.numel(), 1)
    check_shape(mask, "mask", *values.shape)
    return torch.where(mask, values, 0).sum() / mask.sum().clamp(min=1)
