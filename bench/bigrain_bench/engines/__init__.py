# SPDX-License-Identifier: Apache-2.0
"""The engines that can be measured, by name. Each is imported only inside its own worker."""

from __future__ import annotations

import importlib
from typing import Any

from bigrain_bench.engines.base import Engine

ENGINES = {
    "bigrain": "ours:Bigrain",
    "hnswlib": "hnsw:Hnswlib",
    "faiss": "faiss_hnsw:FaissHnsw",
    "faiss-ivfpq": "faiss_ivfpq:FaissIvfPq",
    "faiss-rabitq": "faiss_rabitq:FaissRabitq",
    "diskann": "diskann:DiskAnn",
    "symqg": "symqg:SymphonyQg",
    "scann": "scann_tree:Scann",
    "svs": "svs_vamana:Svs",
    "vsag": "vsag_graph:Vsag",
    "usearch": "usearch_hnsw:Usearch",
}
# Those that answer from disk, by the name of the engine.
DISK = "-disk"
DISK_ENGINES = {"bigrain": "ours_disk:BigrainDisk", "diskann": "diskann_disk:DiskAnnDisk"}
_ALL = ENGINES | {name + DISK: where for name, where in DISK_ENGINES.items()}


def engine_class(name: str) -> type[Engine]:
    """The class of that name; its package need not be installed."""
    module, _, cls = _ALL[name].partition(":")
    found: type[Engine] = getattr(importlib.import_module(f"bigrain_bench.engines.{module}"), cls)
    return found


def engine(name: str, params: dict[str, Any] | None = None) -> Engine:
    """The engine of that name; ImportError where its package is not installed."""
    return engine_class(name)(params or {})
