# SPDX-License-Identifier: Apache-2.0
"""faiss HNSW32 over raw float32 vectors."""

from __future__ import annotations

from typing import ClassVar

from bigrain_bench.engines.base import F32, I64, Engine, Params, Setting, normalised


class FaissHnsw(Engine):
    package = "faiss-cpu"
    module = "faiss"
    # faiss's own efConstruction
    defaults: ClassVar[Params] = {"M": 32, "ef_construction": 40}

    @classmethod
    def grid(cls, rows: int, dim: int, metric: str) -> list[Params]:
        return [{"M": m, "ef_construction": 200} for m in (16, 32)]

    def build(self, base: F32, metric: str, threads: int) -> None:
        faiss = self.library
        faiss.omp_set_num_threads(threads)
        self.cosine = metric == "cosine"
        kind = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
        self.index = faiss.IndexHNSWFlat(base.shape[1], self.params["M"], kind)
        self.index.hnsw.efConstruction = self.params["ef_construction"]
        self.index.add(normalised(base) if self.cosine else base)

    def search(self, queries: F32, k: int, setting: Setting, threads: int) -> I64:
        self.library.omp_set_num_threads(threads)
        self.index.hnsw.efSearch = setting["width"]
        ids: I64 = self.index.search(normalised(queries) if self.cosine else queries, k)[1]
        return ids

    def index_bytes(self) -> int:
        return int(self.library.serialize_index(self.index).nbytes)
