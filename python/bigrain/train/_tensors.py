# SPDX-License-Identifier: Apache-2.0
"""What the losses share: shapes, widths, masked means."""

from __future__ import annotations

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """Return x in float32 where it is narrower."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def dot(x: Tensor, y: Tensor) -> Tensor:
    """All scores, (n, d), (m, d) -> (n, m), in float32 at least, also under autocast."""
    with torch.autocast(x.device.type, enabled=False):
        return wide(x) @ wide(y).T


def rows_dot(q: Tensor, keys: Tensor) -> Tensor:
    """Scores of each query with its own keys: (b, d), (b, C, d) -> (b, C)."""
    with torch.autocast(q.device.type, enabled=False):
        return (wide(keys) @ wide(q)[:, :, None]).squeeze(2)


def mean(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of what the mask keeps; 0, with a graph, of nothing."""
    if mask is None:
        return values.sum() / max(values.numel(), 1)
    check_shape(mask, "mask", *values.shape)
    return torch.where(mask, values, 0).sum() / mask.sum().clamp(min=1)


def check_shape(x: Tensor, name: str, *shape: int | None) -> None:
    """Raise ValueError where `x` has another shape; None: any length."""
    if x.ndim != len(shape) or any(
        want not in (None, n) for want, n in zip(shape, x.shape, strict=True)
    ):
        wanted = str(shape).replace("None", "any")
        raise ValueError(f"{name}: expected shape {wanted}, found {tuple(x.shape)}")
