# SPDX-License-Identifier: Apache-2.0
"""faiss IVF with RaBitQ codes (FastScan), refined by the full vectors."""

from __future__ import annotations

from typing import ClassVar

from bigrain_bench.engines.base import F32, I64, Engine, Params, Setting, normalised

NPROBES = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
REFINED = (20, 30, 50, 75, 100, 200)  # vectors compared exactly, at k = 10


class FaissRabitq(Engine):
    package = "faiss-cpu"
    module = "faiss"
    # lists 0: 4 sqrt(n), as faiss's guidelines have it; bits 1: RaBitQ's own; query_bits: faiss's
    defaults: ClassVar[Params] = {"lists": 0, "bits": 1, "fastscan": 1, "query_bits": 8}

    @classmethod
    def grid(cls, rows: int, dim: int, metric: str) -> list[Params]:
        return [
            {"lists": max(1, int(factor * rows**0.5)), "bits": bits}
            for factor, bits in ((2, 1), (4, 1), (2, 4))
        ]

    def build(self, base: F32, metric: str, threads: int) -> None:
        faiss = self.library
        faiss.omp_set_num_threads(threads)
        self.cosine = metric == "cosine"
        n, d = base.shape
        # At least 39 points a list: k-means in faiss warns below.
        lists = self.params["lists"] or int(4 * n**0.5)
        lists = max(1, min(lists, n // 39))
        bits = "" if self.params["bits"] == 1 else str(self.params["bits"])
        kind = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
        code = "RaBitQfs" if self.params["fastscan"] else "RaBitQ"
        # The codes presume a random rotation (RR), which the factory does not add by itself.
        rotated = -(-d // 64) * 64
        self.index = faiss.index_factory(d, f"RR{rotated},IVF{lists},{code}{bits},RFlat", kind)
        vectors = normalised(base) if self.cosine else base
        self.index.train(vectors)
        self.index.add(vectors)
        self.inner = faiss.downcast_index(faiss.extract_index_ivf(self.index))
        self.inner.qb = self.params["query_bits"]

    def search(self, queries: F32, k: int, setting: Setting, threads: int) -> I64:
        self.library.omp_set_num_threads(threads)
        self.inner.nprobe = setting["nprobe"]
        self.index.k_factor = setting["refined"] / k
        ids: I64 = self.index.search(normalised(queries) if self.cosine else queries, k)[1]
        return ids

    def settings(self, k: int) -> list[Setting]:
        return [{"nprobe": n, "refined": r * k // 10} for n in NPROBES for r in REFINED]

    def index_bytes(self) -> int:
        return int(self.library.serialize_index(self.index).nbytes)
