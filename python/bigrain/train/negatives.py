# SPDX-License-Identifier: Apache-2.0
"""Hard negatives: mined through an index, kept in files, refreshed while a model trains."""

from bigrain.train._mining import (
    BM25,
    Exact,
    Mined,
    duplicate_groups,
    known_positives,
    mine,
    mine_bm25,
)
from bigrain.train._negatives_file import (
    CorruptNegativesError,
    Negatives,
    newest_negatives,
    read_negatives,
    write_negatives,
)
from bigrain.train._refresh import AnceRefresher

__all__ = [
    "BM25",
    "AnceRefresher",
    "CorruptNegativesError",
    "Exact",
    "Mined",
    "Negatives",
    "duplicate_groups",
    "known_positives",
    "mine",
    "mine_bm25",
    "newest_negatives",
    "read_negatives",
    "write_negatives",
]
