# SPDX-License-Identifier: Apache-2.0
"""Embeddings that a quantizer is fitted on: the arguments' checks, and batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bigrain._arrays import as_vectors, check_rows, check_values
from bigrain._checks import check_integer, check_shape, require, require_choice
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
    dim: int, device: Any, q: Any, d: Any, pairs: Any, loss: str, near: Any, threads: int
) -> Embeddings:
    """Check the arguments of `LearnedPQ.fit`; near documents are searched for if not given."""
    require_choice(loss, "loss", "mcl", "listnet", "recon")
    if loss == "mcl" and pairs is None:
        raise ValueError("pairs: 'mcl' needs them, found None; 'listnet' learns without")
    d = _vectors(d, dim, "d_emb")
    q = None if loss == "recon" else _vectors(q, dim, "q_emb")
    if q is None:
        pairs = None
    elif pairs is not None:
        pairs = check_rows(pairs, "pairs", ("n", 2), 0, max(len(q), len(d)))
        for place, side in enumerate((q, d)):
            check_rows(pairs[:, place], f"pairs[:, {place}]", ("n",), 0, len(side))
    if loss != "listnet":
        near = None
    elif isinstance(near, int):
        k = min(check_integer(near, "candidates", 1, 2**20), len(d))
        near = exact_search(d, q, k, metric="ip", threads=threads).ids
    else:
        near = check_rows(near, "candidates", (len(q), "c"), 0, len(d))
    arrays = (d, q, pairs, near)
    made: Any = [None if x is None else torch.from_numpy(x).to(device) for x in arrays]
    return Embeddings(*made)


def _vectors(value: Any, dim: int, name: str) -> npt.NDArray[np.float32]:
    array = as_vectors(value, name)
    check_shape(array, name, "rows", dim)
    require(len(array), name, "at least one row", "none")
    check_values(array, "l2", name)
    return np.require(array, np.float32, ["C", "A", "W"])
