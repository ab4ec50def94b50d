# SPDX-License-Identifier: Apache-2.0
"""What an engine must do to be measured."""

from __future__ import annotations

import abc
import importlib
import importlib.metadata
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

F32: TypeAlias = NDArray[np.float32]
I64: TypeAlias = NDArray[np.int64]
# What is varied from point to point of a curve, such as {"width": 64}.
Setting: TypeAlias = Mapping[str, Any]

# Build parameters by name.
Params: TypeAlias = dict[str, Any]

WIDTHS = (10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 384, 512, 768, 1024, 1536)


class Engine(abc.ABC):
    """One library behind one protocol. Made in a worker process, used by one thread."""

    package: ClassVar[str]  # the distribution to install
    module: ClassVar[str]  # the module to import
    defaults: ClassVar[Params] = {}  # every parameter, with the value that is used

    def __init__(self, params: Mapping[str, Any]) -> None:
        if unknown := set(params) - set(self.defaults):
            known = ", ".join(self.defaults) or "none"
            raise ValueError(f"unknown parameters {', '.join(sorted(unknown))}; known are {known}")
        self.params = {**self.defaults, **params}
        self.library: Any = self._library()

    @classmethod
    def _library(cls) -> Any:
        try:
            return importlib.import_module(cls.module)
        except ModuleNotFoundError as error:
            if error.name != cls.module.partition(".")[0]:
                raise  # the peer is there and lacks something of its own
            raise ImportError(f"not installed: pip install {cls.package}") from None

    @classmethod
    def grid(cls, rows: int, dim: int, metric: str) -> list[Params]:
        """Build configurations that a tuned run tries; the others stay at `defaults`."""
        del rows, dim, metric
        return [{}]

    def version(self) -> str:
        return importlib.metadata.version(self.package)

    @abc.abstractmethod
    def build(self, base: F32, metric: str, threads: int) -> None:
        """Builds the index over `base`; everything needed before the first search."""

    @abc.abstractmethod
    def search(self, queries: F32, k: int, setting: Setting, threads: int) -> I64:
        """One call for the whole batch: (queries, k) rows of `base`, -1 where there is none."""

    def settings(self, k: int) -> list[Setting]:
        """Points of the curve, from fast to thorough."""
        return [{"width": k}, *({"width": width} for width in WIDTHS if width > k)]

    def tuned_settings(self, k: int) -> list[Setting]:
        """Points that a tuned run tries: `settings`, or more of them."""
        return self.settings(k)

    @abc.abstractmethod
    def index_bytes(self) -> int:
        """Bytes of the index by the engine's own account, or of its saved form."""

    def cost(self, queries: F32, k: int, setting: Setting) -> dict[str, float]:
        """Counted work per query, where the engine counts: not timed."""
        del queries, k, setting
        return {}


def narrow(k: int) -> list[int]:
    """Widths from 1 up, for engines whose window may be narrower than k."""
    return sorted({1, 2, 3, 4, 5, 6, 8, k, *WIDTHS})


def normalised(vectors: F32) -> F32:
    """Unit rows, for engines that know only the inner product."""
    norms: F32 = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: F32 = vectors / np.maximum(norms, np.finfo(np.float32).tiny)
    return unit


def saved_bytes(save: Callable[[str], object]) -> int:
    """The size of what `save(path)` writes, be it a file or a folder."""
    with tempfile.TemporaryDirectory() as folder:
        save(os.path.join(folder, "index"))
        return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
