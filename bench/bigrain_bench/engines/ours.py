# SPDX-License-Identifier: Apache-2.0
"""Bigrain itself."""

from __future__ import annotations

from typing import ClassVar

from bigrain_bench.engines.base import F32, I64, Engine, Params, Setting


class Bigrain(Engine):
    package = "bigrain"
    module = "bigrain"
    defaults: ClassVar[Params] = {
        "degree": 32,
        "build_width": 128,
        "alpha": None,
        "seed": 0,
        "rerank": None,
    }

    def build(self, base: F32, metric: str, threads: int) -> None:
        params = dict(self.params)
        self.rerank = params.pop("rerank")
        self.index = self.library.Index.build(base, metric=metric, threads=threads, **params)

    def search(self, queries: F32, k: int, setting: Setting, threads: int) -> I64:
        found = self.index.search(
            queries, k, width=setting["width"], rerank=self.rerank, threads=threads
        )
        ids: I64 = found.ids
        return ids

    def index_bytes(self) -> int:
        return int(self.index.stats()["total_bytes"])

    def cost(self, queries: F32, k: int, setting: Setting) -> dict[str, float]:
        found = self.index.search(
            queries, k, width=setting["width"], rerank=self.rerank, stats=True
        )
        return {name: float(values.mean()) for name, values in found.stats._asdict().items()}
