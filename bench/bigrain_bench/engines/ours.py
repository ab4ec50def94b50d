# SPDX-License-Identifier: Apache-2.0
"""Bigrain itself.

Build parameters are those of `Index.build`, whatever it takes: `--set` reaches all of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

from bigrain_bench.engines.base import F32, I64, Engine, Params, Setting, narrow

# The arguments of Index.build that the benchmark itself decides.
OWN = ("ids", "metric", "threads", "progress")
# Vectors ranked exactly, in tenths of k, beside the engine's own choice, and how many times more
# or fewer than the width they may be.
RERANKED = (10, 14, 18, 24, 32, 48, 64, 96)
MOST_APART = 6
# After the settings of a width, searches that end by distance: slack, and a window so many times as
# wide, which only the hardest queries fill.
SLACK = {16: 0.02, 24: 0.03, 32: 0.04, 48: 0.05, 64: 0.06, 96: 0.08, 128: 0.1, 192: 0.13, 256: 0.16}
WIDER = 4


class Bigrain(Engine):
    package = "bigrain"
    module = "bigrain"
    defaults: ClassVar[Params] = {"degree": None, "build_width": 128, "seed": 0, "rerank": None}

    def __init__(self, params: Mapping[str, Any]) -> None:
        takes = inspect.signature(self._library().Index.build).parameters.values()
        named = {each.name: each.default for each in takes if each.default is not each.empty}
        offered = {name: value for name, value in named.items() if name not in OWN}
        type(self).defaults = {**offered, **self.defaults}
        super().__init__(params)

    @classmethod
    def grid(cls, rows: int, dim: int, metric: str) -> list[Params]:
        return [{}]  # what users get: every choice is the engine's own

    def build(self, base: F32, metric: str, threads: int) -> None:
        params = dict(self.params)
        self.rerank = params.pop("rerank")
        self.metric = metric
        self.index = self.library.Index.build(base, metric=metric, threads=threads, **params)

    def search(self, queries: F32, k: int, setting: Setting, threads: int) -> I64:
        asked = {"rerank": self.rerank, **setting}
        ids: I64 = self.index.search(queries, k, threads=threads, **asked).ids
        return ids

    def tuned_settings(self, k: int) -> list[Setting]:
        if self.params["rerank"] is not None:
            return [{"width": width} for width in narrow(k)]
        found: list[Setting] = []
        for width in narrow(k):
            found.append({"width": width})
            for rerank in (k * tenths // 10 for tenths in RERANKED):
                if rerank <= width * MOST_APART and width <= rerank * MOST_APART:
                    found.append({"width": width, "rerank": rerank})
            if self.metric != "ip" and (slack := SLACK.get(width)):
                early = {"width": WIDER * max(width, k), "slack": slack}
                found.append(early)
                found += [{**early, "rerank": k * tenths // 10} for tenths in RERANKED[:5]]
        return found

    def index_bytes(self) -> int:
        return int(self.index.stats()["total_bytes"])

    def cost(self, queries: F32, k: int, setting: Setting) -> dict[str, float]:
        asked = {"rerank": self.rerank, **setting}
        found = self.index.search(queries, k, stats=True, **asked)
        return {name: float(values.mean()) for name, values in found.stats._asdict().items()}
