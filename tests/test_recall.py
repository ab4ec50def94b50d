# SPDX-License-Identifier: Apache-2.0
"""Recall floors on fixed sets at a fixed width: what must not rot.

A floor is the value measured when it was set, less 0.3 points.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import bigrain
from bigrain import Index, exact_search

SLACK = 0.003
K, QUERIES = 10, 1000


def glove() -> npt.NDArray[Any]:
    sample = Path(bigrain.__file__).parent / "data" / "glove-sample.npy"
    return np.load(sample).astype(np.float32)


def clusters() -> npt.NDArray[Any]:
    """50,000 uint8 rows in 500 clusters of their own density."""
    rng = np.random.default_rng(11)
    centres, spread = rng.uniform(40, 215, (500, 48)), rng.uniform(4, 24, (500, 1))
    rows = rng.integers(0, 500, 51_000)
    noise = rng.standard_normal((len(rows), 48))
    return np.clip(np.rint(centres[rows] + spread[rows] * noise), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("builder", "name", "metric", "width", "measured"),
    [
        ("vamana", "glove", "cosine", 20, 0.973),
        ("vamana", "glove", "ip", 20, 0.967),
        ("vamana", "glove", "l2", 20, 0.96),
        ("vamana", "clusters", "l2", 10, 0.992),
        ("partitioned", "glove", "cosine", 20, 0.977),
        ("partitioned", "glove", "ip", 20, 0.965),
        ("partitioned", "glove", "l2", 20, 0.966),
        ("partitioned", "clusters", "l2", 10, 0.983),
        ("partitioned", "clusters", "l2", 20, 0.998),
    ],
)
def test_recall_stays_above_its_floor(
    builder: Any, name: str, metric: Any, width: int, measured: float
) -> None:
    vectors = glove() if name == "glove" else clusters()
    held_out = np.arange(QUERIES) * (len(vectors) // QUERIES)
    base, queries = np.delete(vectors, held_out, axis=0), vectors[held_out]
    index = Index.build(base, metric=metric, builder=builder)
    found = index.search(queries, K, width=width)
    recall = bigrain.recall(found, exact_search(base, queries, K, metric=metric))
    assert recall >= measured - SLACK


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_saved_and_opened_indexes_keep_their_recall(metric: Any, tmp_path: Path) -> None:
    base = glove()[:10_000]
    index = Index.build(base[500:], metric=metric)
    index.save(tmp_path / "index")
    with Index.open(tmp_path / "index") as opened:
        before, after = index.search(base[:500], K), opened.search(base[:500], K)
    assert np.array_equal(before.ids, after.ids)
    assert np.array_equal(before.distances, after.distances)
