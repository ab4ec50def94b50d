# SPDX-License-Identifier: Apache-2.0
"""Searches with several vectors at once: one user's interests, one text's tokens or rewordings.

All vectors are searched in one batch, and what they find is merged here:

  allocate  every vector has a quota of the k results, as an elastic number of interests asks for
            (Octopus, SIGIR 2020)
  score     the nearest of the union, each id by its best distance (ComiRec, KDD 2020, lambda = 0)
  sum       the least sum of distances to all vectors: with a document's tokens as points, late
            interaction (ColBERT, SIGIR 2020). A pair that was not found counts as the last one that
            its vector found, the imputation of XTR (NeurIPS 2023, section 3.2): no vector is read
            again, in memory or on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, cast, overload

import numpy as np
import numpy.typing as npt

from bigrain._arrays import to_numpy
from bigrain._checks import check_choice, check_limit
from bigrain._handle import IndexHandle
from bigrain._progress import Progress
from bigrain._results import MultiResult, SearchResult

Merge: TypeAlias = Literal["allocate", "score", "sum"]
MERGES = ("allocate", "score", "sum")
Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
# (ids, distances, sources) of at most k results, nearest first
Merged: TypeAlias = tuple[Ids, npt.NDArray[Any], Ids]


class MultiSearcher(IndexHandle):
    """Gives `Index` its verb `search_multi`."""

    __slots__ = ()

    @overload
    def search_multi(
        self,
        queries: Any,
        k: int = 10,
        *,
        quota: Any = None,
        merge: Merge = "allocate",
        active: Any = None,
        documents: Any = None,
        depth: int | None = None,
        width: int | None = None,
        recall: float | None = None,
        rerank: int | None = None,
        slack: float | None = None,
        threads: int = 0,
        deterministic: bool = False,
        sources: Literal[False] = False,
        progress: Progress = None,
    ) -> SearchResult: ...

    @overload
    def search_multi(
        self,
        queries: Any,
        k: int = 10,
        *,
        quota: Any = None,
        merge: Merge = "allocate",
        active: Any = None,
        documents: Any = None,
        depth: int | None = None,
        width: int | None = None,
        recall: float | None = None,
        rerank: int | None = None,
        slack: float | None = None,
        threads: int = 0,
        deterministic: bool = False,
        sources: Literal[True],
        progress: Progress = None,
    ) -> MultiResult: ...

    def search_multi(
        self,
        queries: Any,
        k: int = 10,
        *,
        quota: Any = None,
        merge: Merge = "allocate",
        active: Any = None,
        documents: Any = None,
        depth: int | None = None,
        width: int | None = None,
        recall: float | None = None,
        rerank: int | None = None,
        slack: float | None = None,
        threads: int = 0,
        deterministic: bool = False,
        sources: bool = False,
        progress: Progress = None,
    ) -> SearchResult | MultiResult:
        """Find k distinct results for users (or texts) that have several vectors each.

        Args:
            queries: (G, dim) for one user, (U, G, dim) for U of them.
            k: results per user.
            quota: (G,) or (U, G) integers, for "allocate": how many results each vector brings, at
                most k in all. None: k split evenly over the active vectors, the first ones taking
                what is left over.
            merge: "allocate": vectors, that of the largest quota first, take their nearest points
                that none has taken; what quotas leave open, or vectors cannot fill, the nearest of
                the rest fill. "score": the nearest of all that was found, each by its best
                distance. "sum": the least sum of distances to all active vectors, where a pair that
                was not found counts as the last that this vector found (XTR).
            active: (G,) or (U, G) bool: vectors that count; others may hold anything. None: all.
            documents: integers from 0, by id: the document of each point, where a document is
                several points, such as its tokens. Results name documents then, and a vector is as
                near to one as to its nearest point. None: every point is a document.
            depth: points sought per vector, from k. None: k. With "sum" and `documents`, more of
                them make sums more exact.
            width, rerank, slack, threads, deterministic, progress: as in `search`.
            recall: as in `search`; the curve must serve `depth`.
            sources: also return which vector brought each result: with "sum" the nearest one.

        Returns:
            SearchResult(ids, distances) of shapes (U, k), or (k,) for 2-D queries: nearest first,
            padded as `search` pads. Distances are to the vector that brought the result ("sum": the
            sum). With `sources`, MultiResult(ids, distances, sources); -1 where there is none.

        Raises:
            ValueError: as `search`; shapes that do not fit, a quota below 0 or above k in all, or
                with another `merge`; an id beyond the end of `documents`.
            TypeError, CorruptIndexError, OSError, Cancelled: as `search`.
        """
        k = check_limit(k, "k")
        merge = cast(Merge, check_choice(merge, "merge", MERGES))
        depth = k if depth is None else max(k, check_limit(depth, "k"))
        asked, single = _as_users(queries, self._dim)
        users, vectors = asked.shape[:2]
        alive = _as_active(active, users, vectors)
        shares = _as_quota(quota, merge, alive, k)
        named = None if documents is None else _as_documents(documents)
        found: SearchResult = cast(Any, self).search(
            asked[alive],
            depth,
            width=width,
            recall=recall,
            rerank=rerank,
            slack=slack,
            threads=threads,
            deterministic=deterministic,
            progress=progress,
        )
        ids, distances = _by_user(found, alive, depth)
        if named is not None:
            ids = _documents_of(ids, named)
        result = _merge_all(ids, distances, shares, merge, k)
        if single:
            result = MultiResult(*(part[0] for part in result))
        return result if sources else SearchResult(result.ids, result.distances)


def _as_users(queries: Any, dim: int) -> tuple[npt.NDArray[Any], bool]:
    array = to_numpy(queries, "queries")
    if array.ndim not in (2, 3) or array.shape[-1] != dim:
        raise ValueError(
            f"queries: expected shape (vectors, {dim}) or (users, vectors, {dim}), found "
            f"{array.shape}"
        )
    return (array[None], True) if array.ndim == 2 else (array, False)


def _spread(value: Any, name: str, users: int, vectors: int) -> npt.NDArray[Any]:
    """Return (users, vectors) of what may be (vectors,) for all."""
    array = to_numpy(value, name)
    if array.shape not in ((vectors,), (users, vectors)):
        raise ValueError(
            f"{name}: expected shape ({vectors},) or ({users}, {vectors}), one per vector, found "
            f"{array.shape}"
        )
    return np.broadcast_to(array, (users, vectors))


def _as_active(active: Any, users: int, vectors: int) -> npt.NDArray[np.bool_]:
    if active is None:
        return np.ones((users, vectors), np.bool_)
    array = _spread(active, "active", users, vectors)
    if array.dtype != np.bool_:
        raise TypeError(f"active: expected bool, found dtype {array.dtype}")
    return array


def _as_quota(
    quota: Any, merge: str, alive: npt.NDArray[np.bool_], k: int
) -> npt.NDArray[np.int64]:
    if quota is None:
        count = alive.sum(axis=1, keepdims=True)
        place = np.cumsum(alive, axis=1) - 1
        each, more = np.divmod(k, np.maximum(count, 1))
        return np.where(alive, each + (place < more), 0)
    if merge != "allocate":
        raise ValueError(f"quota: it belongs to merge='allocate', found merge={merge!r}; omit it")
    array = _spread(quota, "quota", *alive.shape)
    if array.dtype.kind not in "iu":
        raise TypeError(f"quota: expected integers, found dtype {array.dtype}")
    shares = np.where(alive, array, 0)
    wrong = np.flatnonzero((shares < 0).any(axis=1) | (shares.sum(axis=1) > k))
    if wrong.size:
        raise ValueError(
            f"quota: expected 0 or more per vector and at most k = {k} in all, found "
            f"{shares[wrong[0]].tolist()} for user {wrong[0]}"
        )
    return shares.astype(np.int64)


def _as_documents(documents: Any) -> Ids:
    array = to_numpy(documents, "documents")
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise TypeError(
            f"documents: expected 1-D integers, found {array.dtype} of shape {array.shape}"
        )
    if array.size and (int(array.min()) < 0 or int(array.max()) > np.iinfo(np.int64).max):
        raise ValueError(f"documents: expected 0 or above, found {array.min()} to {array.max()}")
    return array.astype(np.int64, copy=False)


def _documents_of(ids: Ids, documents: Ids) -> Ids:
    most = int(ids.max(initial=-1))
    if most >= documents.size:
        raise ValueError(
            f"documents: expected one per id, found {documents.size} of them and the id {most}"
        )
    names = np.full_like(ids, -1)
    names[ids >= 0] = documents[ids[ids >= 0]]
    return names


def _by_user(found: SearchResult, alive: npt.NDArray[np.bool_], depth: int) -> tuple[Ids, Floats]:
    """Return (users, vectors, depth) ids and distances; padding where a vector is not active."""
    ids = np.full((*alive.shape, depth), -1, np.int64)
    distances = np.full(ids.shape, np.inf, np.float32)
    ids[alive], distances[alive] = found.ids, found.distances
    return ids, distances


def _merge_all(
    ids: Ids, distances: Floats, shares: npt.NDArray[np.int64], merge: str, k: int
) -> MultiResult:
    users = ids.shape[0]
    names, sources = np.full((2, users, k), -1, np.int64)
    nearest = np.full((users, k), np.inf, np.float32)
    outs: tuple[npt.NDArray[Any], ...] = (names, nearest, sources)
    for user in range(users):
        if merge == "allocate":
            parts = _allocate(ids[user], distances[user], shares[user], k)
        else:
            one: Callable[[Ids, Floats], Merged] = _sum if merge == "sum" else _score
            parts = one(ids[user], distances[user])
        there = min(k, len(parts[0]))
        for out, part in zip(outs, parts, strict=True):
            out[user, :there] = part[:there]
    return MultiResult(names, nearest, sources)


def _pairs(ids: Ids, distances: Floats) -> Merged:
    """Return (ids, distances, vectors) of all that was found, nearest first, then by id."""
    vectors, _ = np.nonzero(ids >= 0)
    there = ids >= 0
    flat, near = ids[there], distances[there]
    order = np.lexsort((vectors, flat, near))
    return flat[order], near[order], vectors[order]


def _score(ids: Ids, distances: Floats) -> Merged:
    flat, near, vectors = _pairs(ids, distances)
    first = np.sort(np.unique(flat, return_index=True)[1])
    return flat[first], near[first], vectors[first]


def _allocate(ids: Ids, distances: Floats, shares: npt.NDArray[np.int64], k: int) -> Merged:
    taken: dict[int, tuple[float, int]] = {}
    for vector in np.argsort(-shares, kind="stable").tolist():
        left = int(shares[vector])
        for name, near in zip(ids[vector].tolist(), distances[vector].tolist(), strict=True):
            if left == 0 or name < 0:
                break
            if name not in taken:
                taken[name] = (near, vector)
                left -= 1
    if len(taken) < k:
        for name, near, vector in zip(*(p.tolist() for p in _score(ids, distances)), strict=True):
            if len(taken) == k:
                break
            taken.setdefault(name, (near, vector))
    rows = sorted((near, name, vector) for name, (near, vector) in taken.items())
    near_, names, vectors = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(names, np.int64), np.array(near_, np.float32), np.array(vectors, np.int64)


def _sum(ids: Ids, distances: Floats) -> Merged:
    names, columns = np.unique(ids[ids >= 0], return_inverse=True)
    rows, _ = np.nonzero(ids >= 0)
    found = np.full((ids.shape[0], names.size), np.inf)
    np.minimum.at(found, (rows, columns), distances[ids >= 0])
    last = np.where(ids >= 0, distances, -np.inf).max(axis=1, initial=-np.inf)
    counts = np.isfinite(last)  # vectors that found anything, as every active one does
    totals = np.where(np.isinf(found), last[:, None], found)[counts].sum(axis=0)
    order = np.lexsort((names, totals))
    sources = found.argmin(axis=0) if names.size else np.empty(0, np.int64)
    return names[order], totals[order].astype(np.float32), sources[order]
