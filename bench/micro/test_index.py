# SPDX-License-Identifier: Apache-2.0
"""Build, search, save and open, on one thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bigrain import Index

ROWS, QUERIES = 10_000, 200


@pytest.fixture(scope="module")
def index(vectors: Any) -> Index:
    return Index.build(vectors(ROWS, 100), metric="cosine")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dim", [100, 384])
def test_build(benchmark: Any, vectors: Any, dim: int, threads: int) -> None:
    base = vectors(ROWS, dim)
    benchmark.group = f"build, d={dim}"
    benchmark.pedantic(Index.build, args=(base,), kwargs={"threads": threads}, rounds=3)


@pytest.mark.parametrize("width", [16, 64, 256])
def test_search_batch(benchmark: Any, index: Index, vectors: Any, width: int) -> None:
    queries = vectors(QUERIES, 100)
    benchmark.group = "search, one batch"
    found = benchmark(index.search, queries, 10, width=width, threads=1)
    assert (found.ids >= 0).all()


def test_search_one_query(benchmark: Any, index: Index, vectors: Any) -> None:
    query = vectors(1, 100)[0]
    benchmark.group = "search, one query"
    benchmark(index.search, query, 10, width=64, threads=1)


def test_save(benchmark: Any, index: Index, tmp_path: Path) -> None:
    benchmark.group = "files"
    benchmark(index.save, tmp_path / "x.bigrain")


@pytest.mark.parametrize("verify", ["full", "header"])
def test_open(benchmark: Any, index: Index, tmp_path: Path, verify: str) -> None:
    index.save(tmp_path / "x.bigrain")
    benchmark.group = "files"
    benchmark(Index.open, tmp_path / "x.bigrain", verify=verify)
