# SPDX-License-Identifier: Apache-2.0
"""TREC's files: judgements (qrels) and rankings (runs), read and written.

A qrels line is `query iteration document grade`; BEIR's is `query<tab>document<tab>grade` under a
header. A run line is `query Q0 document rank score tag`, and trec_eval goes by the score, never by
the rank column.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bigrain.eval.collections import StrPath, open_text

Qrels = dict[str, dict[str, float]]


def read_qrels(path: StrPath) -> Qrels:
    """Return grades by query id and document id, of TREC's four columns or BEIR's three.

    Raises:
        ValueError: a line of another shape, or two grades for one pair; its number is named.
    """
    qrels: Qrels = {}
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            cells = line.rstrip("\r\n").split("\t") if line.count("\t") >= 2 else line.split()
            if not cells or (number == 1 and cells[-1] in {"score", "grade", "relevance"}):
                continue
            if len(cells) not in {3, 4}:
                raise ValueError(
                    f"{path}:{number}: expected `query document grade` or `query 0 document "
                    f"grade`, found {len(cells)} cells"
                )
            query, document = cells[0], cells[-2]
            grade = _number(cells[-1], f"{path}:{number}: grade")
            if qrels.setdefault(query, {}).setdefault(document, grade) != grade:
                raise ValueError(f"{path}:{number}: {query} {document} has two grades")
    return qrels


def write_qrels(path: StrPath, qrels: Mapping[str, Mapping[str, float]]) -> None:
    """Write TREC's four columns; grades that are whole numbers are written as such."""
    with open(path, "w", encoding="utf-8") as file:
        for query, grades in qrels.items():
            for document, grade in grades.items():
                file.write(f"{_word(query)} 0 {_word(document)} {grade:g}\n")


def read_run(path: StrPath) -> dict[str, dict[str, float]]:
    """Return scores by query id and document id, best first.

    Raises:
        ValueError: a line that has not six columns, or a document twice for one query.
    """
    run: dict[str, dict[str, float]] = {}
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            cells = line.split()
            if not cells:
                continue
            if len(cells) != 6:
                raise ValueError(
                    f"{path}:{number}: expected `query Q0 document rank score tag`, found "
                    f"{len(cells)} cells"
                )
            scores = run.setdefault(cells[0], {})
            if cells[2] in scores:
                raise ValueError(f"{path}:{number}: {cells[0]} has document {cells[2]} twice")
            scores[cells[2]] = _number(cells[4], f"{path}:{number}: score")
    return {query: dict(sorted(s.items(), key=lambda d: (-d[1], d[0]))) for query, s in run.items()}


def write_run(
    path: StrPath,
    ids: npt.NDArray[np.int64],
    scores: npt.NDArray[Any],
    query_ids: Sequence[str],
    document_ids: Sequence[str],
    tag: str = "bigrain",
) -> None:
    """Write rankings as a run file.

    Args:
        path: the file.
        ids: (n, k) int64 rows of `document_ids`, best first, -1 pads.
        scores: (n, k), larger is better; of an index pass minus its distances.
        query_ids: n strings.
        document_ids: of the documents' rows.
        tag: last column.

    Raises:
        ValueError: shapes that do not fit, scores that rise along a row.
    """
    if ids.shape != scores.shape or len(ids) != len(query_ids):
        raise ValueError(
            f"scores: expected the shape of ids and one row per query id, found {scores.shape}, "
            f"{ids.shape} and {len(query_ids)} query ids"
        )
    with open(path, "w", encoding="utf-8") as file:
        for query, row, values in zip(query_ids, ids, scores, strict=True):
            kept = row >= 0
            if np.any(np.diff(values[kept]) > 0):
                raise ValueError(
                    f"scores: expected best first, found a rise for query {query!r}; pass minus "
                    "the distances"
                )
            for rank, (id_, score) in enumerate(zip(row[kept], values[kept], strict=True), 1):
                name = _word(document_ids[id_])
                file.write(f"{_word(query)} Q0 {name} {rank} {float(score)!r} {tag}\n")


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise ValueError(f"{where}: expected a number, found {text!r}")
    return value


def _word(id_: str) -> str:
    if not id_ or id_.split() != [id_]:
        raise ValueError(f"ids: a TREC file cannot hold the id {id_!r}: empty, or with white space")
    return id_
