# SPDX-License-Identifier: Apache-2.0
"""Embeddings that a quantizer is fitted on: the arguments' checks, and batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bigrain._arrays import as_vectors, check_values, to_numpy
from bigrain._checks import check_integer
from bigrain._exact import exact_search


@dataclass(frozen=True)
class Embeddings:
    """Documents d (n, dim) and, unless they are all, queries q (q, dim) with what is known of them.

    pairs: (p, 2) rows of q and d; near: (q, c) rows of d; drawn: of near, per query and batch.
    """

    d: Tensor
    q: Tensor | None = None
    pairs: Tensor | None = None
    near: Tensor | None = None
    drawn: int = 1

    def to(self, device: torch.device) -> Embeddings:
        """Return the same on a device."""
        tensors: dict[str, Any] = {
            name: x.to(device) for name, x in vars(self).items() if isinstance(x, Tensor)
        }
        return replace(self, **tensors)

    @property
    def rows(self) -> int:
        """What batches are made of: pairs; without them queries; without those documents."""
        return len(next(x for x in (self.pairs, self.q, self.d) if x is not None))

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield rows in shuffled epochs; whole batches only, so that each has as many negatives."""
        while True:
            order = torch.randperm(self.rows, generator=generator)[: self.rows // size * size]
            yield from torch.split(order.to(self.d.device), size)

    def draw(self, queries: Tensor, generator: torch.Generator) -> Tensor:
        """Return `drawn` random ones of each query's near documents, flat."""
        assert self.near is not None
        near = self.near[queries]
        places = torch.randint(near.shape[1], (len(near), self.drawn), generator=generator)
        return near.gather(1, places.to(near.device)).flatten()


def embeddings(
    dim: int, q: Any, d: Any, pairs: Any, loss: str, near: Any, threads: int
) -> Embeddings:
    """Check the arguments of `LearnedPQ.fit`; near documents are searched for if not given."""
    if loss not in ("mcl", "listnet", "recon"):
        raise ValueError(f"loss: expected 'mcl', 'listnet' or 'recon', found {loss!r}")
    if loss == "mcl" and pairs is None:
        raise ValueError("pairs: 'mcl' needs them, found None; 'listnet' learns without")
    d = _vectors(d, dim, "d_emb")
    if loss == "recon":
        return Embeddings(torch.from_numpy(d))
    q = _vectors(q, dim, "q_emb")
    if pairs is not None:
        pairs = _rows(pairs, (len(q), len(d)), "pairs")
    if loss == "mcl":
        near = None
    elif isinstance(near, int):
        k = min(check_integer(near, "candidates", 1, 2**20), len(d))
        near = torch.from_numpy(exact_search(d, q, k, metric="ip", threads=threads).ids)
    elif len(near := _rows(near, (len(d),), "candidates")) != len(q):
        raise ValueError(f"candidates: expected {len(q)} lists, found {len(near)}")
    return Embeddings(torch.from_numpy(d), torch.from_numpy(q), pairs, near)


def _vectors(value: Any, dim: int, name: str) -> npt.NDArray[np.float32]:
    array = as_vectors(value, name)
    if array.shape[1] != dim or len(array) == 0:
        raise ValueError(f"{name}: expected shape (rows, {dim}), found {array.shape}")
    check_values(array, "l2", name)
    return np.require(array, np.float32, ["C", "A", "W"])


def _rows(value: Any, limits: tuple[int, ...], name: str) -> Tensor:
    # (n, 2) below two limits, or (n, any) below one.
    array = to_numpy(value, name)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected int64 rows, found dtype {array.dtype}")
    if array.ndim != 2 or 0 in array.shape or len(limits) not in (1, array.shape[1]):
        raise ValueError(f"{name}: expected shape (n, {len(limits)}), found {array.shape}")
    if (array < 0).any() or (array >= np.array(limits)).any():
        found = f"{array.min(0).tolist()} to {array.max(0).tolist()}"
        raise ValueError(f"{name}: expected rows from 0 and below {limits}, found {found}")
    return torch.from_numpy(array.astype(np.int64))
