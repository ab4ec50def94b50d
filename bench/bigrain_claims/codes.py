# SPDX-License-Identifier: Apache-2.0
"""Frozen embeddings of judged text and codes trained on them: what E-MCL and E-BI share."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import bigrain
from bigrain.quant import OPQ, PQ
from bigrain.train.losses import contrastive
from bigrain.train.quantize import CANDIDATES, LearnedPQ
from bigrain_bench import fetch
from bigrain_claims import tier_s

# An .npz with another encoder's embeddings instead of Tier S's: documents (n, d), queries (q, d),
# positive (q,) and the rows train, dev, test.
VARIABLE = "BIGRAIN_EMBEDDINGS"
# Tier S as in E-NEG with all 511 negatives, twice as long. Half of the training queries train it,
# so that the codes learn from queries as new to it as those of the test.
ENCODER = {"steps": 200, "batch_size": 512, "lr": 3e-3}
TAU = 0.05
F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Frozen:
    """Unit vectors that no arm changes, and for every query the row of its answer."""

    documents: F32
    queries: F32
    positive: I64
    train: I64
    dev: I64
    test: I64

    def __post_init__(self) -> None:
        held = np.concatenate([self.dev, self.test])
        if np.intersect1d(self.train, held).size or np.intersect1d(self.dev, self.test).size:
            raise ValueError("train, dev, test: expected disjoint rows of queries")


@functools.cache
def load() -> Frozen:
    """The file that $BIGRAIN_EMBEDDINGS names, or BoolQ by a trained Tier S encoder."""
    if chosen := os.environ.get(VARIABLE):
        if not Path(chosen).is_file():
            raise fetch.FetchError(f"{VARIABLE}: {chosen} is not a file")
        with np.load(chosen, allow_pickle=False) as file:
            rows = [file[name].astype(np.int64) for name in ("positive", "train", "dev", "test")]
            return Frozen(unit(file["documents"]), unit(file["queries"]), *rows)
    data, encoder = first_stage()
    judged = data.judged
    documents, queries = encoder.encode(data.documents), encoder.encode(data.queries)
    return Frozen(documents, queries, judged.positive, judged.train, judged.dev, judged.test)


@functools.cache
def first_stage() -> tuple[tier_s.Collection, tier_s.StaticBag]:
    """BoolQ and the Tier S encoder of which `load` gives the embeddings."""
    data, encoder = tier_s.load(), tier_s.StaticBag(seed=0)
    seen = data.judged.train[::2]
    tier_s.train(encoder, data, in_batch, queries=seen, **ENCODER)  # type: ignore[arg-type]
    return data, encoder


def in_batch(q: Any, p: Any, n: Any, *, p_ids: Any, **_: Any) -> Any:
    """Contrastive loss over a batch's documents."""
    return contrastive(q, p, tau=TAU, p_ids=p_ids)


def unit(rows: NDArray[Any]) -> F32:
    wide = rows.astype(np.float32)
    scaled: F32 = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return scaled


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


def search(documents: F32, queries: F32, k: int, metric: Any = "ip") -> I64:
    """Rows of documents, exactly, (queries, k); ties by the smaller row."""
    return bigrain.exact_search(documents, queries, k, metric=metric).ids


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
