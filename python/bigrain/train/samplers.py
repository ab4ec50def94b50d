# SPDX-License-Identifier: Apache-2.0
"""Which rows of a training set make a batch, where in-batch negatives depend on it.

A sampler yields int64 arrays of rows without end. All ranks draw the same epoch from (seed, epoch)
and each yields its own part of a round, so that no state is exchanged, what holds for a batch
holds over all ranks together, and a restart needs epoch and cursor only. An incomplete last round
of an epoch is left out. All samplers take the keywords seed (0 unless given), rank (0) and
world (1).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bigrain._checks import require, require_choice
from bigrain.eval.collections import duplicate_groups
from bigrain.quant._kmeans import k_means

Rows = npt.NDArray[np.int64]


class _Sampler:
    """What samplers share: rounds of one batch per rank, and the place to go on from."""

    def __init__(
        self, n: int, batch_size: int, *, seed: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        require(0 <= rank < world, "rank", f"0 to {world - 1}", rank)
        most = f"1 to {n // world}, for {n} rows over {world} processes"
        require(1 <= batch_size * world <= n, "batch_size", most, batch_size)
        self.batch_size, self.seed, self.rank, self.world = batch_size, seed, rank, world
        self.n, self.whole = n, batch_size * world
        self.epoch = self.cursor = 0

    def _rounds(self, rng: np.random.Generator) -> list[Any]:
        """Return an epoch: rounds, each with one batch per rank."""
        raise NotImplementedError

    def _split(self, rows: Sequence[int] | Rows) -> Rows:
        return np.asarray(rows, np.int64).reshape(self.world, -1)

    def __iter__(self) -> Iterator[Rows]:
        while True:
            rounds = self._rounds(np.random.default_rng([self.seed, self.epoch]))
            if not len(rounds):
                raise ValueError("batch_size: no batch of this size can be made; choose a smaller")
            while self.cursor < len(rounds):
                self.cursor += 1
                yield rounds[self.cursor - 1][self.rank]
            self.epoch, self.cursor = self.epoch + 1, 0

    def state_dict(self) -> dict[str, int]:
        """Return where the sampler stands."""
        names = ("epoch", "cursor", "rank", "world", "seed")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from there.

        Raises:
            ValueError: the state is of another seed or number of ranks.
        """
        for name in ("world", "seed"):
            own = getattr(self, name)
            require(state[name] == own, "state", f"{name} {own}", state[name])
        self.epoch, self.cursor = state["epoch"], state["cursor"]


class Shuffled(_Sampler):
    """Random batches, each row once an epoch: what `fit` uses if it is given no sampler.

    Args:
        n: rows of the training set.
        batch_size: rows per rank.
        seed, rank, world: as for every sampler; see the module.
    """

    def _rounds(self, rng: np.random.Generator) -> Any:
        used = self.n // self.whole * self.whole
        return rng.permutation(self.n)[:used].reshape(-1, self.world, self.batch_size)


class NoDuplicates(_Sampler):
    """Random batches in which no two rows share a key; who would, waits for the next batch.

    Args:
        keys: (n,) or (n, K) int64; rows conflict if they are equal in any column.
        batch_size: rows per rank.
        seed, rank, world: as for every sampler; see the module.
    """

    def __init__(self, keys: Any, batch_size: int, **place: int) -> None:
        columns = np.asarray(keys, np.int64)
        columns = columns.reshape(len(columns), -1)
        super().__init__(len(columns), batch_size, **place)
        self._keys = [set(enumerate(row)) for row in columns.tolist()]

    @classmethod
    def from_data(cls, data: Any, batch_size: int, **options: Any) -> NoDuplicates:
        """Keep apart rows of a `TrainingSet` with one query or one positive, by their texts."""
        positives = duplicate_groups(data.documents)[data.positives]
        return cls(np.stack([positives, duplicate_groups(data.queries)], 1), batch_size, **options)

    def _rounds(self, rng: np.random.Generator) -> list[Any]:
        fresh = iter(rng.permutation(self.n).tolist())
        waiting: deque[int] = deque()
        rounds: list[Any] = []
        while True:
            batch: list[int] = []
            used: set[tuple[int, int]] = set()
            turns = len(waiting)
            while len(batch) < self.whole:
                row = waiting.popleft() if turns else next(fresh, None)
                turns -= turns > 0
                if row is None:
                    return rounds
                if used.isdisjoint(self._keys[row]):
                    batch.append(row)
                    used |= self._keys[row]
                else:
                    waiting.append(row)
            waiting.rotate(-turns)
            rounds.append(self._split(batch))


