# SPDX-License-Identifier: Apache-2.0
"""The fast layout: answers near those of the compact one, memory, files, errors."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bigrain


@pytest.fixture(scope="module")
def vectors() -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(3)
    return rng.standard_normal((5_000, 48)).astype(np.float32)


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
def test_recall_is_kept_for_fewer_codes(vectors: np.ndarray[Any, Any], metric: Any) -> None:
    base, queries = vectors[:4_800], vectors[4_800:]
    index = bigrain.Index.build(base, metric=metric, degree=48)
    truth = bigrain.exact_search(base, queries, metric=metric).ids
    recalls, codes, answers = [], [], []
    for layout in ("compact", "fast"):
        index.set_layout(layout)  # type: ignore[arg-type]
        found = index.search(queries, 10, width=100, stats=True)
        hits = [
            len(set(a) & set(b)) for a, b in zip(found.ids.tolist(), truth.tolist(), strict=True)
        ]
        recalls.append(np.mean(hits) / 10)
        codes.append(int(found.stats.code_distances.sum()))
        answers.append(found.ids)
        again = index.search(queries, 10, width=100, threads=1)
        assert np.array_equal(found.ids, again.ids)
    assert recalls[1] >= recalls[0] - 0.02
    assert codes[1] < 0.7 * codes[0]


def test_layout_is_in_memory_only(vectors: np.ndarray[Any, Any], tmp_path: Path) -> None:
    compact = bigrain.Index.build(vectors, degree=32)
    fast = bigrain.Index.build(vectors, degree=32, layout="fast")
    assert compact.stats()["bytes"]["blocks"] == 0
    assert fast.stats()["bytes"]["blocks"] == 5_000 * 320  # 128 of factors, 12 * 16
    first, second = tmp_path / "first", tmp_path / "second"
    compact.save(first)
    fast.save(second)
    assert first.read_bytes() == second.read_bytes()
    assert pickle.loads(pickle.dumps(fast)).stats()["bytes"]["blocks"] == 0
    opened = bigrain.Index.open(second, layout="fast")
    expected = fast.search(vectors[:50])
    assert np.array_equal(opened.search(vectors[:50]).ids, expected.ids)
    opened.set_layout("compact")
    assert opened.stats()["bytes"]["blocks"] == 0
    assert np.array_equal(opened.search(vectors[:50]).ids, compact.search(vectors[:50]).ids)


def test_bad_arguments(vectors: np.ndarray[Any, Any]) -> None:
    index = bigrain.Index.build(vectors[:100])
    for layout in ("quick", None, 3):
        with pytest.raises((TypeError, ValueError), match="layout"):
            index.set_layout(layout)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="layout"):
        bigrain.Index.build(vectors[:100], layout="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="threads"):
        index.set_layout("fast", threads=-1)
    with pytest.raises(bigrain.Cancelled):
        index.set_layout("fast", progress=lambda done, total: False)
    assert index.stats()["bytes"]["blocks"] == 0


def test_no_vectors() -> None:
    index = bigrain.Index.build(np.zeros((0, 4), np.float32), layout="fast")
    assert index.search(np.zeros((1, 4), np.float32)).ids.tolist() == [[-1] * 10]


def test_auto_measures_and_says_why(vectors: np.ndarray[Any, Any], tmp_path: Path) -> None:
    index = bigrain.Index.build(vectors, layout="auto")
    plan = index.plan()
    assert plan.layout == ("fast" if plan.bytes["blocks"] else "compact")
    assert "times as fast" in plan.why_layout
    assert plan.why_layout in str(plan)
    index.save(tmp_path / "x")
    assert "times as fast" in bigrain.Index.open(tmp_path / "x", layout="auto").plan().why_layout
    index.set_layout("compact")
    assert index.plan().why_layout == "as asked"
    few = bigrain.Index.build(vectors[:200], layout="auto").plan()
    assert few.layout == "compact"
    assert "200 vectors" in few.why_layout
