# SPDX-License-Identifier: Apache-2.0
"""Properties that hold for every small set: what search, ids and files may never do."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from conftest import DTYPES, METRICS, assert_same
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import bigrain
from bigrain import Index

# Distances of graph search and exact search come from the same kernels; their sums may differ in
# the last bits.
TOLERANCE = 1e-5


@st.composite
def small_sets(draw: st.DrawFn, min_points: int = 0) -> tuple[Any, Any, str]:
    """(base, queries, metric) of up to 60 points in up to 40 dimensions, duplicates included."""
    dtype, metric = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(METRICS))
    dim = draw(st.integers(1, 40))
    if dtype.startswith("float"):
        # Halves are exact in float16, and products of them in float32.
        elements: Any = st.integers(-100, 100).map(lambda value: value / 2)
    else:
        info = np.iinfo(dtype)
        elements = st.integers(int(info.min), int(info.max))

    def matrix(least: int, most: int) -> Any:
        rows = st.integers(least, most).flatmap(
            lambda n: hnp.arrays(dtype, (n, dim), elements=elements)
        )
        array = draw(rows)
        if metric == "cosine" and len(array):
            array[~array.any(axis=1), 0] = 1
        return array

    return matrix(min_points, 60), matrix(1, 4), metric


@given(small_sets(), st.integers(1, 12), st.integers(0, 3))
def test_wide_search_is_exact(sets: tuple[Any, Any, str], k: int, seed: int) -> None:
    base, asked, metric = sets
    index = Index.build(base, metric=metric, degree=8, build_width=16, seed=seed, threads=1)
    n = max(len(base), k)
    found = index.search(asked, k, width=n, rerank=n, threads=1)
    truth = bigrain.exact_search(base, asked, k, metric=metric, threads=1)
    np.testing.assert_allclose(found.distances, truth.distances, rtol=TOLERANCE, atol=TOLERANCE)
    assert not np.isnan(found.distances).any()
    for row in found.ids:
        real = row[row >= 0]
        assert len(real) == len(set(real)) == min(k, len(base))
        assert (real < len(base)).all()
    assert index.validate().ok


@given(small_sets(min_points=1), st.data())
def test_ids_only_rename(sets: tuple[Any, Any, str], data: st.DataObject) -> None:
    base, asked, metric = sets
    ids = data.draw(
        st.lists(st.integers(0, 2**63 - 1), min_size=len(base), max_size=len(base), unique=True)
    )
    plain = Index.build(base, metric=metric, degree=8, build_width=16, threads=1)
    named = Index.build(base, ids, metric=metric, degree=8, build_width=16, threads=1)
    expected, found = plain.search(asked, 5, threads=1), named.search(asked, 5, threads=1)
    lookup = np.array([*ids, -1], np.int64)
    np.testing.assert_array_equal(found.ids, lookup[expected.ids])
    assert found.distances.tobytes() == expected.distances.tobytes()
    assert all(one in named for one in ids)


@settings(max_examples=50)
@given(small_sets(), st.integers(0, 2**64 - 1))
def test_saved_opened_and_pickled_are_the_same(sets: tuple[Any, Any, str], seed: int) -> None:
    base, asked, metric = sets
    index = Index.build(base, metric=metric, degree=6, seed=seed, threads=1)
    expected = index.search(asked, 4, threads=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        index.save(path)
        data = path.read_bytes()
        opened = Index.open(path)
    loaded = pickle.loads(pickle.dumps(index))
    for other in (opened, loaded):
        assert_same(other.search(asked, 4, threads=1), expected)
        assert other.__reduce__()[1][0] == data
        assert other.stats() == index.stats()


@settings(max_examples=50)
@given(small_sets(), st.sampled_from([2, 3, 7]))
def test_threads_never_change_the_bytes(sets: tuple[Any, Any, str], threads: int) -> None:
    base, _, metric = sets
    one = Index.build(base, metric=metric, degree=6, threads=1)
    many = Index.build(base, metric=metric, degree=6, threads=threads)
    assert one.__reduce__()[1] == many.__reduce__()[1]


@given(small_sets(min_points=1), st.integers(1, 80), st.integers(1, 80))
def test_any_width_gives_distinct_sorted_real_results(
    sets: tuple[Any, Any, str], k: int, extra: int
) -> None:
    base, asked, metric = sets
    index = Index.build(base, metric=metric, degree=4, build_width=8, threads=1)
    found = index.search(asked, k, width=k + extra, threads=1)
    for ids, distances in zip(*found, strict=True):
        real = ids >= 0
        assert real.sum() == min(k, len(base))
        assert len(set(ids[real])) == real.sum()
        assert (np.diff(distances[real]) >= 0).all()
        assert np.isposinf(distances[~real]).all()
