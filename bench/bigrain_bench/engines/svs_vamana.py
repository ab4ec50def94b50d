# SPDX-License-Identifier: Apache-2.0
"""Intel's Scalable Vector Search: Vamana over vectors as they are, or compressed (LVQ, LeanVec).

LVQ and LeanVec run on Intel processors only: elsewhere the library ends the process, so the grid
leaves them out there. Its 8-bit integers are ours: one scale for all values, none of them refined.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bigrain_bench.engines.base import F32, I64, Engine, Params, Setting, narrow, saved_bytes

METRICS = {"l2": "L2", "ip": "MIP", "cosine": "Cosine"}
LVQ = {"lvq4x4": (4, 4), "lvq4x8": (4, 8), "lvq8": (8, 0)}  # bits of the code, of its residual
# Its documentation's: above 1 where smaller is closer, below where larger is.
ALPHA = {"l2": 1.2, "ip": 0.95, "cosine": 0.95}


class Svs(Engine):
    package = "scalable-vs"
    module = "svs"
    # degree and window of its benchmarks; alpha None: ALPHA; leanvec_dims 0: half the dimensions
    defaults: ClassVar[Params] = {
        "degree": 64,
        "window": 200,
        "alpha": None,
        "storage": "f32",
        "leanvec_dims": 0,
    }

    @classmethod
    def grid(cls, rows: int, dim: int, metric: str) -> list[Params]:
        grid: list[Params] = [
            {"degree": 32, "storage": "f32"},
            {"degree": 64, "storage": "f32"},
            {"degree": 32, "storage": "f16"},
            {"degree": 32, "storage": "i8"},
        ]
        if _is_intel():
            kinds = ("lvq4x4", "lvq4x8", "lvq8", "leanvec4x8", "leanvec8x8")
            grid += [{"degree": degree, "storage": kind} for degree in (32, 64) for kind in kinds]
        return grid

    def build(self, base: F32, metric: str, threads: int) -> None:
        svs = self.library
        alpha = self.params["alpha"] or ALPHA[metric]
        parameters = svs.VamanaBuildParameters(
            alpha=alpha,
            graph_max_degree=self.params["degree"],
            window_size=self.params["window"],
        )
        distance = getattr(svs.DistanceType, METRICS[metric])
        with tempfile.TemporaryDirectory() as folder:
            data = self._stored(base, folder)
            self.index = svs.Vamana.build(parameters, data, distance, num_threads=threads)
        self.asked: tuple[int, Any] | None = None

    def _stored(self, base: F32, folder: str) -> Any:
        """What it builds from: an array, or the loader that compresses a file."""
        svs, storage = self.library, self.params["storage"]
        self.scale = float(np.abs(base).max()) / 127
        if storage in ("f32", "f16", "i8"):
            return self._converted(base)
        file = str(Path(folder) / "base.fvecs")
        svs.write_vecs(base, file)
        loader = svs.VectorDataLoader(file, svs.DataType.float32, base.shape[1])
        if storage in LVQ:
            primary, residual = LVQ[storage]
            return svs.LVQLoader(loader, primary=primary, residual=residual)
        first, _, second = storage.removeprefix("leanvec").partition("x")
        return svs.LeanVecLoader(
            loader,
            self.params["leanvec_dims"] or base.shape[1] // 2,
            primary_kind=getattr(svs.LeanVecKind, f"lvq{first}"),
            secondary_kind=getattr(svs.LeanVecKind, f"lvq{second}"),
        )

    def _converted(self, vectors: F32) -> Any:
        storage = self.params["storage"]
        if storage == "i8":
            return np.clip(np.rint(vectors / self.scale), -127, 127).astype(np.int8)
        return vectors.astype(np.float16) if storage == "f16" else vectors

    def search(self, queries: F32, k: int, setting: Setting, threads: int) -> I64:
        width = setting["width"]
        parameters = self.index.search_parameters
        parameters.buffer_config = self.library.SearchBufferConfig(width, max(k, width))
        self.index.search_parameters = parameters
        self.index.num_threads = threads
        asked = self._converted(queries) if self.params["storage"] == "i8" else queries
        ids: I64 = self.index.search(asked, k)[0].astype(np.int64)
        return ids

    def settings(self, k: int) -> list[Setting]:
        return [{"width": width} for width in narrow(k)]

    def index_bytes(self) -> int:
        def save(path: str) -> None:
            parts = [Path(path) / part for part in ("config", "graph", "data")]
            for part in parts:
                part.mkdir(parents=True)
            self.index.save(*map(str, parts))

        return saved_bytes(save)


def _is_intel() -> bool:
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
