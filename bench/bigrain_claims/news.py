# SPDX-License-Identifier: Apache-2.0
"""Planted readers over real articles, and the training of their model in SpeedyFeed's ways.

Articles are PubMed's titles and abstracts; topics are clusters of the abstracts' mean word vectors.
A reader has 1 to 3 topics and reads by Zipf's law within them. The readers' model sees titles only
and starts without pretrained weights, so what it knows of topics it learned from reading.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bigrain.eval import mind
from bigrain.train import speedy
from bigrain.train.user import AttnPool
from bigrain_claims import texts, tier_s

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
ARTICLES, TOPICS, VOCABULARY = 3000, 40, 6000
PAD, CLS, UNKNOWN = 0, 1, 2
TITLE, SEGMENT, SEGMENTS = 16, 32, 3
HISTORY, SHOWN, CLICKED = 16, 20, 2
DIM, LAYERS, HEADS = 64, 2, 4
STEPS, BATCH, NEGATIVES, LR, EVERY = 200, 16, 4, 1e-3, 25
# SpeedyFeed's beta of .002 is for tens of thousands of steps: scaled to reach 1 - 1/e in a quarter
# of these.
BETA = 4 / STEPS
AGES = ((1, 2), (3, 10), (11, 20), (21, 50), (51, 100))


@dataclass(frozen=True)
class News:
    """Articles: title tokens (n, 1, 16), segments (n, 3, 32), topics (n,), token vectors."""

    titles: Tensor
    segments: Tensor
    topic: I64
    words: Tensor


@dataclass(frozen=True)
class Readers:
    """Histories (u, 16) of rows, -1 before the first; what test readers were shown and clicked."""

    history: I64
    train: I64
    test: I64
    shown: I64
    clicked: I64


@dataclass
class Log:
    """What a run measured: seconds of training, encodes, AUC by step, cosines by age of entry."""

    seconds: list[float] = field(default_factory=list)
    encodes: list[int] = field(default_factory=list)
    auc: list[float] = field(default_factory=list)
    cosines: list[tuple[F64, I64]] = field(default_factory=list)


def load() -> News:
    """3,000 articles; the last 600 are new: no training reader has read them."""
    judged = texts.judged("pubmed", documents=ARTICLES, train=ARTICLES, dev=0, test=0)
    abstracts = [judged.documents[row] for row in judged.positive]
    long = tier_s.tokenize(abstracts, 2 * SEGMENT)
    short = tier_s.tokenize(judged.queries, SEGMENT)
    common = Counter(long.ids.tolist() + short.ids.tolist()).most_common(VOCABULARY - 3)
    place = np.full(int(max(long.ids.max(), short.ids.max())) + 1, UNKNOWN)
    place[[piece for piece, _ in common]] = np.arange(3, 3 + len(common))
    segments = np.full((len(abstracts), SEGMENTS, SEGMENT), PAD)
    for i in range(len(abstracts)):
        title, text = (
            place[t.ids[t.offsets[i] : t.offsets[i + 1]]][: 2 * SEGMENT - 2] for t in (short, long)
        )
        for k, part in enumerate((title, text[: SEGMENT - 1], text[SEGMENT - 1 :])):
            cut = part[: SEGMENT - 1]
            segments[i, k, 0], segments[i, k, 1 : 1 + len(cut)] = CLS, cut
    tokens, words = torch.from_numpy(segments), torch.zeros(VOCABULARY, DIM)
    words[3 : 3 + len(common)] = tier_s.word_table(DIM)[[piece for piece, _ in common]]
    return News(tokens[:, :1, :TITLE], tokens, topics(long), words)


def topics(tokens: tier_s.Tokens) -> I64:
    """Cluster mean word vectors: 15 rounds of k-means from random articles."""
    table = tier_s.word_table(DIM)
    ids, starts = tokens.bag(np.arange(len(tokens)))
    bag = nn.functional.embedding_bag(ids, table, starts)
    x = nn.functional.normalize(bag - bag.mean(0), dim=1)
    centres = x[torch.from_numpy(np.random.default_rng(0).permutation(len(x))[:TOPICS])]
    for _ in range(15):
        nearest = (x @ centres.T).argmax(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, x)
        centres = nn.functional.normalize(sums, dim=1)
    found: I64 = nearest.numpy()
    return found


def readers(news: News, seed: int, train: int = 3000, test: int = 500) -> Readers:
    """Histories of 6 to 16 articles; test readers are shown 20, of which 2 are of their topics."""
    rng = np.random.default_rng([seed, 12])
    old = np.arange(len(news.topic)) < 0.8 * len(news.topic)
    members = [np.flatnonzero((news.topic == t) & old) for t in range(TOPICS)]
    zipf = [np.cumsum(1 / np.arange(1, len(m) + 1)) for m in members]
    total = train + test
    history = np.full((total, HISTORY), -1, np.int64)
    shown = np.empty((test, SHOWN), np.int64)
    for i in range(total):
        mine = rng.choice(TOPICS, 1 + i % 3, replace=False)
        length = int(rng.integers(6, HISTORY + 1))
        for j, topic in enumerate(rng.choice(mine, length)):
            draw = rng.random() * zipf[topic][-1]
            history[i, HISTORY - length + j] = members[topic][np.searchsorted(zipf[topic], draw)]
        if i >= train:
            fresh = np.setdiff1d(np.flatnonzero(np.isin(news.topic, mine)), history[i])
            others = np.flatnonzero(~np.isin(news.topic, mine))
            clicks = rng.choice(fresh, CLICKED, replace=False)
            shown[i - train] = [*clicks, *rng.choice(others, SHOWN - CLICKED, replace=False)]
    clicked = np.zeros((test, SHOWN), np.int64)
    clicked[:, :CLICKED] = 1
    # Which of equal scores comes first must not be the clicked one.
    mixed = rng.permuted(np.tile(np.arange(SHOWN), (test, 1)), axis=1)
    shown, clicked = (np.take_along_axis(a, mixed, 1) for a in (shown, clicked))
    rows = np.arange(total)
    return Readers(history, rows[:train], rows[train:], shown, clicked)


class Model(nn.Module):
    """Article encoder and attention pooling."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.encoder = speedy.BusEncoder(VOCABULARY, DIM, LAYERS, HEADS, length=TITLE, segments=1)
        self.pool = AttnPool(DIM)

    def reader(self, news: News) -> Callable[[Tensor], Tensor]:
        """The encoder as a function of rows of articles."""
        device = self.pool.query.weight.device
        return lambda rows: cast(Tensor, self.encoder(news.titles[rows.cpu()].to(device)))

    def loss(self, vectors: Tensor, ids: Tensor, rng: np.random.Generator, last: bool) -> Tensor:
        """Of (b, L, d) histories; negatives are other readers' articles of the same batch."""
        mask = ids >= 0
        b, L = ids.shape
        counted = mask[:, 1:] & mask[:, :-1]
        if last:
            counted = counted & (torch.arange(L - 1, device=ids.device) == L - 2)
        others = (np.arange(b)[:, None, None] + rng.integers(1, b, (b, L - 1, NEGATIVES))) % b
        # Histories end at the right: the last six places are never padding.
        places = rng.integers(L - 6, L, others.shape)
        negatives = vectors[torch.from_numpy(others), torch.from_numpy(places)]
        users = speedy.ar_user(vectors, mask, self.pool.logits(vectors))
        return speedy.ar_loss(users, vectors[:, 1:], negatives, counted)


