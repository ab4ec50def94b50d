# SPDX-License-Identifier: Apache-2.0
"""Embedding-based recall: compact codes decide where to look, full vectors decide the answer."""

from bigrain._core import Cancelled, CorruptIndexError, __version__
from bigrain._exact import exact_search, recall
from bigrain._plan import CodeTrial, Plan, TunedCurve
from bigrain._results import (
    CurvePoint,
    DetailedResult,
    MultiResult,
    SearchResult,
    SearchStats,
    TuneReport,
    ValidationReport,
)
from bigrain.index import Index

__all__ = [
    "Cancelled",
    "CodeTrial",
    "CorruptIndexError",
    "CurvePoint",
    "DetailedResult",
    "Index",
    "MultiResult",
    "Plan",
    "SearchResult",
    "SearchStats",
    "TuneReport",
    "TunedCurve",
    "ValidationReport",
    "__version__",
    "exact_search",
    "recall",
]
