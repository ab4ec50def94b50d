# SPDX-License-Identifier: Apache-2.0
"""ScaNN: a k-means tree, anisotropic 4-bit codes, exact reordering."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from bigrain_bench.engines.base import F32, I64, Engine, Params, Setting, normalised, saved_bytes

LEAVES = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768)
REORDER = (20, 30, 50, 75, 100, 200, 300)


class Scann(Engine):
    package = "scann"
    module = "scann"
    # leaves 0: sqrt(n); threshold 0.2 and 2 dimensions a block are its documentation's values
    defaults: ClassVar[Params] = {
        "leaves": 0,
        "dims_per_block": 2,
        "threshold": 0.2,
        "soar_lambda": None,
    }

    @classmethod
    def grid(cls, rows: int, dim: int, metric: str) -> list[Params]:
        grid: list[Params] = [{"leaves": max(1, int(f * rows**0.5))} for f in (1, 2, 4)]
        if metric != "l2":  # its documentation's lambda; spilling is defined for inner products
            grid.append({"leaves": max(1, int(2 * rows**0.5)), "soar_lambda": 1.5})
        return grid

    def build(self, base: F32, metric: str, threads: int) -> None:
        self.cosine = metric == "cosine"
        vectors = normalised(base) if self.cosine else base
        n = len(base)
        leaves = self.params["leaves"] or max(1, int(n**0.5))
        # Anisotropic loss is defined for the inner product only.
        threshold = float("nan") if metric == "l2" else self.params["threshold"]
        builder = self.library.scann_ops_pybind.builder(
            vectors, 10, "squared_l2" if metric == "l2" else "dot_product"
        )
        builder.set_n_training_threads(threads)
        self.index = (
            builder.tree(
                leaves,
                max(1, leaves // 10),
                training_sample_size=min(n, 250_000),
                soar_lambda=self.params["soar_lambda"],
            )
            .score_ah(self.params["dims_per_block"], anisotropic_quantization_threshold=threshold)
            .reorder(100)
            .build()
        )

    def search(self, queries: F32, k: int, setting: Setting, threads: int) -> I64:
        asked = normalised(queries) if self.cosine else queries
        call = self.index.search_batched if threads == 1 else self.index.search_batched_parallel
        ids, _ = call(
            asked,
            final_num_neighbors=k,
            pre_reorder_num_neighbors=setting["reorder"],
            leaves_to_search=setting["leaves"],
        )
        return np.asarray(ids, np.int64)

    def settings(self, k: int) -> list[Setting]:
        reorder = [max(k, r * k // 10) for r in REORDER]
        return [{"leaves": n, "reorder": r} for n in LEAVES for r in reorder]

    def index_bytes(self) -> int:
        def save(path: str) -> None:
            import os

            os.mkdir(path)
            self.index.serialize(path)

        return saved_bytes(save)
