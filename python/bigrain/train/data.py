# SPDX-License-Identifier: Apache-2.0
"""What is trained on: queries, documents, which answers which, and optionally harder negatives.

Documents are kept once and named by their row, so that a loss can mask a document that is another
row's negative and this row's positive, a sampler can avoid duplicates, and a miner can write
nothing but int64 rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bigrain._arrays import check_rows
from bigrain._checks import check_shape, require
from bigrain.eval.collections import Collection, StrPath, read_jsonl, read_tevatron


@dataclass(frozen=True)
class TrainingSet:
    """n training rows over a set of documents.

    Attributes:
        queries: n texts; a query with several positives comes several times.
        documents: the texts that rows below count.
        positives: (n,) int64, the row in `documents` that answers each query.
        negatives: (n, H) int64 rows in `documents`, -1 pads; None without.
        scores: (n, 1 + H) float32, a teacher's scores of the positive and of the negatives.

    Raises:
        ValueError: shapes that do not fit together, rows outside `documents`, a negative that is
            its row's positive, scores that are NaN or infinite where there is a document.
    """

    queries: list[str]
    documents: list[str]
    positives: npt.NDArray[np.int64]
    negatives: npt.NDArray[np.int64] | None = None
    scores: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        n, documents = len(self.queries), len(self.documents)
        positives = check_rows(self.positives, "positives", (n,), 0, documents)
        object.__setattr__(self, "positives", positives)
        lists = positives[:, None]
        if self.negatives is not None:
            negatives = check_rows(self.negatives, "negatives", (n, "H"), -1, documents)
            if np.any(same := negatives == lists):
                raise ValueError(
                    f"negatives: row {np.argwhere(same)[0][0]} has its own positive among its "
                    "negatives; drop it or write -1"
                )
            object.__setattr__(self, "negatives", negatives)
            lists = np.concatenate([lists, negatives], axis=1)
        if self.scores is not None:
            scores = np.ascontiguousarray(self.scores, np.float32)
            check_shape(scores, "scores", *lists.shape)
            fine = np.isfinite(scores[lists >= 0]).all()
            require(fine, "scores", "finite numbers", "NaN or infinity")
            object.__setattr__(self, "scores", scores)

    def __len__(self) -> int:
        return len(self.queries)

    def query_ids(self) -> npt.NDArray[np.int64]:
        """Return (n,) int64: equal for equal query texts, to mask a query's other positives."""
        seen: dict[str, int] = {}
        return np.array([seen.setdefault(q, len(seen)) for q in self.queries], np.int64)

    def take(self, rows: Sequence[int] | npt.NDArray[np.int64] | slice) -> TrainingSet:
        """Return these training rows, in this order; documents all stay."""
        chosen = np.arange(len(self))[rows]
        given = (self.positives, self.negatives, self.scores)
        arrays: list[Any] = [None if x is None else x[chosen] for x in given]
        return TrainingSet([self.queries[i] for i in chosen], self.documents, *arrays)

    @classmethod
    def from_collection(cls, collection: Collection, *, grade: float = 1) -> TrainingSet:
        """Make one row per query and document judged `grade` or more, in the queries' order."""
        pairs = [
            (query, document)
            for query, grades in enumerate(collection.qrels)
            for document, value in grades.items()
            if value >= grade
        ]
        if not pairs:
            raise ValueError(f"collection: no document is judged {grade} or more; lower `grade`")
        queries = [collection.queries[query] for query, _ in pairs]
        return cls(queries, collection.documents, np.array([p[1] for p in pairs], np.int64))

    @classmethod
    def from_columns(cls, columns: Mapping[str, Sequence[Any]]) -> TrainingSet:
        """Make a set of the columns `query, positive, negative_1..n[, score]`.

        These are sentence-transformers' columns, `anchor` for `query` accepted. Equal document
        texts become one document. A `score` is 1 + n numbers per row, or the positive's score
        where there are no negatives; an empty or missing negative is padding.
        """
        names = [name for name in columns if name.startswith("negative")]
        first = "query" if "query" in columns else "anchor"
        known = {first, "positive", "score", "scores", *names}
        fine = {first, "positive"} <= set(columns) <= known
        expected = "query, positive, negative_1, negative_2 ..., score"
        require(fine, "columns", expected, list(columns), "rename or drop the others")
        documents: dict[str, int] = {}
        table = [_place(columns[name], documents) for name in ("positive", *names)]
        if len({len(columns[first]), *map(len, table)}) > 1:
            raise ValueError(f"columns: lengths differ: {[len(c) for c in columns.values()]}")
        rows = np.array(table, np.int64).reshape(len(table), -1).T
        given = columns.get("score", columns.get("scores"))
        scores = None if given is None else np.array(given, np.float32).reshape(len(rows), -1)
        queries, negatives = list(columns[first]), rows[:, 1:] if names else None
        return cls(queries, list(documents), rows[:, 0], negatives, scores)

    @classmethod
    def from_jsonl(cls, path: StrPath, corpus: StrPath | None = None) -> TrainingSet:
        """Read JSON lines: the columns of `from_columns`, or tevatron's.

        Args:
            path: objects with `query, positive, negative_1..n[, score]`; or `query` (`query_text`)
                with `positive_passages` and `negative_passages` (each `{docid, title, text}`), or
                with `positive_document_ids` and `negative_document_ids`, which need `corpus`.
            corpus: texts by id, as `read_texts` takes them.

        Of several positives each makes a row, with the same negatives.
        """
        rows = list(read_jsonl(path))
        require(rows, str(path), "at least one object", "none")
        if "positive" in rows[0]:
            return cls.from_columns({name: [row.get(name) for row in rows] for name in rows[0]})
        documents, groups = read_tevatron(path, corpus)
        pairs = [(group, positive) for group in groups for positive in group.positives]
        width = max((len(group.negatives) for group, _ in pairs), default=0)
        lists = [[*g.negatives, *[-1] * (width - len(g.negatives))] for g, _ in pairs]
        queries, positives = [g.query for g, _ in pairs], np.array([p for _, p in pairs], np.int64)
        return cls(queries, documents, positives, np.array(lists, np.int64) if width else None)


def _place(texts: Sequence[str | None], documents: dict[str, int]) -> list[int]:
    return [documents.setdefault(text, len(documents)) if text else -1 for text in texts]
