# SPDX-License-Identifier: Apache-2.0
"""What an index is measured against: exact search and BM25, with the interface of an index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bigrain._exact import exact_search
from bigrain._results import SearchResult


class Exact:
    """Exact search of vectors.

    Args:
        vectors: (N, d) float32; row numbers are the ids.
        metric: "ip", "cosine" or "l2".
    """

    def __init__(self, vectors: Any, metric: Any = "ip") -> None:
        self.vectors, self.metric = vectors, metric

    def search(self, queries: Any, k: int, **options: Any) -> SearchResult:
        """Return ids and distances, (rows, k) each, nearest first."""
        return exact_search(self.vectors, queries, k, metric=self.metric, **options)


class BM25:
    """BM25 of texts (bm25s, Lucene's variant: k1=1.5, b=.75)."""

    metric = "ip"  # distances are negated scores

    def __init__(self, documents: Sequence[str]) -> None:
        import bm25s

        self._bm25s, self._count = bm25s, len(documents)
        self._model = bm25s.BM25()
        self._model.index(self._tokens(documents), show_progress=False)

    def _tokens(self, texts: Sequence[str]) -> Any:
        return self._bm25s.tokenize(list(texts), return_ids=False, show_progress=False)

    def search(self, queries: Sequence[str], k: int) -> SearchResult:
        """Return ids and negated scores, (rows, k); a document that shares no word is no hit."""
        width = min(k, self._count)
        found, scores = self._model.retrieve(self._tokens(queries), k=width, show_progress=False)
        ids = np.full((len(queries), k), -1, np.int64)
        distances = np.full((len(queries), k), np.inf, np.float32)
        ids[:, :width] = np.where(scores > 0, found, -1)
        distances[:, :width] = np.where(scores > 0, -scores, np.inf)
        return SearchResult(ids, distances)
