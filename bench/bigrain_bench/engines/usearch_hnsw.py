# SPDX-License-Identifier: Apache-2.0
"""USearch: HNSW over vectors of 32 or 16 bits."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from bigrain_bench.engines.base import F32, I64, Engine, Params, Setting

METRICS = {"l2": "l2sq", "ip": "ip", "cosine": "cos"}


class Usearch(Engine):
    package = "usearch"
    module = "usearch.index"
    # as hnswlib's M and ef_construction
    defaults: ClassVar[Params] = {"connectivity": 16, "expansion_add": 200, "dtype": "f32"}

    @classmethod
    def grid(cls, rows: int, dim: int, metric: str) -> list[Params]:
        return [{"connectivity": 16}, {"connectivity": 32}, {"connectivity": 16, "dtype": "bf16"}]

    def build(self, base: F32, metric: str, threads: int) -> None:
        self.index = self.library.Index(ndim=base.shape[1], metric=METRICS[metric], **self.params)
        self.index.add(np.arange(len(base), dtype=np.uint64), base, threads=threads)

    def search(self, queries: F32, k: int, setting: Setting, threads: int) -> I64:
        self.index.expansion_search = setting["width"]
        return np.asarray(self.index.search(queries, k, threads=threads).keys, np.int64)

    def index_bytes(self) -> int:
        return int(self.index.serialized_length)
