# SPDX-License-Identifier: Apache-2.0
"""search_multi against plain loops over exact distances."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_vectors, oracle_distances
from hypothesis import given, settings
from hypothesis import strategies as st

from bigrain import Index, MultiResult

METRICS = ("l2", "ip", "cosine")
N, DIM = 60, 5
# The width covers every point, so that searches are exact.
WIDTH = 2 * N

Rows = list[tuple[float, int, int]]  # distance, id, vector


def everything(base: Any, queries: Any, metric: str, depth: int) -> list[Rows]:
    """Return per vector its nearest points."""
    distances = oracle_distances(base, queries, metric)
    found = []
    for vector, row in enumerate(distances):
        order = np.argsort(row, kind="stable")[:depth]
        found.append([(float(row[i]), int(i), vector) for i in order])
    return found


def nearest_of(found: list[Rows]) -> Rows:
    best: dict[int, tuple[float, int, int]] = {}
    for row in sorted(pair for rows in found for pair in rows):
        best.setdefault(row[1], row)
    return sorted(best.values())


def allocate(found: list[Rows], quota: list[int], k: int) -> Rows:
    taken: dict[int, tuple[float, int, int]] = {}
    for vector in sorted(range(len(quota)), key=lambda v: -quota[v]):
        mine = [row for row in found[vector] if row[1] not in taken][: quota[vector]]
        taken.update({row[1]: row for row in mine})
    rest = [row for row in nearest_of(found) if row[1] not in taken]
    return sorted([*taken.values(), *rest[: k - len(taken)]])


def sums(found: list[Rows]) -> Rows:
    rows = []
    for _, name, nearest in nearest_of(found):
        total = 0.0
        for mine in found:
            total += min((row[0] for row in mine if row[1] == name), default=mine[-1][0])
        rows.append((total, name, nearest))
    return sorted(rows)


def check(result: MultiResult, expected: Rows, k: int) -> None:
    expected = expected[:k]
    found = int((result.ids >= 0).sum())
    assert found == len(expected)
    assert len(set(result.ids[:found].tolist())) == found
    np.testing.assert_allclose(
        result.distances[:found], [row[0] for row in expected], rtol=1e-4, atol=1e-5
    )
    assert result.ids[:found].tolist() == [row[1] for row in expected]
    assert result.sources[:found].tolist() == [row[2] for row in expected]
    assert (result.ids[found:] == -1).all()
    assert (result.sources[found:] == -1).all()
    assert np.isposinf(result.distances[found:]).all()


@pytest.fixture(scope="module")
def indexes() -> Any:
    base = make_vectors(N, DIM)
    return base, {metric: Index.build(base, metric=metric) for metric in METRICS}


@given(data=st.data())
@settings(max_examples=60)
def test_against_loops(indexes: Any, data: Any) -> None:
    base, made = indexes
    metric = data.draw(st.sampled_from(METRICS))
    users, vectors = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 4))
    k = data.draw(st.integers(1, N + 5))
    depth = data.draw(st.integers(k, k + 10))
    merge = data.draw(st.sampled_from(["allocate", "score", "sum"]))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    queries = random.standard_normal((users, vectors, DIM)).astype(np.float32)
    active = random.random((users, vectors)) < 0.8
    quota = None
    if merge == "allocate" and data.draw(st.booleans()):
        quota = random.multinomial(k, np.full(vectors + 1, 1 / (vectors + 1)), users)[:, :vectors]
    queries[~active] = np.nan
    result = made[metric].search_multi(
        queries,
        k,
        merge=merge,
        quota=quota,
        active=active,
        depth=depth,
        width=WIDTH,
        sources=True,
    )
    assert result.ids.shape == (users, k)
    for user in range(users):
        alive = np.flatnonzero(active[user])
        found = everything(base, queries[user, alive], metric, depth)
        if merge == "score":
            expected = nearest_of(found)
        elif merge == "sum":
            expected = sums(found)
        else:
            each, more = divmod(k, max(1, len(alive)))
            shares = [each + (i < more) for i in range(len(alive))]
            if quota is not None:
                shares = quota[user, alive].tolist()
            expected = allocate(found, shares, k)
        expected = [(near, name, int(alive[vector])) for near, name, vector in expected]
        check(MultiResult(*(part[user] for part in result)), expected, k)


def test_one_user_is_a_row_of_many(indexes: Any) -> None:
    _, made = indexes
    queries = make_vectors(12, DIM, seed=3).reshape(3, 4, DIM)
    for merge in ("allocate", "score", "sum"):
        many = made["l2"].search_multi(queries, 7, merge=merge, sources=True)
        for user in range(3):
            one = made["l2"].search_multi(queries[user], 7, merge=merge, sources=True)
            assert one.ids.shape == (7,)
            for part, whole in zip(one, many, strict=True):
                np.testing.assert_array_equal(part, whole[user])


def test_one_vector_is_a_search(indexes: Any) -> None:
    _, made = indexes
    queries = make_vectors(9, DIM, seed=3)
    for metric in METRICS:
        plain = made[metric].search(queries, 6)
        for merge in ("allocate", "score", "sum"):
            found = made[metric].search_multi(queries[:, None], 6, merge=merge)
            np.testing.assert_array_equal(found.ids, plain.ids)
            np.testing.assert_allclose(found.distances, plain.distances, rtol=1e-6)


def test_quotas_are_kept(indexes: Any) -> None:
    base, made = indexes
    queries = base[[3, 40, 7]] * 1.01
    found = made["l2"].search_multi(queries, 10, quota=[7, 2, 0], width=WIDTH, sources=True)
    brought = np.bincount(found.sources, minlength=3)
    assert brought[0] >= 7
    assert brought[1] >= 2
    assert 40 in found.ids
    default = made["l2"].search_multi(queries, 10, width=WIDTH, sources=True)
    assert np.bincount(default.sources).tolist() == [4, 3, 3]


# Late interaction: a document is the points that carry its number, a pair its nearest two.
def test_documents(indexes: Any) -> None:
    base, made = indexes
    documents = np.random.default_rng(1).integers(0, 9, N) * 100
    queries = make_vectors(6, DIM, seed=4).reshape(2, 3, DIM)
    found = made["ip"].search_multi(
        queries, 4, merge="sum", documents=documents, depth=N, width=WIDTH, sources=True
    )
    for user in range(2):
        scores = -oracle_distances(base, queries[user], "ip")
        names = np.unique(documents)
        most = np.array([[row[documents == name].max() for name in names] for row in scores])
        order = np.argsort(-most.sum(axis=0), kind="stable")[:4]
        assert found.ids[user].tolist() == names[order].tolist()
        np.testing.assert_allclose(-found.distances[user], most.sum(axis=0)[order], rtol=1e-5)
        np.testing.assert_array_equal(found.sources[user], most.argmax(axis=0)[order])
    with pytest.raises(ValueError, match="documents: expected one per id, found 3"):
        made["ip"].search_multi(queries, 4, documents=[1, 2, 3], width=WIDTH)


def test_on_disk_and_with_ids(tmp_path: Path) -> None:
    base = make_vectors(2000, 16)
    index = Index.build(base, np.arange(2000) * 3, pq_bytes=8)
    index.save(tmp_path / "x")
    queries = base[:12].reshape(3, 4, 16)
    found = Index.open(tmp_path / "x", memory="min").search_multi(queries, 8, width=60)
    for user in range(3):
        assert set((np.arange(4) + 4 * user) * 3) <= set(found.ids[user].tolist())


def test_nothing_to_find() -> None:
    none = Index.build(np.zeros((0, DIM), np.float32))
    for merge in ("allocate", "score", "sum"):
        found = none.search_multi(np.ones((2, 3, DIM)), 4, merge=merge, sources=True)
        assert (found.ids == -1).all()
        assert (found.sources == -1).all()


def test_wrong_arguments(indexes: Any) -> None:
    index = indexes[1]["l2"]
    queries = np.ones((2, 3, DIM), np.float32)
    wrong: list[tuple[Any, dict[str, Any], str]] = [
        (queries[0, 0], {}, "queries: expected shape"),
        (queries[..., 1:], {}, "queries: expected shape"),
        (queries, {"quota": [1, 2]}, r"quota: expected shape \(3,\) or \(2, 3\)"),
        (queries, {"quota": [1, 2, -1]}, "quota: expected 0 or more"),
        (queries, {"quota": [5, 5, 1]}, r"found \[5, 5, 1\] for user 0"),
        (queries, {"quota": [1, 2, 3], "merge": "score"}, "belongs to merge='allocate'"),
        (queries, {"merge": "best"}, "merge: expected one of"),
        (queries, {"active": [True]}, "active: expected shape"),
        (queries, {"documents": [-1]}, "documents: expected 0 or above"),
        (queries, {"k": 0}, "k: expected 1 to"),
        (queries, {"depth": 0}, "k: expected 1 to"),
        (queries * np.nan, {}, "queries: row 0 contains NaN"),
        (queries, {"recall": 0.9}, "recall"),
    ]
    for asked, options, message in wrong:
        with pytest.raises(ValueError, match=message):
            index.search_multi(asked, **{"k": 10, **options})
    for options in ({"active": [1, 0, 1]}, {"quota": [1.0, 2, 3]}, {"documents": [[1]]}):
        with pytest.raises(TypeError):
            index.search_multi(queries, **options)
