# SPDX-License-Identifier: Apache-2.0
"""diskannpy's index on SSD, StaticDiskIndex: product codes in memory, records read by libaio.

Its cosine is not for disks, so rows and queries are made unit vectors and l2 ranks them the same.
No nodes are cached (cache_mechanism 0), which also leaves out the search that would warm it up.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from bigrain_bench.engines.base import F32, I64, Params, Setting, normalised
from bigrain_bench.engines.on_disk import DiskEngine

# Opened for one thread it hangs: it waits for a context that nobody gives back (0.7.0).
LEAST_THREADS = 2


class DiskAnnDisk(DiskEngine):
    package = "diskannpy"
    module = "diskannpy"
    defaults: ClassVar[Params] = {
        **DiskEngine.disk_defaults,
        "graph_degree": 64,
        "complexity": 100,
        "pq_bytes": 64,  # of the code of a vector
        "beam_width": 4,
        "build_memory_gb": 8.0,
    }

    @property
    def file(self) -> Path:
        return self.folder / "ann_disk.index"

    def build(self, base: F32, metric: str, threads: int) -> None:
        code = min(self.params["pq_bytes"], base.shape[1])
        self.library.build_disk_index(
            data=normalised(base) if metric == "cosine" else np.ascontiguousarray(base),
            distance_metric="mips" if metric == "ip" else "l2",
            index_directory=str(self.folder),
            complexity=self.params["complexity"],
            graph_degree=self.params["graph_degree"],
            # It gives a code as many whole bytes as this budget has for each vector.
            search_memory_maximum=(code + 0.5) * len(base) / 2**30,
            build_memory_maximum=self.params["build_memory_gb"],
            num_threads=threads,
            pq_disk_bytes=0,
        )

    def load(self, metric: str, threads: int) -> None:
        self.unit = metric == "cosine"
        self.index = self.library.StaticDiskIndex(
            str(self.folder), max(LEAST_THREADS, threads), 0, 0
        )

    def search(self, queries: F32, k: int, setting: Setting, threads: int) -> I64:
        asked = normalised(queries) if self.unit else queries
        beam = self.params["beam_width"]
        width = max(k, setting["width"])
        if len(asked) == 1:
            found = self.index.search(asked[0], k, width, beam)
        else:
            found = self.index.batch_search(asked, k, width, threads, beam)
        return np.asarray(found.identifiers, np.int64).reshape(len(asked), k)

    def index_bytes(self) -> int:
        # What it opens; its build leaves copies of the vectors as well.
        names = ("ann_disk.index", "ann_pq_compressed.bin", "ann_pq_pivots.bin")
        return sum((self.folder / name).stat().st_size for name in names)

    def memory_bytes(self) -> int:
        names = ("ann_pq_compressed.bin", "ann_pq_pivots.bin")
        return sum((self.folder / name).stat().st_size for name in names)
