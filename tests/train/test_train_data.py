# SPDX-License-Identifier: Apache-2.0
"""Training sets from collections, columns and JSON lines; refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bigrain.eval.collections import Collection  # noqa: E402
from bigrain.train.data import TrainingSet  # noqa: E402


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_collection_gives_a_row_per_relevant_document() -> None:
    qrels = [{0: 1.0, 2: 2.0, 1: 0.0}, {}, {1: 1.0}]
    collection = Collection(list("abc"), ["q", "r", "s"], qrels, list("123"), list("456"))
    data = TrainingSet.from_collection(collection)
    assert data.queries == ["q", "q", "s"]
    np.testing.assert_array_equal(data.positives, [0, 2, 1])
    np.testing.assert_array_equal(data.query_ids(), [0, 0, 1])
    assert TrainingSet.from_collection(collection, grade=2).queries == ["q"]
    with pytest.raises(ValueError, match="no document is judged 3 or more"):
        TrainingSet.from_collection(collection, grade=3)


def test_columns_share_documents_and_pad() -> None:
    columns: dict[str, Any] = {
        "anchor": ["q1", "q2"],
        "positive": ["a", "b"],
        "negative_1": ["b", "c"],
        "negative_2": ["c", None],
        "scores": [[3, 2, 1], [3, 2, float("nan")]],
    }
    data = TrainingSet.from_columns(columns)
    assert data.documents == ["a", "b", "c"]
    assert data.negatives is not None
    assert data.scores is not None
    np.testing.assert_array_equal(data.negatives, [[1, 2], [2, -1]])
    assert data.scores.dtype == np.float32
    assert data.take([1]).scores is not None
    np.testing.assert_array_equal(data.take([1]).negatives, [[2, -1]])
    pairs = TrainingSet.from_columns({"query": ["q"], "positive": ["a"], "score": [0.5]})
    assert pairs.scores is not None
    assert pairs.scores.shape == (1, 1)
    assert pairs.negatives is None
    with pytest.raises(ValueError, match="expected query, positive"):
        TrainingSet.from_columns(columns | {"label": [1, 1]})
    with pytest.raises(ValueError, match="lengths differ"):
        TrainingSet.from_columns(columns | {"positive": ["a"]})


def test_json_lines_of_columns_and_of_tevatron(tmp_path: Path) -> None:
    rows: list[Any] = [{"query": "q", "positive": "a", "negative_1": "b"}]
    data = TrainingSet.from_jsonl(write_lines(tmp_path / "a", rows))
    assert (data.queries, data.documents) == (["q"], ["a", "b"])
    passages = [{"docid": 5, "title": "T", "text": "x"}, {"docid": 6, "text": "y"}]
    rows = [
        {"query_id": 1, "query": "q", "positive_passages": passages[:1],
         "negative_passages": passages[1:]},
        {"query_id": 2, "query": "r", "positive_passages": passages, "negative_passages": []},
    ]  # fmt: skip
    data = TrainingSet.from_jsonl(write_lines(tmp_path / "b", rows))
    assert data.documents == ["T x", "y"]
    assert data.queries == ["q", "r", "r"]
    np.testing.assert_array_equal(data.positives, [0, 0, 1])
    np.testing.assert_array_equal(data.negatives, [[1], [-1], [-1]])
    corpus = write_lines(tmp_path / "c", [{"docid": i, "text": f"t{i}"} for i in range(3)])
    rows = [{"query_text": "q", "positive_document_ids": ["2"], "negative_document_ids": [0, 1]}]
    data = TrainingSet.from_jsonl(write_lines(tmp_path / "d", rows), corpus)
    np.testing.assert_array_equal(data.positives, [2])
    np.testing.assert_array_equal(data.negatives, [[0, 1]])
    with pytest.raises(ValueError, match="'2' is not in the corpus"):
        TrainingSet.from_jsonl(tmp_path / "d")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positives": [0, 2]}, "positives: expected rows 0 to 1, found 0 to 2"),
        ({"positives": [0, -1]}, "positives: expected rows 0 to 1, found -1 to 0"),
        ({"positives": [0]}, r"positives: expected shape \(2,\)"),
        ({"negatives": [[1], [1]]}, "row 1 has its own positive"),
        ({"negatives": [1, 0]}, r"negatives: expected shape \(2, H\)"),
        ({"negatives": [[1], [-2]]}, "negatives: expected rows -1 to 1"),
        ({"scores": [[1.0], [2.0]]}, r"scores: expected shape \(2, 2\)"),
        ({"scores": [[1, np.nan], [1, 2]]}, "scores: expected finite"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    arrays: dict[str, Any] = {"positives": [0, 1], "negatives": [[1], [0]]}
    arrays = {name: np.array(value) for name, value in (arrays | change).items()}
    with pytest.raises(ValueError, match=message):
        TrainingSet(["q", "r"], ["a", "b"], **arrays)
    with pytest.raises(TypeError, match="dtype float64"):
        TrainingSet(["q"], ["a"], np.array([0.0]))
