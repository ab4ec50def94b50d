# SPDX-License-Identifier: Apache-2.0
"""Collections, qrels, runs and training sets: what is read, and what is refused by name."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigrain.eval import collections, trec

DOCUMENTS = [("a7", "One", "first text"), ("b", "", "second"), ("c", "Three", "third")]


def write_lines(path: Path, rows: list[Any]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        with gzip.open(path, "wt", encoding="utf-8") as file:
            file.write(text)
    else:
        path.write_text(text)
    return path


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    corpus = [{"_id": i, "title": t, "text": x} for i, t, x in DOCUMENTS]
    write_lines(tmp_path / "corpus.jsonl.gz", corpus)
    queries = [{"_id": q, "text": f"query {q}"} for q in ("q1", "q2", "q3")]
    write_lines(tmp_path / "queries.jsonl", queries)
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\nq3\tb\t2\nq3\ta7\t0\nq1\tc\t1\n"
    )
    (tmp_path / "qrels.tsv").write_text("q2\tb\t1\n")
    return tmp_path


def test_beir_folder_with_and_without_a_split(beir: Path) -> None:
    test = collections.read_beir(beir, "test")
    assert test.documents == ["One first text", "second", "Three third"]
    assert (test.query_ids, test.qrels) == (["q1", "q3"], [{2: 1.0}, {1: 2.0, 0: 0.0}])
    whole = collections.read_beir(beir, title=False)
    assert whole.documents[0] == "first text"
    assert whole.queries == ["query q1", "query q2", "query q3"]
    assert whole.qrels == [{}, {1: 1.0}, {}]
    assert whole.take([1]).query_ids == ["q2"]


def test_queries_of_a_split_have_a_file_of_their_own(beir: Path) -> None:
    write_lines(beir / "queries-dev.jsonl", [{"_id": "q1", "text": "other"}])
    (beir / "qrels-dev.tsv").write_text("q1\ta7\t1\n")
    assert collections.read_beir(beir, "dev").queries == ["other"]


def test_broken_collections_are_refused_by_line_or_id(beir: Path) -> None:
    (beir / "qrels-bad.tsv").write_text("q1\tzz\t1\n")
    with pytest.raises(ValueError, match="document 'zz' of query 'q1'"):
        collections.read_beir(beir, "bad")
    (beir / "qrels-bad.tsv").write_text("q9\tb\t1\n")
    with pytest.raises(ValueError, match="query 'q9' is not among the 3"):
        collections.read_beir(beir, "bad")
    with pytest.raises(FileNotFoundError, match=r"qrels/none\.tsv"):
        collections.read_beir(beir, "none")
    (beir / "x.jsonl").write_text('{"_id": 1, "text": "a"}\n{"_id"\n')
    with pytest.raises(ValueError, match=r"x\.jsonl:2: expected JSON"):
        collections.read_texts(beir / "x.jsonl")
    (beir / "x.jsonl").write_text('{"_id": 1, "body_text": "a"}\n')
    with pytest.raises(ValueError, match=r"expected one of the fields .*found \['_id', 'body"):
        collections.read_texts(beir / "x.jsonl")
    with pytest.raises(ValueError, match="'a' comes twice"):
        collections.index_ids(["a", "b", "a"], "ids")


def test_texts_of_tsv(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("1\tTitle\ttext\n2\tonly\n")
    assert collections.read_texts(tmp_path / "t.tsv") == (["1", "2"], ["Title text", "only"])
    (tmp_path / "t.tsv").write_text("1\n")
    with pytest.raises(ValueError, match="expected 2 or 3 cells, found 1"):
        collections.read_texts(tmp_path / "t.tsv")


def test_qrels_and_runs_survive_the_way_out_and_in(tmp_path: Path) -> None:
    qrels = {"q1": {"d1": 1.0, "d2": 0.5}, "q2": {"d1": 0.0}}
    trec.write_qrels(tmp_path / "qrels", qrels)
    assert trec.read_qrels(tmp_path / "qrels") == qrels
    ids = np.array([[2, 0, -1], [1, -1, -1]])
    scores = np.array([[0.1 + 0.2, 0.1, -np.inf], [1e-30, 0, 0]])
    trec.write_run(tmp_path / "run", ids, scores, ["q1", "q2"], ["a", "b", "c"])
    run = trec.read_run(tmp_path / "run")
    assert run == {"q1": {"c": 0.1 + 0.2, "a": 0.1}, "q2": {"b": 1e-30}}
    assert list(run["q1"]) == ["c", "a"]
    assert (tmp_path / "run").read_text().startswith("q1 Q0 c 1 0.30000000000000004 bigrain\n")


def test_broken_trec_files_are_refused_by_line(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for text, message in [
        ("q 0 d 1 9\n", "x:1: expected `query document grade`"),
        ("q 0 d 1\nq 0 d 2\n", "x:2: q d has two grades"),
        ("q 0 d one\n", "x:1: grade: expected a number, found 'one'"),
    ]:
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            trec.read_qrels(path)
    for text, message in [
        ("q Q0 d 1 0.5\n", "found 5 cells"),
        ("q Q0 d 1 0.5 t\nq Q0 d 2 0.4 t\n", "document d twice"),
    ]:
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            trec.read_run(path)
    with pytest.raises(ValueError, match="found a rise"):
        trec.write_run(path, np.array([[0, 1]]), np.array([[1.0, 2.0]]), ["q"], ["a", "b"])
    with pytest.raises(ValueError, match="cannot hold the id 'a b'"):
        trec.write_qrels(path, {"a b": {"d": 1}})
