# SPDX-License-Identifier: Apache-2.0
"""VSAG: its HGraph over quantized vectors, reordered by full ones, and its HNSW.

Its Python binding answers one query per call and holds the interpreter's lock meanwhile: the
batch is a loop here (some microseconds a query), and more threads than one make it no faster.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

import numpy as np

from bigrain_bench.engines.base import F32, I64, Engine, Params, Setting, saved_bytes

# Above this it refuses, and its binding then returns whatever the memory held.
WIDEST = 1000


class Vsag(Engine):
    package = "pyvsag"
    module = "pyvsag"
    # degree 32: its examples'; its documentation's default ef_construction
    defaults: ClassVar[Params] = {
        "kind": "hgraph",
        "degree": 32,
        "ef_construction": 400,
        "base": "sq8_uniform",
        "bits": 1,
        "graph": "nsw",
    }

    @classmethod
    def grid(cls, rows: int, dim: int, metric: str) -> list[Params]:
        return [
            {"base": "sq8_uniform", "degree": 32, "ef_construction": 200},
            {"base": "sq8_uniform", "degree": 64, "ef_construction": 200},
            {"base": "rabitq", "degree": 32, "ef_construction": 200},
        ]

    def build(self, base: F32, metric: str, threads: int) -> None:
        self.library.set_logger_off()
        n, d = base.shape
        chosen = {"dtype": "float32", "metric_type": metric, "dim": d}
        self.kind = self.params["kind"]
        if self.kind == "hnsw":
            chosen["hnsw"] = {
                # It counts as hnswlib's M does: the ground layer has twice as many.
                "max_degree": self.params["degree"] // 2,
                "ef_construction": self.params["ef_construction"],
            }
        else:
            chosen["index_param"] = self._index_param(threads)
        self.index = self.library.Index(self.kind, json.dumps(chosen))
        # A copy: its binding ends the process when it is given an array that it cannot write.
        self.index.build(base.copy().ravel(), np.arange(n), n, d)

    def _index_param(self, threads: int) -> dict[str, Any]:
        code = self.params["base"]
        found = {
            "base_quantization_type": code,
            "max_degree": self.params["degree"],
            "ef_construction": self.params["ef_construction"],
            "build_thread_count": threads,
            "graph_type": self.params["graph"],
            # One block per array: blocks of 128 MB would be most of a small index.
            "base_io_type": "memory_io",
            "precise_io_type": "memory_io",
        }
        if code == "rabitq":
            found["rabitq_bits_per_dim_base"] = self.params["bits"]
        if code != "fp32":
            found |= {"use_reorder": True, "precise_quantization_type": "fp32"}
        return found

    def search(self, queries: F32, k: int, setting: Setting, threads: int) -> I64:
        del threads
        if setting["width"] > WIDEST:
            raise ValueError(f"width: {setting['width']}, at most {WIDEST}")
        asked = json.dumps({self.kind: {"ef_search": setting["width"]}})
        ids = np.full((len(queries), k), -1, np.int64)
        for row, query in zip(ids, queries, strict=True):
            found = self.index.knn_search(query, k, asked)[0]
            row[: len(found)] = found
        return ids

    def settings(self, k: int) -> list[Setting]:
        return [setting for setting in super().settings(k) if setting["width"] <= WIDEST]

    def index_bytes(self) -> int:
        return saved_bytes(self.index.save)
