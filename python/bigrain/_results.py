# SPDX-License-Identifier: Apache-2.0
"""What calls return: small immutable values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class SearchResult(NamedTuple):
    """Neighbours, nearest first: shapes (rows, k), or (k,) for one 1-D query.

    ids: int64 external ids; -1 where there are fewer than k.
    distances: float32, smaller is closer (see `Index.build`); +inf where the id is -1.
    """

    ids: npt.NDArray[np.int64]
    distances: npt.NDArray[np.float32]

    def to_faiss(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Return (D, I), faiss's order."""
        return self.distances, self.ids


class MultiResult(NamedTuple):
    """What `Index.search_multi` found, nearest first: shapes (users, k), or (k,) for one user.

    ids, distances: as in `SearchResult`. sources: int64, which of the user's vectors brought each
    result; -1 where the id is -1.
    """

    ids: npt.NDArray[np.int64]
    distances: npt.NDArray[np.float32]
    sources: npt.NDArray[np.int64]


class SearchStats(NamedTuple):
    """What each query cost: uint32 arrays of shape (rows,); (1,) for one 1-D query.

    hops: vertices expanded. code_distances: 8-bit distances, each one code record read.
    full_distances: distances on full vectors. Of an index on disk (`Index.open`): reads of the
    file, bytes that they brought, rounds (times that the query had to wait for reads), cache_hits
    (rows or vectors that were in memory instead).
    """

    hops: npt.NDArray[np.uint32]
    code_distances: npt.NDArray[np.uint32]
    full_distances: npt.NDArray[np.uint32]
    reads: npt.NDArray[np.uint32]
    bytes: npt.NDArray[np.uint32]
    rounds: npt.NDArray[np.uint32]
    cache_hits: npt.NDArray[np.uint32]


class DetailedResult(SearchResult):
    """A SearchResult that also has `.stats`; it still unpacks into ids and distances."""

    stats: SearchStats

    def __new__(
        cls,
        ids: npt.NDArray[np.int64],
        distances: npt.NDArray[np.float32],
        stats: SearchStats,
    ) -> DetailedResult:
        """Attach `stats` to a result."""
        self = super().__new__(cls, ids, distances)
        self.stats = stats
        return self

    def __reduce__(self) -> tuple[type[DetailedResult], tuple[object, ...]]:
        return type(self), (self.ids, self.distances, self.stats)


class CurvePoint(NamedTuple):
    """One setting that no cheaper one beats, and the recall that it promises.

    slack: as for `search`; infinity where only `width` ends a search.
    """

    width: int
    rerank: int
    recall: float
    slack: float = math.inf


@dataclass(frozen=True)
class TuneReport:
    """What `Index.tune` measured.

    k, target: as asked. width, rerank, slack: the cheapest setting that reached the target (or
    the best tried). recall: the recall@k by distance that it promises: the measured one less
    `margin`, one standard error of its mean over the queries. reached: recall >= target. queries:
    how many were asked. curve: the settings measured that no cheaper one beats, by recall.
    """

    k: int
    target: float
    width: int
    rerank: int
    slack: float
    recall: float
    margin: float
    reached: bool
    queries: int
    curve: tuple[CurvePoint, ...]


@dataclass(frozen=True)
class ValidationReport:
    """What `Index.validate` found.

    points, edges, max_degree: sizes of the graph. unreachable: points that no search can reach.
    empty_rows: points without out-edges. problems: sentences; empty for a sound index.
    """

    points: int
    edges: int
    unreachable: int
    empty_rows: int
    max_degree: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """True where nothing is wrong."""
        return not self.problems
