# SPDX-License-Identifier: Apache-2.0
"""Bigrain under a budget of memory: the file that `Index.save` wrote, opened with `memory`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from bigrain_bench.engines.base import F32, I64, Params, Setting, narrow
from bigrain_bench.engines.on_disk import DiskEngine
from bigrain_bench.engines.ours import Bigrain

# Vectors read to decide, in tenths of k, beside the engine's own choice.
RERANKED = (12, 16, 24, 36)
# ... and how many times more or fewer than the width they may be.
MOST_APART = 4
# Searches that end by distance, within the wider windows (see `Index.search`).
SLACK, SLACK_FROM = (0.0, 0.02, 0.035, 0.05, 0.07, 0.1, 0.14), 32


class BigrainDisk(DiskEngine, Bigrain):
    defaults: ClassVar[Params] = {
        **DiskEngine.disk_defaults,
        **Bigrain.defaults,
        "io": "auto",
        "deterministic": False,
    }

    @property
    def file(self) -> Path:
        return self.folder / "bigrain.index"

    def build(self, base: F32, metric: str, threads: int) -> None:
        own = ("rerank", "io", "deterministic", *DiskEngine.disk_defaults)
        params = {name: value for name, value in self.params.items() if name not in own}
        index = self.library.Index.build(base, metric=metric, threads=threads, **params)
        index.save(self.file)

    def load(self, metric: str, threads: int) -> None:
        del metric, threads
        self.index = self.library.Index.open(
            self.file, memory=self.params["memory"], io=self.params["io"]
        )

    def settings(self, k: int) -> list[Setting]:
        found: list[Setting] = []
        for width in narrow(k):
            found.append({"width": width})
            for rerank in (k * tenths // 10 for tenths in RERANKED):
                if rerank <= width * MOST_APART and width <= rerank * MOST_APART:
                    found.append({"width": width, "rerank": rerank})
            if self.index.metric != "ip" and width >= SLACK_FROM:
                found += [{"width": width, "slack": slack} for slack in SLACK]
        return found

    def search(self, queries: F32, k: int, setting: Setting, threads: int) -> I64:
        asked = {"deterministic": self.params["deterministic"], **setting}
        ids: I64 = self.index.search(queries, k, threads=threads, **asked).ids
        return ids

    def cost(self, queries: F32, k: int, setting: Setting) -> dict[str, float]:
        found = self.index.search(queries, k, stats=True, **setting)
        return {name: float(values.mean()) for name, values in found.stats._asdict().items()}

    def memory_bytes(self) -> int:
        return int(self.index.plan().residency.bytes)
