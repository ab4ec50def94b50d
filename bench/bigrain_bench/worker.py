# SPDX-License-Identifier: Apache-2.0
"""One engine in a process of its own, driven by lines of JSON on its standard input.

Run as a file, under any interpreter that has NumPy and the engine: the benchmark's own package is
loaded by its location and not by a search path, so that an old NumPy beside an old peer stays in
force. What libraries print goes to standard error; standard output belongs to the protocol.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import platform
import signal
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np


def _load_package() -> None:
    """Makes `bigrain_bench` importable without adding its parent folder to the search path."""
    if "bigrain_bench" in sys.modules:
        return
    folder = Path(__file__).resolve().parent
    spec = importlib.util.spec_from_file_location(
        "bigrain_bench", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {folder}")
    module = importlib.util.module_from_spec(spec)
    sys.modules["bigrain_bench"] = module
    spec.loader.exec_module(module)


def resident_bytes() -> int:
    """Resident memory of this process; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def read_bytes() -> int:
    """Bytes that this process has had read from devices; 0 where the system does not tell."""
    try:
        text = Path("/proc/self/io").read_text(encoding="ascii")
    except OSError:
        return 0
    return int(text.partition("\nread_bytes: ")[2].partition("\n")[0])


class Worker:
    """The verbs of the protocol: open, settings, build, load, search, latencies, cost."""

    def open(
        self, engine: str, params: dict[str, Any], base: str, queries: str, metric: str
    ) -> dict[str, Any]:
        from bigrain_bench import engines

        self.engine = engines.engine(engine, params)
        # Mapped, so that the workers of one run share the pages.
        self.base = np.asarray(np.load(base, mmap_mode="r", allow_pickle=False))
        self.queries = np.load(queries, allow_pickle=False)
        self.metric = metric
        return {
            "version": self.engine.version(),
            "params": self.engine.params,
            "python": platform.python_version(),
            "numpy": np.__version__,
        }

    def settings(self, k: int, tuned: bool = False) -> dict[str, Any]:
        return {"settings": self.engine.tuned_settings(k) if tuned else self.engine.settings(k)}

    def build(self, threads: int) -> dict[str, Any]:
        gc.collect()
        self.base.sum()  # every page of it is resident before, and none counts as growth
        before = resident_bytes()
        start, busy = time.perf_counter(), time.process_time()
        self.engine.build(self.base, self.metric, threads)
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
        gc.collect()
        return {
            "seconds": seconds,
            "cpu_seconds": busy,
            "resident_bytes": resident_bytes() - before,
            "index_bytes": self.engine.index_bytes(),
        }

    def search(
        self, k: int, setting: dict[str, float], threads: int, seconds: float, save: str | None
    ) -> dict[str, Any]:
        """Asks the whole batch again and again until `seconds` have passed.

        A ValueError means that the engine does not take this setting: "refused" says so.
        """
        calls, read = 0, read_bytes()
        start, busy = time.perf_counter(), time.process_time()
        while True:
            try:
                ids = self.engine.search(self.queries, k, setting, threads)
            except ValueError as error:
                return {"refused": str(error)}
            calls += 1
            passed = time.perf_counter() - start
            if passed >= seconds:
                break
        busy = time.process_time() - busy
        if save:
            np.save(save, np.asarray(ids, np.int64), allow_pickle=False)
        asked = calls * len(self.queries)
        return {
            "qps": asked / passed,
            "cpu_qps": threads * asked / busy,
            "calls": calls,
            "read_bytes": (read_bytes() - read) / asked,
        }

    def load(self, threads: int, k: int) -> dict[str, Any]:
        """An engine on disk: opens its files. Resident memory grows until it has answered once."""
        from bigrain_bench.engines.on_disk import DiskEngine

        if not isinstance(self.engine, DiskEngine):
            raise TypeError("this engine does not answer from disk")
        gc.collect()
        before, start = resident_bytes(), time.perf_counter()
        self.engine.load(self.metric, threads)
        seconds = time.perf_counter() - start
        self.engine.search(self.queries[:1], k, {"width": k}, threads)
        gc.collect()
        return {
            "load_seconds": seconds,
            "resident_bytes": resident_bytes() - before,
            "memory_bytes": self.engine.memory_bytes(),
            "index_bytes": self.engine.index_bytes(),
            "file": str(self.engine.file),
        }

    def latencies(self, k: int, setting: dict[str, float], queries: int) -> dict[str, Any]:
        """Seconds of single queries, one after the other."""
        seconds = []
        for row in range(min(queries, len(self.queries))):
            start = time.perf_counter()
            self.engine.search(self.queries[row : row + 1], k, setting, 1)
            seconds.append(time.perf_counter() - start)
        return {"seconds": seconds}

    def cost(self, k: int, setting: dict[str, float]) -> dict[str, Any]:
        return {"cost": self.engine.cost(self.queries, k, setting)}


def _claim_stdout() -> TextIO:
    """The real standard output for the protocol; descriptor 1 then leads to standard error."""
    protocol = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return protocol


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    protocol = _claim_stdout()
    _load_package()
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("verb"))(**request)
        except Exception as error:  # whatever a peer raises is an answer, not the end
            answer = {"error": f"{type(error).__name__}: {error}"}
        protocol.write(json.dumps(answer) + "\n")
        protocol.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
