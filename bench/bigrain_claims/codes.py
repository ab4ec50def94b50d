# SPDX-License-Identifier: Apache-2.0
"""Codes of frozen embeddings, and exact search by what they stand for: for E-MCL and E-BI."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import bigrain
from bigrain.quant import OPQ, PQ
from bigrain.train.quantize import CANDIDATES, LearnedPQ
from bigrain_claims.frozen import F32, I64, Frozen, unit


@dataclass(frozen=True)
class Code:
    """Arrays that `Index.set_codes` takes."""

    rotation: F32
    codebooks: F32
    codes: NDArray[np.uint8]

    def decode(self) -> F32:
        """What the codes stand for, (n, dim)."""
        return OPQ.from_arrays(self.rotation, self.codebooks).decode(self.codes)


@functools.cache
def untrained(data: Frozen, kind: str, m: int, seed: int) -> Code:
    """The engine's PQ or OPQ of the documents."""
    if kind == "OPQ":
        fitted = OPQ(m).fit(data.documents, seed=seed)
        rotation, books = fitted.rotation, fitted.codebooks
    else:
        rotation = np.eye(data.documents.shape[1], dtype=np.float32)
        books = PQ(m).fit(data.documents, seed=seed).codebooks
    return Code(rotation, books, OPQ.from_arrays(rotation, books).encode(data.documents))


@functools.cache
def nearest(data: Frozen) -> I64:
    """The teacher's first documents of every training query, (train, CANDIDATES)."""
    return search(data.documents, data.queries[data.train], CANDIDATES)


def search(documents: F32, queries: F32, k: int) -> I64:
    """Rows of documents by inner product, exactly, (queries, k); ties by the smaller row."""
    return bigrain.exact_search(documents, queries, k, metric="ip").ids


def hits(data: Frozen, split: str, found: I64) -> NDArray[np.bool_]:
    """Whether the answer is among the first ten of `found`, (queries of the split,)."""
    answers = data.positive[getattr(data, split)]
    hit: NDArray[np.bool_] = (found[:, :10] == answers[:, None]).any(1)
    return hit


def scored(data: Frozen, made: F32) -> tuple[str, F32]:
    """The score, "ip" or "cosine", by which codes find more answers of dev, and vectors for it.

    What codes stand for is not of length 1. For unit vectors' reconstructions the cosine is the
    better score by far, for trained codes it is not known beforehand: every kind gets the choice.

    Args:
        made: (n, dim) what the codes stand for.

    Returns:
        The score's name, and (n, dim) vectors whose inner products it is.
    """
    tried = {"ip": made, "cosine": unit(made)}
    queries = data.queries[data.dev]
    reached = {
        score: hits(data, "dev", search(vectors, queries, 10)).mean()
        for score, vectors in tried.items()
    }
    best = max(tried, key=lambda score: reached[score])
    return best, tried[best]


def learned(
    data: Frozen,
    m: int,
    seed: int,
    loss: str,
    *,
    pairs: str = "given",
    device: str = "cpu",
    temperature: float,
    **options: Any,
) -> Code:
    """Codes trained from OPQ's with the training queries; `pairs` "none", or "shuffled"."""
    start = untrained(data, "OPQ", m, seed)
    answers = data.positive[data.train]
    if pairs == "shuffled":
        answers = np.random.default_rng(seed).permutation(answers)
    rows = np.stack([np.arange(len(answers)), answers], 1)
    if loss == "listnet":
        options = {"candidates": nearest(data), **options}
    pq = LearnedPQ.from_arrays(start.rotation, start.codebooks, temperature=temperature).to(device)
    queries = data.queries[data.train]
    given = None if pairs == "none" else rows
    options = {"loss": loss, "seed": seed, **options}
    pq.fit(queries, data.documents, given, **options)
    return Code(**pq.export(data.documents))
