# SPDX-License-Identifier: Apache-2.0
"""Mining against a double loop, and files that are torn, damaged, stale or full of lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import bigrain  # noqa: E402
from bigrain.train import _negatives_file as files  # noqa: E402
from bigrain.train.negatives import (  # noqa: E402
    BM25,
    CorruptNegativesError,
    Exact,
    Negatives,
    duplicate_groups,
    known_positives,
    mine,
    mine_bm25,
    newest_negatives,
    read_negatives,
    write_negatives,
)

N, ROWS, DIM = 300, 41, 8


@pytest.fixture(scope="module")
def data() -> tuple[Any, Any, Any]:
    """Documents of which the last third repeats others, queries, two positives or one."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((N, DIM)).astype(np.float32)
    vectors[200:] = vectors[:100]
    queries = rng.standard_normal((ROWS, DIM)).astype(np.float32)
    positives = np.argsort(-queries @ vectors.T, axis=1, kind="stable")[:, [2, 5]]
    positives[::3, 1] = -1
    return vectors, queries, positives.astype(np.int64)


def scorer(rows: Any, ids: Any) -> Any:
    """A judge without reason: four of ten pairs are relevant."""
    return ((rows * 7 + ids * 13) % 10) / 10


def naive(data: Any, lo: int, hi: int, n: int, margin: float, denoise: bool) -> Any:
    """What `mine` should find, row by row."""
    vectors, queries, positives = data
    groups = duplicate_groups(vectors)
    expected = np.full((ROWS, n), -1)
    for row, query in enumerate(queries):
        scores = vectors @ query
        own = positives[row][positives[row] >= 0]
        kept = [
            i
            for i in np.argsort(-scores, kind="stable")[lo:hi]
            if groups[i] not in groups[own]
            and scores[i] <= scores[own].min() - margin
            and not (denoise and scorer(np.array([row]), np.array([i]))[0] >= 0.6)
        ]
        expected[row, : len(kept[:n])] = kept[:n]
    return expected


@pytest.mark.parametrize("lo", [0, 3])
@pytest.mark.parametrize("margin", [0.0, 0.3])
@pytest.mark.parametrize("denoise", [False, True])
def test_mine_is_the_double_loop(data: Any, lo: int, margin: float, denoise: bool) -> None:
    vectors, queries, positives = data
    index = bigrain.Index.build(vectors, metric="ip", threads=1)
    for searcher, options in ((Exact(vectors), {}), (index, {"width": N, "threads": 1})):
        found = mine(
            searcher,
            queries,
            positives,
            range=(lo, 40),
            n=4,
            margin=margin,
            vectors=vectors,
            denoise=scorer if denoise else None,
            max_neg=0.6,
            duplicates=duplicate_groups(vectors),
            block=10,
            **options,
        )
        expected = naive(data, lo, 40, 4, margin, denoise)
        # Equal vectors may stand in either order.
        groups = np.append(duplicate_groups(vectors), -1)
        np.testing.assert_array_equal(groups[found.ids], groups[expected])
        assert (found.dropped["denoise"] > 0) == denoise
        rows, columns = np.nonzero(found.ids >= 0)
        scores = (queries[rows] * vectors[found.ids[rows, columns]]).sum(axis=1)
        np.testing.assert_allclose(found.scores[rows, columns], scores, rtol=1e-5)
        assert np.isneginf(found.scores[found.ids < 0]).all()


@pytest.mark.parametrize("metric", ["ip", "cosine", "l2"])
def test_margin_is_in_the_metric_of_the_index(data: Any, metric: str) -> None:
    vectors, queries, positives = data
    found = mine(Exact(vectors, metric), queries, positives, n=9, margin=0.1, vectors=vectors)
    score = Exact(vectors, metric).search(queries, N)
    for row in range(ROWS):
        distance = dict(zip(score.ids[row], score.distances[row], strict=True))
        worst = max(distance[i] for i in positives[row] if i >= 0)
        assert all(distance[i] >= worst + 0.1 - 1e-4 for i in found.ids[row] if i >= 0)
    assert (found.ids[:, 0] >= 0).any()


def test_random_samples_and_fill(data: Any) -> None:
    vectors, queries, positives = data
    exact, order = Exact(vectors), np.argsort(-queries @ vectors.T, axis=1, kind="stable")
    draws = [
        mine(exact, queries, positives, range=(0, 50), n=5, sample="random", seed=seed).ids
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).mean() > 0.5
    for row, ids in enumerate(draws[0]):
        assert len(set(ids)) == 5
        assert set(ids) <= set(order[row, :50])
    # Of ranks 0 to 5 at most four can pass: the others come from 6 to 99.
    filled = mine(exact, queries, positives, range=(0, 6), fill=100, n=8).ids
    for row, ids in enumerate(filled):
        near = [i for i in order[row, :6] if i not in positives[row]]
        np.testing.assert_array_equal(ids[: len(near)], near)
        assert set(ids[len(near) :]) <= set(order[row, 6:100])
        assert len(set(ids)) == 8


def test_the_scorer_sees_no_more_than_needed(data: Any) -> None:
    vectors, queries, positives = data
    asked = 0

    def judge(rows: Any, ids: Any) -> Any:
        nonlocal asked
        asked += len(rows)
        return np.where(ids % 2 == 0, 1.0, 0.0)

    found = mine(Exact(vectors), queries, positives, n=3, denoise=judge)
    assert asked == found.dropped["denoise"] + 3 * ROWS
    with pytest.raises(ValueError, match="denoise: expected"):
        mine(Exact(vectors), queries, positives, denoise=lambda rows, ids: np.zeros(2))


