# SPDX-License-Identifier: Apache-2.0
"""Made the files beside it, with diskannpy 0.7.0 under Python 3.11 and NumPy 1.25, on Linux x86-64.

    python make.py    # in an environment that has diskannpy; it writes into the script's folder

Three indexes of `PREFIX_disk.index`: l2 (400 x 16 float32), u8 (300 x 12 uint8, without metadata,
as DiskANN's own programs leave it) and mips (300 x 10 float32, inner product); `given.npz` has the
vectors, some queries, and what diskannpy answered. A build in two threads differs each time.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import diskannpy
import numpy as np

HERE = Path(__file__).resolve().parent
K, WIDTHS = 5, (5, 8, 12, 20)


def clustered(rng: np.random.Generator, rows: int, dim: int) -> np.ndarray:
    """Clusters that overlap, so that narrow searches miss something."""
    centres = rng.normal(size=(12, dim))
    return centres[rng.integers(0, 12, rows)] + 0.9 * rng.normal(size=(rows, dim))


def build(name: str, vectors: np.ndarray, metric: str, folder: str) -> None:
    """One index with 8 neighbours per point and 8 bytes of PQ."""
    diskannpy.build_disk_index(
        data=vectors,
        distance_metric=metric,
        index_directory=folder,
        index_prefix=name,
        complexity=32,
        graph_degree=8,
        search_memory_maximum=8.5 * len(vectors) / 2**30,
        build_memory_maximum=1,
        num_threads=2,
        pq_disk_bytes=0,
    )
    for suffix in ("disk.index", "metadata.bin", "disk.index_max_base_norm.bin"):
        source = Path(folder, f"{name}_{suffix}")
        if source.exists() and (name, suffix) != ("u8", "metadata.bin"):
            shutil.copy(source, HERE)


def main() -> None:
    """Build, search, and keep what the tests compare with."""
    rng = np.random.default_rng(20261124)
    l2 = clustered(rng, 500, 16).astype(np.float32)
    l2, queries = l2[:400], l2[400:]
    u8 = np.clip(np.round(clustered(rng, 300, 12) * 30 + 128), 0, 255).astype(np.uint8)
    lengths = np.exp(0.5 * rng.normal(size=(300, 1)))
    mips = (clustered(rng, 300, 10) * lengths).astype(np.float32)
    answers = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, vectors, metric in (("l2", l2, "l2"), ("u8", u8, "l2"), ("mips", mips, "mips")):
            build(name, vectors, metric, folder)
        index = diskannpy.StaticDiskIndex(folder, 2, 0, 0, index_prefix="l2")
        for width in WIDTHS:
            found = index.batch_search(queries, K, width, 1, 4)
            answers[f"found_{width}"] = np.asarray(found.identifiers, np.int64)
        del index
    np.savez_compressed(HERE / "given.npz", l2=l2, u8=u8, mips=mips, queries=queries, **answers)


if __name__ == "__main__":
    main()
