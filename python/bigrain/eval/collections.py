# SPDX-License-Identifier: Apache-2.0
"""Judged collections: BEIR folders, JSON lines and tab-separated texts, plain or gzipped.

Ids stay strings, as TREC and BEIR have them, and become int64 rows once, here: whatever is trained,
indexed or measured later speaks of rows of `documents` and `queries`.
"""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

StrPath: TypeAlias = str | os.PathLike[str]
# One mapping per query: document (row or id) to grade; above 0 is relevant.
Judgements: TypeAlias = Sequence[Mapping[int, float]]

ID_FIELDS = ("_id", "id", "docid", "doc_id", "query_id", "qid")
TEXT_FIELDS = ("text", "contents", "query", "query_text", "body")


@dataclass(frozen=True)
class Collection:
    """Texts and judgements; `qrels[i]` maps rows of `documents` to the grades of query `i`.

    `document_ids` and `query_ids` are the strings that the files use, in the same order.
    """

    documents: list[str]
    queries: list[str]
    qrels: list[dict[int, float]]
    document_ids: list[str]
    query_ids: list[str]

    def take(self, rows: Sequence[int] | npt.NDArray[np.int64] | slice) -> Collection:
        """Return the collection with these queries only, in this order; documents all stay."""
        chosen = np.arange(len(self.queries))[rows]
        return Collection(
            self.documents,
            [self.queries[i] for i in chosen],
            [self.qrels[i] for i in chosen],
            self.document_ids,
            [self.query_ids[i] for i in chosen],
        )


def open_text(path: StrPath) -> io.TextIOBase:
    """Open UTF-8 text for reading, through gzip where the name ends in .gz."""
    if str(path).endswith(".gz"):
        return io.TextIOWrapper(gzip.open(path, "rb"), encoding="utf-8")
    return open(path, encoding="utf-8")


def read_jsonl(path: StrPath) -> Iterator[dict[str, Any]]:
    """Yield one object per line.

    Raises:
        ValueError: a line that is not a JSON object; its number is named.
    """
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}:{number}: expected JSON, {error}") from None
            if not isinstance(row, dict):
                raise ValueError(f"{path}:{number}: expected a JSON object, found {row!r:.60}")
            yield row


def field(row: Mapping[str, Any], names: Sequence[str], where: str) -> Any:
    """Return the first of `names` that the row has; a ValueError names `where`."""
    for name in names:
        if name in row:
            return row[name]
    raise ValueError(f"{where}: expected one of the fields {list(names)}, found {list(row)}")


def read_texts(path: StrPath, *, title: bool = True) -> tuple[list[str], list[str]]:
    """Return ids and texts of a corpus or of queries: BEIR's or tevatron's JSON lines, or TSV.

    Args:
        path: `.jsonl` with an id and a text (names: `ID_FIELDS`, `TEXT_FIELDS`), or `.tsv` with
            `id<tab>text` or `id<tab>title<tab>text`; either may end in `.gz`.
        title: put the title, where there is one, in front of the text.
    """
    ids: list[str] = []
    texts: list[str] = []
    if str(path).removesuffix(".gz").endswith(".tsv"):
        rows: Iterator[tuple[str, str, str]] = _tsv_texts(path)
    else:
        rows = _jsonl_texts(path)
    for id_, head, text in rows:
        ids.append(id_)
        texts.append(f"{head} {text}".strip() if title and head else text)
    return ids, texts


def _tsv_texts(path: StrPath) -> Iterator[tuple[str, str, str]]:
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            cells = line.rstrip("\r\n").split("\t")
            if not 2 <= len(cells) <= 3:
                raise ValueError(f"{path}:{number}: expected 2 or 3 cells, found {len(cells)}")
            yield cells[0], cells[1] if len(cells) == 3 else "", cells[-1]


def _jsonl_texts(path: StrPath) -> Iterator[tuple[str, str, str]]:
    for number, row in enumerate(read_jsonl(path), 1):
        where = f"{path}, object {number}"
        text = field(row, TEXT_FIELDS, where)
        yield str(field(row, ID_FIELDS, where)), str(row.get("title") or ""), str(text)


@dataclass(frozen=True)
class Group:
    """A training query with rows of the documents that answer it, and of some that do not."""

    query: str
    positives: list[int]
    negatives: list[int]


