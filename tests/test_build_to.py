# SPDX-License-Identifier: Apache-2.0
"""Builds in a budget of memory: the same answers, the same bytes, whatever interrupts them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from children import exit_code_of, in_child
from conftest import make_vectors

import bigrain
from bigrain import Cancelled, Index
from bigrain.writers import write_vectors

AMPLE, TIGHT = "200MiB", "2MiB"
OPTIONS: dict[str, Any] = {"degree": 16, "pq_bytes": 0, "threads": 1}


@pytest.fixture(scope="module")
def base() -> np.ndarray[Any, np.dtype[np.float32]]:
    return make_vectors(9_000, 24)


def left_in(folder: Path) -> set[str]:
    return set(os.listdir(folder))


def in_blocks(rows: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    for start in range(0, len(rows), 1_000):
        yield rows[start : start + 1_000]


def test_ample_memory_gives_the_file_of_build(base: Any, tmp_path: Path) -> None:
    expected = tmp_path / "expected"
    Index.build(base, **OPTIONS).save(expected)
    np.save(tmp_path / "x.npy", base)
    write_vectors(tmp_path / "x.fbin", base)
    write_vectors(tmp_path / "x.fvecs", base)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for vectors in (
        tmp_path / "x.npy",
        str(tmp_path / "x.fbin"),
        tmp_path / "x.fvecs",
        mapped,
        base,
        in_blocks(base),
        base.astype(np.float64),
    ):
        path = tmp_path / "index"
        size = Index.build_to(path, vectors, memory=AMPLE, **OPTIONS)
        assert path.read_bytes() == expected.read_bytes()
        assert size == path.stat().st_size
        path.unlink()
        assert left_in(tmp_path) == {"expected", "x.npy", "x.fbin", "x.fvecs"}


def test_views_of_mapped_arrays_are_read_where_they_are(base: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", base)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for part in (mapped[100:3_000], mapped[::2], mapped[:, 4:20]):
        Index.build_to(tmp_path / "index", part, memory=AMPLE, **OPTIONS)
        expected = Index.build(part, **OPTIONS)
        expected.save(tmp_path / "expected")
        assert (tmp_path / "index").read_bytes() == (tmp_path / "expected").read_bytes()


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_shards_find_what_build_finds(metric: str, dtype: str, tmp_path: Path) -> None:
    base = make_vectors(9_000, 24, dtype)
    queries = make_vectors(200, 24, dtype, seed=1)
    if dtype == "float16":
        queries = queries.astype(np.float32)
    truth = bigrain.exact_search(base, queries, 10, metric=metric)
    whole = Index.build(base, metric=metric, **OPTIONS)
    Index.build_to(tmp_path / "x", base, memory=TIGHT, metric=metric, **OPTIONS)
    merged = Index.open(tmp_path / "x")
    assert merged.validate().ok
    # Normal points, which have no clusters at all, in shards of 1,500: the hardest case.
    for width in (20, 40):
        found = bigrain.recall(merged.search(queries, 10, width=width), truth)
        assert found > bigrain.recall(whole.search(queries, 10, width=width), truth) - 0.04


def test_ids_and_pq_codes(base: Any, tmp_path: Path) -> None:
    ids = np.arange(len(base)) * 3 + 1
    Index.build_to(tmp_path / "x", base, ids, memory=TIGHT, **OPTIONS | {"pq_bytes": 12})
    with Index.open(tmp_path / "x") as index:
        expected = index.search(base[:100], 5, width=60)
        assert (expected.ids[:, 0] == ids[:100]).mean() > 0.98
    with Index.open(tmp_path / "x", memory="min") as index:
        found = index.search(base[:100], 5, width=60)
        assert (found.ids[:, 0] == ids[:100]).mean() > 0.98


def test_a_killed_build_goes_on(base: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", base)
    start = time.perf_counter()
    Index.build_to(tmp_path / "expected", tmp_path / "x.npy", memory=TIGHT, **OPTIONS)
    seconds = time.perf_counter() - start
    expected = (tmp_path / "expected").read_bytes()
    path = tmp_path / "index"
    rng = random.Random(3)
    killed = 0
    for _ in range(8):
        child = in_child(
            lambda: void(Index.build_to(path, tmp_path / "x.npy", memory=TIGHT, **OPTIONS))
        )
        time.sleep(rng.random() * seconds)
        os.kill(child, signal.SIGKILL)
        killed += exit_code_of(child) == -signal.SIGKILL
        if path.exists():
            assert path.read_bytes() == expected
            path.unlink()
    Index.build_to(path, tmp_path / "x.npy", memory=TIGHT, **OPTIONS)
    assert killed >= 2
    assert path.read_bytes() == expected
    assert left_in(tmp_path) == {"x.npy", "expected", "index"}


def void(_: object) -> None:
    """Children return nothing."""


def test_cancelled_and_with_other_vectors(base: Any, tmp_path: Path) -> None:
    path = tmp_path / "index"

    def stop(done: int, total: int) -> bool:
        return done < total // 2

    build: Callable[..., int] = Index.build_to
    with pytest.raises(Cancelled):
        build(path, in_blocks(base), memory=TIGHT, progress=stop, **OPTIONS)
    assert left_in(tmp_path) == {
        ".index.build",
        ".index.build.vectors",
        ".index.build.vectors.json",
    }
    with pytest.raises(ValueError, match="these are others"):
        build(path, in_blocks(base[::-1]), memory=TIGHT, **OPTIONS)
    with pytest.raises(ValueError, match="metric = l2, this one has metric = ip"):
        build(path, in_blocks(base), memory=TIGHT, metric="ip", **OPTIONS)
    build(path, in_blocks(base), memory=TIGHT, **OPTIONS)
    assert left_in(tmp_path) == {"index"}


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (iter([]), "no block came"),
        (iter([np.ones((2, 3)), np.ones((2, 4))]), "block at row 2"),
        (np.full((5, 3), np.nan), "row 0 contains NaN"),
    ],
)
def test_vectors_that_are_refused(vectors: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        Index.build_to(tmp_path / "x", vectors, memory=AMPLE)


def test_a_row_of_a_file_that_is_refused(base: Any, tmp_path: Path) -> None:
    bad = base.copy()
    bad[7_000, 3] = np.inf
    np.save(tmp_path / "x.npy", bad)
    with pytest.raises(ValueError, match="row 7000"):
        Index.build_to(tmp_path / "x", tmp_path / "x.npy", memory=TIGHT)


def test_too_little_memory(base: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="memory: got 1000 bytes"):
        Index.build_to(tmp_path / "x", base, memory=1_000)
    assert Index.build_to(tmp_path / "x", base, memory="min", **OPTIONS) > 0


def test_no_vectors(tmp_path: Path) -> None:
    Index.build_to(tmp_path / "x", np.empty((0, 8), np.float32))
    assert len(Index.open(tmp_path / "x")) == 0


PEAK = """
import sys, bigrain
def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) << 10
before = peak()
bigrain.Index.build_to(sys.argv[1] + "/x", sys.argv[1] + "/x.npy", memory=int(sys.argv[2]))
print(peak() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's /proc")
def test_memory_stays_within_the_budget(tmp_path: Path) -> None:
    base = make_vectors(120_000, 96)
    np.save(tmp_path / "x.npy", base)
    budget = base.nbytes // 4
    child = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path), str(budget)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(child.stdout) < budget + (64 << 20)