def train(
    news: News,
    data: Readers,
    seed: int,
    *,
    cache: speedy.NewsCache | None = None,
    last: bool = False,
    central: bool = True,
    steps: int = STEPS,
    device: str = "cpu",
) -> tuple[Model, Log]:
    """Train for `steps`; `central` False encodes every slot of the batch, padding too."""
    model, log = Model(seed).to(device), Log()
    optimizer = torch.optim.Adam(model.parameters(), LR)
    rng, read = np.random.default_rng([seed, 13]), model.reader(news)

    def encode(rows: Tensor) -> Tensor:
        log.encodes.append(len(rows))
        return read(rows)

    for step in range(1, steps + 1):
        drawn = data.history[rng.choice(data.train, BATCH, replace=False)]
        ids = torch.from_numpy(drawn).to(device)
        start, before = time.process_time(), len(log.encodes)
        if central:
            vectors = speedy.encode_unique(ids, encode, cache=cache, step=step)
        else:
            vectors = encode(ids.flatten().clamp_min(0)).view(*ids.shape, -1)
            vectors = vectors * (ids >= 0)[..., None]
        if len(log.encodes) == before:
            log.encodes.append(0)
        loss = model.loss(vectors, ids, rng, last)
        optimizer.zero_grad()
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        log.seconds.append(time.process_time() - start)
        if step % EVERY == 0:
            log.auc.append(float(per_reader(model, news, data)["auc"].mean()))
            if cache is not None:
                log.cosines.append(cosines(model, news, cache, step))
    return model, log