class TokenBudget(_Sampler):
    """Batches of rows of like length, as many as fit a number of padded tokens (SpeedyFeed).

    Args:
        lengths: (n,) tokens per row.
        budget: most tokens of a batch: rows times its longest row.
        pool: rows are sorted within random pools of about so many batches.
        seed, rank, world: as for every sampler; see the module.
    """

    def __init__(self, lengths: Any, budget: int, *, pool: int = 100, **place: int) -> None:
        self._lengths = np.asarray(lengths, np.int64)
        super().__init__(len(self._lengths), 1, **place)
        low, high = self._lengths.min(), self._lengths.max()
        expected, advice = f"1 to budget={budget}", "cut the texts or raise the budget"
        require(1 <= low <= high <= budget, "lengths", expected, f"{low} to {high}", advice)
        self._budget, self._pool = budget, max(1, int(pool * budget / self._lengths.mean()))

    def _rounds(self, rng: np.random.Generator) -> list[Any]:
        order, batches = rng.permutation(self.n), []
        for start in range(0, self.n, self._pool):
            part = order[start : start + self._pool]
            part = part[np.argsort(self._lengths[part], kind="stable")]
            first = 0
            for place, length in enumerate(self._lengths[part].tolist()):
                if (place + 1 - first) * length > self._budget:
                    batches.append(part[first:place])
                    first = place
            batches.append(part[first:])
        # Ranks of a round get neighbours, of like size, so that none waits for the others.
        rounds = [batches[i : i + self.world] for i in range(0, len(batches), self.world)]
        rounds = [group for group in rounds if len(group) == self.world]
        return [rounds[i] for i in rng.permutation(len(rounds))]


class TopicAware(_Sampler):
    """Batches of one topic each, balanced over a teacher's margins (TAS-Balanced).

    Hofstätter et al., SIGIR 2021, section 3: queries are clustered once by the initial model's
    vectors; a batch draws a cluster and from it queries, and pairs evenly over bins of the
    teacher's margin between positive and negative. What differs: rows stand for pairs; a cluster
    smaller than a batch is dissolved into the nearest ones; a batch repeats no row.

    Args:
        queries: (n, d) vectors, one per row.
        batch_size: rows per rank.
        clusters: of k-means.
        margins: (n,) teacher's scores of the positive less those of the negative; None: no bins.
        bins: of equal width over the margins' range (the paper: 10).
        seed, rank, world: as for every sampler; see the module.
    """

    def __init__(
        self,
        queries: Any,
        batch_size: int,
        clusters: int,
        *,
        margins: Any = None,
        bins: int = 10,
        **place: int,
    ) -> None:
        x = np.asarray(queries, np.float32)
        super().__init__(len(x), batch_size, **place)
        self.topics = k_means(x, clusters, seed=self.seed, least=self.whole)
        self._bins = np.zeros(len(x), np.int64)
        if margins is not None:
            m = np.asarray(margins, np.float64)
            width = max(float(np.ptp(m)), np.finfo(np.float64).tiny)
            self._bins = np.minimum((m - m.min()) / width * bins, bins - 1).astype(np.int64)

    def _rounds(self, rng: np.random.Generator) -> list[Any]:
        members = [np.flatnonzero(self.topics == topic) for topic in np.unique(self.topics)]
        shares = np.array([len(rows) for rows in members]) / self.n
        drawn = rng.choice(len(members), self.n // self.whole, p=shares)
        return [self._split(self._draw(members[topic], rng)) for topic in drawn]

    def _draw(self, rows: Rows, rng: np.random.Generator) -> Rows:
        """Take a row of each bin, then another of each, until the batch is full."""
        rows = rng.permutation(rows)
        order = np.argsort(self._bins[rows], kind="stable")
        sizes = np.bincount(self._bins[rows])
        turn = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return rows[order[np.argsort(turn + rng.random(len(rows)))[: self.whole]]]


class Locality(_Sampler):
    """Batches whose rows are each other's confusers: BiDR's locality-centric sampling.

    Xiao et al., WWW 2022: queries and their top results under the first stage's model make a
    bipartite graph, and a batch fills up along it from a random query: by a random walk (last in,
    first out) or a snowball (first in, first out). Rows follow each other here where one's positive
    is among the other's results; a batch that has seen all it can reach starts anew elsewhere.

    Args:
        neighbours: (n, T) int64 results of each row's query (BiDR: T = 200), -1 pads.
        positives: (n,) int64.
        batch_size: rows per rank.
        order: "walk" or "snowball".
        seed, rank, world: as for every sampler; see the module.
    """

    def __init__(
        self,
        neighbours: Any,
        positives: Any,
        batch_size: int,
        *,
        order: Literal["walk", "snowball"] = "walk",
        **place: int,
    ) -> None:
        require_choice(order, "order", "walk", "snowball")
        super().__init__(len(positives), batch_size, **place)
        answers: dict[int, list[int]] = {}
        for row, document in enumerate(np.asarray(positives).tolist()):
            answers.setdefault(document, []).append(row)
        self._next = [
            np.array([row for document in found for row in answers.get(document, ())], np.int64)
            for found in np.asarray(neighbours).tolist()
        ]
        self._order = order

    def _rounds(self, rng: np.random.Generator) -> list[Any]:
        starts = iter(rng.permutation(self.n).tolist())
        seen = np.zeros(self.n, bool)
        rounds: list[Any] = []
        while True:
            batch: list[int] = []
            reach: deque[int] = deque()
            while len(batch) < self.whole:
                if reach:
                    row = reach.pop() if self._order == "walk" else reach.popleft()
                elif (row := next(starts, -1)) < 0:
                    return rounds
                if not seen[row]:
                    seen[row] = True
                    batch.append(row)
                    near = self._next[row]
                    reach.extend(rng.permutation(near[~seen[near]]).tolist())
            rounds.append(self._split(batch))
