# SPDX-License-Identifier: Apache-2.0
"""Frozen embeddings of judged text: what the codes of E-MCL and E-BI are trained on.

By default all-MiniLM-L6-v2, untouched, of Debian's package descriptions: long ones are documents,
short ones the queries whose answer is the same package's long one. BoolQ by a trained Tier S
encoder is E-BI's second tier. $BIGRAIN_EMBEDDINGS names others.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigrain.train.losses import contrastive
from bigrain_bench import datasets, fetch
from bigrain_claims import teacher, texts, tier_s

# An .npz with another encoder's embeddings: documents (n, d), queries (q, d), positive (q,) and the
# rows train, dev, test.
VARIABLE = "BIGRAIN_EMBEDDINGS"
COLLECTION = "debian"
# Training and dev queries of 56,000 short descriptions; the test queries are the collection's own.
TRAIN, DEV = 14_000, 2_000
# As bigrain_bench's `minilm-text` was made, which is these documents, ready; without it the 59,289
# take 20 minutes of one core, once.
TOKENS = (96, 96)
# How many of given vectors are compared with the model's own; float16 keeps cosines above .999.
COMPARED, ALIKE = 64, 0.99
# Tier S as in E-NEG with all 511 negatives, twice as long. Half of the training queries train it,
# so that what comes after it learns from queries as new to it as those of the test.
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
    """The file that $BIGRAIN_EMBEDDINGS names, or the pretrained encoder's vectors."""
    chosen = os.environ.get(VARIABLE)
    if not chosen:
        return pretrained()
    if not Path(chosen).is_file():
        raise fetch.FetchError(f"{VARIABLE}: {chosen} is not a file")
    with np.load(chosen, allow_pickle=False) as file:
        rows = [file[name].astype(np.int64) for name in ("positive", "train", "dev", "test")]
        return Frozen(unit(file["documents"]), unit(file["queries"]), *rows)


def pretrained() -> Frozen:
    """All documents, and of the queries a part."""
    judged = texts.judged(COLLECTION)
    parts = apart(judged)
    rows = np.concatenate(parts)
    queries = teacher.vectors([judged.queries[row] for row in rows], "query", TOKENS)
    edges = np.cumsum([len(part) for part in parts])
    train, dev, test = np.split(np.arange(len(rows)), edges[:2])
    return Frozen(_documents(judged), unit(queries), judged.positive[rows], train, dev, test)


def apart(judged: texts.Judged, train: int = TRAIN, dev: int = DEV) -> tuple[I64, I64, I64]:
    """Rows of train, dev and test queries; no text and no answer of one part is in another."""
    plain = [" ".join(query.casefold().split()).rstrip(" .") for query in judged.queries]

    def clear(rows: I64, others: I64) -> I64:
        known = {plain[row] for row in others}
        answers = {document for row in others for document in judged.relevant[row]}
        kept = [
            row
            for row in rows
            if plain[row] not in known and answers.isdisjoint(judged.relevant[row])
        ]
        return np.array(kept, np.int64)

    pool = clear(np.union1d(judged.train, judged.dev), judged.test)
    order = np.random.default_rng(0).permutation(pool)
    return order[:train], clear(order[train : train + dev], order[:train]), judged.test


def _documents(judged: texts.Judged) -> F32:
    """`minilm-text`'s vectors where $BIGRAIN_MINILM names them, or the encoder's."""
    if not os.environ.get(datasets.MINILM_VARIABLE):
        return unit(teacher.vectors(judged.documents, "document", TOKENS))
    given = datasets.load("minilm-text").base
    if len(given) == len(judged.documents):
        some = np.linspace(0, len(given) - 1, min(COMPARED, len(given))).astype(np.int64)
        own = teacher.vectors([judged.documents[row] for row in some], "document", TOKENS)
        if own.shape[1] == given.shape[1] and (own * unit(given[some])).sum(1).min() > ALIKE:
            return unit(given)
    raise fetch.FetchError(
        f"{datasets.MINILM_VARIABLE}: its {len(given):,} vectors are not all-MiniLM-L6-v2's of the "
        f"{len(judged.documents):,} documents of {judged.name}; unset it, and they are computed"
    )


@functools.cache
def second() -> Frozen:
    """BoolQ by the encoder of `first_stage`."""
    data, encoder = first_stage()
    judged = data.judged
    documents, queries = encoder.encode(data.documents), encoder.encode(data.queries)
    return Frozen(documents, queries, judged.positive, judged.train, judged.dev, judged.test)


@functools.cache
def first_stage() -> tuple[tier_s.Collection, tier_s.StaticBag]:
    """BoolQ and a Tier S encoder trained on half of its training queries."""
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
