# SPDX-License-Identifier: Apache-2.0
"""What an engine must do to be measured from disk: build into files, then answer from them.

Building and answering happen in two processes, so that what the second holds is what it needs.
"""

from __future__ import annotations

import abc
from pathlib import Path
from typing import ClassVar

from bigrain_bench.engines.base import F32, Engine, Params


class DiskEngine(Engine):
    # "folder": where its files lie; "memory": the budget, for engines that take one
    disk_defaults: ClassVar[Params] = {"folder": ".", "memory": "min"}

    @property
    def folder(self) -> Path:
        return Path(self.params["folder"])

    @property
    @abc.abstractmethod
    def file(self) -> Path:
        """The file that searches read: the device is measured on it."""

    @abc.abstractmethod
    def build(self, base: F32, metric: str, threads: int) -> None:
        """Writes the files."""

    @abc.abstractmethod
    def load(self, metric: str, threads: int) -> None:
        """Opens what `build` wrote, for `threads` threads."""

    @abc.abstractmethod
    def memory_bytes(self) -> int:
        """What stays in memory, by the engine's own account or by the size of its codes."""

    def index_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.folder.iterdir() if path.is_file())
