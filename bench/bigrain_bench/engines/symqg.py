# SPDX-License-Identifier: Apache-2.0
"""SymphonyQG: rabitqlib's SymqgIndex, a graph with packed 1-bit codes at each vertex."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from bigrain_bench.engines.base import F32, I64, Engine, Params, Setting, normalised, saved_bytes


class SymphonyQg(Engine):
    package = "rabitqlib"
    module = "rabitqlib"
    defaults: ClassVar[Params] = {"max_degree": 32, "ef_construction": 400}

    @classmethod
    def grid(cls, rows: int, dim: int, metric: str) -> list[Params]:
        return [
            {"max_degree": degree, "ef_construction": ef}
            for degree, ef in ((32, 200), (32, 400), (64, 400))
        ]

    def build(self, base: F32, metric: str, threads: int) -> None:
        self.cosine = metric == "cosine"
        kind = "l2" if metric == "l2" else "ip"
        self.index = self.library.SymqgIndex(base.shape[1], self.params["max_degree"], kind)
        vectors = normalised(base) if self.cosine else base
        self.index.build(vectors, self.params["ef_construction"], num_threads=threads)

    def search(self, queries: F32, k: int, setting: Setting, threads: int) -> I64:
        asked = normalised(queries) if self.cosine else queries
        ids, _ = self.index.search_batch(asked, k, max(k, setting["width"]), num_threads=threads)
        return np.asarray(ids, np.int64)

    def index_bytes(self) -> int:
        return saved_bytes(self.index.save)