def test_bm25_negatives() -> None:
    documents = ["red fox runs", "red fox sleeps", "Red  fox runs", "blue whale", "fox"]
    queries = ["red fox", "zebra", "whale"]
    found = mine_bm25(queries, documents, np.array([0, 3, 3]), n=3, range=(0, 9))
    assert found.ids.tolist() == [[1, 4, -1], [-1, -1, -1], [-1, -1, -1]]
    assert BM25(documents).search(["whale"], 2).ids.tolist() == [[3, -1]]


def test_groups_and_positives() -> None:
    assert duplicate_groups(["A b", "c", "a\n B", "c "]).tolist() == [0, 1, 0, 1]
    assert known_positives(["q", "r", "q"], [4, 5, 6]).tolist() == [[4, 6], [5, -1], [4, 6]]


def test_bad_input_and_progress(data: Any) -> None:
    vectors, queries, positives = data
    exact = Exact(vectors)
    with pytest.raises(ValueError, match="positives: expected int64"):
        mine(exact, queries, positives[:3])
    with pytest.raises(ValueError, match="margin: needs vectors"):
        mine(exact, queries, positives, margin=0.1)
    for name, value in (("range", (5, 5)), ("n", 0), ("sample", "best"), ("fill", 3)):
        options = {"range": (0, 10), name: value}
        with pytest.raises(ValueError, match=f"{name}: expected"):
            mine(exact, queries, positives, **options)
    seen: list[tuple[int, int]] = []
    mine(exact, queries, positives, block=20, progress=lambda a, b: seen.append((a, b)))
    assert seen == [(20, ROWS), (40, ROWS), (41, ROWS)]
    with pytest.raises(bigrain.Cancelled):
        mine(exact, queries, positives, block=20, progress=lambda a, b: False)


# The file


def some(version: int = 7, rows: int = 5, k: int = 3) -> Negatives:
    ids = np.arange(rows * k, dtype=np.int64).reshape(rows, k) - 1
    return Negatives(ids, np.arange(rows, dtype=np.int64) * 2, version, {"build": 1.5})


@pytest.mark.parametrize(("rows", "k"), [(5, 3), (1, 1), (0, 4), (3, 0)])
def test_round_trip(tmp_path: Path, rows: int, k: int) -> None:
    path = tmp_path / "n.bin"
    write_negatives(path, some(rows=rows, k=k))
    found = read_negatives(path, documents=100)
    np.testing.assert_array_equal(found.ids, some(rows=rows, k=k).ids)
    np.testing.assert_array_equal(found.query_ids, np.arange(rows) * 2)
    assert (found.version, found.seconds) == (7, {"encode": 0.0, "build": 1.5, "search": 0.0})
    assert not found.ids.flags.writeable or not found.ids.size
    assert [entry.name for entry in tmp_path.iterdir()] == ["n.bin"]


def test_torn_and_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "n.bin"
    write_negatives(path, some())
    whole = path.read_bytes()
    for size in [*range(0, len(whole), 5), len(whole) - 1, len(whole) + 1]:
        path.write_bytes((whole + b"x")[:size])
        with pytest.raises(CorruptNegativesError):
            read_negatives(path)
    for place in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[place] ^= 0x40
        path.write_bytes(damaged)
        with pytest.raises(CorruptNegativesError):
            read_negatives(path)


def test_lies_with_a_good_checksum(tmp_path: Path) -> None:
    path = tmp_path / "n.bin"
    for rows, k in ((2**60, 3), (2**63, 2**32 - 1), (5, 2**31)):
        head = files.HEADER.pack(files.MAGIC, files.FORMAT, k, rows, 0, 0.0, 0.0, 0.0)
        body = bytes(160)
        crc = files.zlib.crc32(body, files.zlib.crc32(head)).to_bytes(4, "little")
        path.write_bytes(head + crc + body)
        with pytest.raises(CorruptNegativesError, match="expected format 1 and"):
            read_negatives(path)
    write_negatives(path, some())
    with pytest.raises(CorruptNegativesError, match="expected ids from -1 to 9"):
        read_negatives(path, documents=10)


def test_write_refuses_and_cleans_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "n.bin"
    write_negatives(path, some())
    wrong = Negatives(some().ids.astype(np.int32), some().query_ids, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="negatives: expected int64"):
        write_negatives(path, wrong)

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_negatives(path, some(8))
    assert read_negatives(path).version == 7
    assert [entry.name for entry in tmp_path.iterdir()] == ["n.bin"]


def test_the_newest_complete_version(tmp_path: Path) -> None:
    assert newest_negatives(tmp_path) is None
    for version in (5, 20, 100):
        write_negatives(files.file_of(tmp_path, version), some(version))
    for until, expected in ((4, None), (19, 5), (99, 20), (None, 100)):
        found = newest_negatives(tmp_path, until=until)
        assert (found and found.version) == expected
    assert newest_negatives(tmp_path, after=20, until=99) is None  # stale, and of the future
    torn = files.file_of(tmp_path, 100)
    torn.write_bytes(torn.read_bytes()[:-8])
    (tmp_path / "negatives-0000000300.bin.17.part").write_bytes(b"half")
    write_negatives(files.file_of(tmp_path, 200), some(3))  # a name that lies
    found = newest_negatives(tmp_path)
    assert found is not None
    assert found.version == 20
