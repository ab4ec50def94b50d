# SPDX-License-Identifier: Apache-2.0
"""faiss IVF with 4-bit PQ (FastScan), refined by the full vectors."""

from __future__ import annotations

from typing import ClassVar

from bigrain_bench.engines.base import F32, I64, Engine, Params, Setting, normalised

NPROBES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512)
REFINED = (20, 30, 50, 75, 100, 200, 300)  # vectors compared exactly, at k = 10


class FaissIvfPq(Engine):
    package = "faiss-cpu"
    module = "faiss"
    # lists 0: 4 sqrt(n), as faiss's guidelines have it; dims_per_code 2: the finest in common use
    defaults: ClassVar[Params] = {"lists": 0, "dims_per_code": 2}

    @classmethod
    def grid(cls, rows: int, dim: int, metric: str) -> list[Params]:
        return [{"lists": max(1, int(factor * rows**0.5))} for factor in (1, 2, 4)]

    def build(self, base: F32, metric: str, threads: int) -> None:
        faiss = self.library
        faiss.omp_set_num_threads(threads)
        self.cosine = metric == "cosine"
        n, d = base.shape
        # At least 39 points a list: k-means in faiss warns below.
        lists = max(1, min(self.params["lists"] or int(4 * n**0.5), n // 39))
        codes = max(1, d // self.params["dims_per_code"])
        pad = codes * self.params["dims_per_code"]
        first = f"PCA{pad}," if pad != d else ""
        kind = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
        self.index = faiss.index_factory(d, f"{first}IVF{lists},PQ{codes}x4fs,RFlat", kind)
        vectors = normalised(base) if self.cosine else base
        self.index.train(vectors)
        self.index.add(vectors)

    def search(self, queries: F32, k: int, setting: Setting, threads: int) -> I64:
        faiss = self.library
        faiss.omp_set_num_threads(threads)
        inner = faiss.extract_index_ivf(self.index)
        inner.nprobe = setting["nprobe"]
        self.index.k_factor = setting["refined"] / k
        ids: I64 = self.index.search(normalised(queries) if self.cosine else queries, k)[1]
        return ids

    def settings(self, k: int) -> list[Setting]:
        return [{"nprobe": n, "refined": r * k // 10} for n in NPROBES for r in REFINED]

    def index_bytes(self) -> int:
        return int(self.library.serialize_index(self.index).nbytes)
