# SPDX-License-Identifier: Apache-2.0
"""diskannpy's in-memory Vamana index."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import ClassVar

import numpy as np

from bigrain_bench.engines.base import F32, I64, Engine, Params, Setting

METRICS = {"l2": "l2", "ip": "mips", "cosine": "cosine"}


class DiskAnn(Engine):
    package = "diskannpy"
    module = "diskannpy"
    # DiskANN's usual R and L
    defaults: ClassVar[Params] = {"graph_degree": 64, "complexity": 100, "alpha": 1.2}

    @classmethod
    def grid(cls, rows: int, dim: int, metric: str) -> list[Params]:
        return [{"graph_degree": 32}, {"graph_degree": 64}]

    def build(self, base: F32, metric: str, threads: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.library.build_memory_index(
            data=base,
            distance_metric=METRICS[metric],
            index_directory=self.folder.name,
            num_threads=threads,
            **self.params,
        )
        self.index = self.library.StaticMemoryIndex(self.folder.name, 0, 128)

    def search(self, queries: F32, k: int, setting: Setting, threads: int) -> I64:
        found = self.index.batch_search(queries, k, max(k, setting["width"]), threads)
        # A slot that was not filled holds an arbitrary uint32: recall counts no such row.
        return np.asarray(found.identifiers, np.int64)

    def index_bytes(self) -> int:
        # The graph and one copy of the vectors are what it loads.
        folder = Path(self.folder.name)
        return sum((folder / name).stat().st_size for name in ("ann", "ann.data"))
