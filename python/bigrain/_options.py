# SPDX-License-Identifier: Apache-2.0
"""What `build`, `build_to` and `from_graph` have in common: their parameters, checked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bigrain import _core
from bigrain._arrays import as_queries, check_values
from bigrain._checks import (
    MAX_SEED,
    Builder,
    Metric,
    check_alpha,
    check_builder,
    check_integer,
    check_limit,
    check_metric,
    check_pq_bytes,
)


@dataclass
class BuildOptions:
    """The parameters that `Index.build` documents.

    What no vector is needed for is checked when they are put together, the rest by `core`.
    """

    metric: Metric = "l2"
    builder: Builder = "auto"
    degree: int | None = None
    build_width: int = _core.LIMITS["build_width"][1]
    alpha: float | None = None
    code_dim: int | None = None
    pq_bytes: int | Literal["auto"] = "auto"
    train_queries: Any = None
    threads: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what stands for itself."""
        self.metric = check_metric(self.metric)
        self.builder = check_builder(self.builder)
        self.degree = None if self.degree is None else check_limit(self.degree, "degree")
        self.build_width = check_limit(self.build_width, "build_width")
        self.alpha = check_alpha(self.alpha, self.metric)
        self.threads = check_limit(self.threads, "threads")
        self.seed = check_integer(self.seed, "seed", 0, MAX_SEED)

    def core(self, count: int, dim: int, dtype: np.dtype[Any]) -> _core.BuildParams:
        """Return them as the core takes them, for `count` vectors of `dim` numbers of `dtype`."""
        code_dim = self.code_dim
        asked = None
        if self.train_queries is not None:
            asked, _ = as_queries(self.train_queries, dim, dtype)
            check_values(asked, self.metric, "train_queries")
        return _core.BuildParams(
            metric=self.metric,
            builder=self.builder,
            degree=self.degree or 0,
            build_width=self.build_width,
            alpha=self.alpha or 0.0,
            code_dim=0 if code_dim is None else check_integer(code_dim, "code_dim", 1, dim),
            pq_bytes=check_pq_bytes(self.pq_bytes, dim, count),
            train_queries=asked,
            seed=self.seed,
            threads=self.threads,
        )