def scores_of(model: Model, news: News, data: Readers) -> NDArray[np.float32]:
    """(readers, 20) scores of the shown articles."""
    with torch.no_grad():
        vectors = model.reader(news)(torch.arange(len(news.titles)))
        ids = torch.from_numpy(data.history[data.test]).to(vectors.device)
        users = model.pool(vectors[ids.clamp_min(0)] * (ids >= 0)[..., None], ids >= 0)
        found = torch.einsum("bd,bsd->bs", users, vectors[torch.from_numpy(data.shown)])
    array: NDArray[np.float32] = found.cpu().numpy()
    return array


def per_reader(model: Model, news: News, data: Readers) -> dict[str, F64]:
    """MIND's metrics of each test reader."""
    scores = scores_of(model, news, data)
    pairs = list(zip(scores, data.clicked, strict=True))
    return {
        name: np.array([metric(*pair) for pair in pairs]) for name, metric in mind.METRICS.items()
    }


def cosines(model: Model, news: News, cache: speedy.NewsCache, step: int) -> tuple[F64, I64]:
    """Cosine of cached and fresh vectors, and the age of each."""
    rows = (cache.written >= 0).nonzero()[:, 0]
    with torch.no_grad():
        fresh = model.reader(news)(rows).cpu()
    similar = nn.functional.cosine_similarity(cache.emb[rows], fresh)
    return similar.double().numpy(), (step - cache.written[rows]).numpy()


def read_segments(
    kind: str, news: News, seed: int, steps: int = STEPS, device: str = "cpu"
) -> dict[str, Any]:
    """Train a classifier of topics from whole articles, from word vectors on.

    `kind` is "bus", "joint" (one segment of 96 tokens) or "independent". Returns the accuracy on
    held-out articles, their hits, and milliseconds of a training step.
    """
    torch.manual_seed(seed)
    K, T = (1, SEGMENTS * SEGMENT) if kind == "joint" else (SEGMENTS, SEGMENT)
    encoder = speedy.BusEncoder(
        VOCABULARY, DIM, LAYERS, HEADS, length=T, segments=K, bus=kind == "bus"
    )
    with torch.no_grad():
        encoder.token.weight += news.words
    head = nn.Linear(DIM, TOPICS).to(device)
    encoder.to(device)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], LR)
    tokens = news.segments.reshape(-1, K, T).to(device)
    label = torch.from_numpy(news.topic).to(device)
    rng, old = np.random.default_rng([seed, 14]), int(0.8 * len(news.topic))
    seconds = []
    for _ in range(steps):
        rows = torch.from_numpy(rng.choice(old, 2 * BATCH, replace=False))
        start = time.process_time()
        loss = nn.functional.cross_entropy(head(encoder(tokens[rows])), label[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        seconds.append(time.process_time() - start)
    with torch.no_grad():
        hits = (head(encoder(tokens[old:])).argmax(1) == label[old:]).double().cpu().numpy()
    return {"accuracy": hits.mean(), "ms": 1e3 * np.median(seconds), "hits": hits}