def read_tevatron(path: StrPath, corpus: StrPath | None = None) -> tuple[list[str], list[Group]]:
    """Return documents and groups of tevatron's training files.

    Args:
        path: JSON lines with `query` or `query_text`, and `positive_passages` and
            `negative_passages`, lists of `{docid, title, text}`, or `positive_document_ids` and
            `negative_document_ids`, which need `corpus`.
        corpus: texts by id, as `read_texts` takes them.

    A document that is both is positive.

    Raises:
        ValueError: an id that is not in the corpus, a missing field.
    """
    ids, documents = ([], []) if corpus is None else read_texts(corpus)
    places = index_ids(ids, str(corpus))
    groups = []
    for number, row in enumerate(read_jsonl(path), 1):
        where = f"{path}, object {number}"
        sides = []
        for side in ("positive", "negative"):
            for passage in row.get(f"{side}_passages") or ():
                if str(passage["docid"]) not in places:
                    places[str(passage["docid"])] = len(documents)
                    head = passage.get("title") or ""
                    documents.append(f"{head} {passage['text']}".strip())
            passages = [str(passage["docid"]) for passage in row.get(f"{side}_passages") or ()]
            named = passages + [str(id_) for id_ in row.get(f"{side}_document_ids") or ()]
            if unknown := [id_ for id_ in named if id_ not in places]:
                raise ValueError(f"{where}: document {unknown[0]!r} is not in the corpus")
            sides.append([places[id_] for id_ in named])
        negatives = [place for place in sides[1] if place not in sides[0]]
        groups.append(Group(str(field(row, ("query", "query_text"), where)), sides[0], negatives))
    return documents, groups


def find(folder: StrPath, *stems: str) -> Path:
    """Return the first of folder/stem that exists, plain or gzipped."""
    for stem in stems:
        for name in (stem, stem + ".gz"):
            if (path := Path(folder) / name).is_file():
                return path
    raise FileNotFoundError(f"{folder}: expected one of {list(stems)}, plain or with .gz")


def index_ids(ids: Sequence[str], where: str) -> dict[str, int]:
    """Return each id's row; a ValueError names the first id that comes twice."""
    rows = {id_: row for row, id_ in enumerate(ids)}
    if len(rows) < len(ids):
        twice = next(id_ for row, id_ in enumerate(ids) if rows[id_] != row)
        raise ValueError(f"{where}: id {twice!r} comes twice; ids must be unique")
    return rows


def read_beir(folder: StrPath, split: str | None = None, *, title: bool = True) -> Collection:
    """Read a BEIR folder.

    Args:
        folder: has `corpus.jsonl`, `queries.jsonl` and judgements, each plain or gzipped.
        split: judgements of `qrels/SPLIT.tsv` or `qrels-SPLIT.tsv`, with the queries of
            `queries-SPLIT.jsonl` where there is one; only judged queries are kept. None:
            `qrels.tsv` and every query, in the file's order.
        title: put titles in front of the texts.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: broken lines, ids that come twice, judgements of unknown ids.
    """
    from bigrain.eval.trec import read_qrels  # it uses open_text from here

    documents = find(folder, "corpus.jsonl", "collection.jsonl", "corpus.tsv")
    names = ["queries.jsonl", "queries.tsv"]
    judged = ["qrels.tsv"]
    if split is not None:
        names.insert(0, f"queries-{split}.jsonl")
        judged = [f"qrels/{split}.tsv", f"qrels-{split}.tsv"]
    document_ids, texts = read_texts(documents, title=title)
    query_ids, queries = read_texts(find(folder, *names))
    path = find(folder, *judged)
    qrels = to_rows(read_qrels(path), query_ids, document_ids, str(path))
    collection = Collection(texts, queries, qrels, document_ids, query_ids)
    if split is None:
        return collection
    return collection.take([row for row, grades in enumerate(qrels) if grades])


def to_rows(
    qrels: Mapping[str, Mapping[str, float]],
    query_ids: Sequence[str],
    document_ids: Sequence[str],
    where: str = "qrels",
) -> list[dict[int, float]]:
    """Turn judgements by string ids into one dict per query, from document row to grade.

    Raises:
        ValueError: a judgement names an id that is not there.
    """
    rows = index_ids(query_ids, "query ids")
    columns = index_ids(document_ids, "document ids")
    found: list[dict[int, float]] = [{} for _ in query_ids]
    for query, grades in qrels.items():
        if query not in rows:
            raise ValueError(f"{where}: query {query!r} is not among the {len(rows)} queries")
        for document, grade in grades.items():
            if document not in columns:
                raise ValueError(
                    f"{where}: document {document!r} of query {query!r} is not among the "
                    f"{len(columns)} documents"
                )
            found[rows[query]][columns[document]] = grade
    return found


def duplicate_groups(items: Any) -> npt.NDArray[np.int64]:
    """Label equal items alike: (N,) int64, the first row that holds the same.

    Args:
        items: N texts, compared without case and runs of white space, or (N, d) vectors, compared
            exactly.
    """
    if hasattr(items, "shape"):
        rows = np.ascontiguousarray(items)
        keys: list[Any] = [row.tobytes() for row in rows]
    else:
        keys = [" ".join(text.casefold().split()) for text in items]
    first: dict[Any, int] = {}
    return np.array([first.setdefault(key, row) for row, key in enumerate(keys)], np.int64)
