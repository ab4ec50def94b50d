# SPDX-License-Identifier: Apache-2.0
"""The two ways to build, and which one "auto" takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import METRICS, make_vectors

import bigrain
from bigrain import Index, exact_search


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("builder", ["vamana", "partitioned"])
def test_both_find_neighbours_and_ignore_threads(builder: Any, metric: Any) -> None:
    vectors = make_vectors(5_200, 24)
    base, queries = vectors[:5_000], vectors[5_000:]
    index = Index.build(base, metric=metric, builder=builder, threads=1)
    assert index.validate().ok
    found = index.search(queries, 10, width=100)
    assert bigrain.recall(found, exact_search(base, queries, 10, metric=metric)) > 0.97
    again = Index.build(base, metric=metric, builder=builder, threads=3)
    assert np.array_equal(again._opened().graph(), index._opened().graph())


@pytest.mark.parametrize(
    ("rows", "dim", "taken"),
    [
        (4_095, 8, "vamana"),
        (4_096, 8, "partitioned"),
        (5_000, 2, "vamana"),
        (5_000, 3, "partitioned"),
    ],
)
def test_auto_goes_by_the_number_of_vectors(rows: int, dim: int, taken: Any) -> None:
    vectors = make_vectors(rows, dim)
    auto = Index.build(vectors, degree=8)._opened().graph()
    assert np.array_equal(auto, Index.build(vectors, degree=8, builder=taken)._opened().graph())


def test_build_width_sets_how_far_candidates_are_sought() -> None:
    vectors = make_vectors(6_000, 16)
    graphs = [
        Index.build(vectors, builder="partitioned", build_width=width)._opened().graph()
        for width in (24, 128)
    ]
    assert not np.array_equal(*graphs)


def test_other_builders_are_refused() -> None:
    with pytest.raises(ValueError, match=r"builder: expected one of .*, found 'hnsw'"):
        Index.build(make_vectors(10, 4), builder="hnsw")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"builder: expected one of .*, found 3"):
        Index.build(make_vectors(10, 4), builder=3)  # type: ignore[arg-type]
