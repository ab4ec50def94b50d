# SPDX-License-Identifier: Apache-2.0
"""hnswlib: the reference HNSW."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from bigrain_bench.engines.base import F32, I64, Engine, Params, Setting, saved_bytes


class Hnswlib(Engine):
    package = "hnswlib"
    module = "hnswlib"
    # its own M, and its documentation's ef_construction
    defaults: ClassVar[Params] = {"M": 16, "ef_construction": 200}

    @classmethod
    def grid(cls, rows: int, dim: int, metric: str) -> list[Params]:
        return [{"M": 16, "ef_construction": 200}, {"M": 32, "ef_construction": 200}]

    def build(self, base: F32, metric: str, threads: int) -> None:
        self.index = self.library.Index(space=metric, dim=base.shape[1])
        self.index.init_index(len(base), random_seed=100, **self.params)
        self.index.add_items(base, num_threads=threads)

    def search(self, queries: F32, k: int, setting: Setting, threads: int) -> I64:
        self.index.set_ef(max(k, setting["width"]))
        labels, _ = self.index.knn_query(queries, k, num_threads=threads)
        return np.asarray(labels, np.int64)

    def index_bytes(self) -> int:
        return saved_bytes(self.index.save_index)
