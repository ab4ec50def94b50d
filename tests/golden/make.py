# SPDX-License-Identifier: Apache-2.0
"""Write the golden files of a format version: `python tests/golden/make.py 1.1`.

Run once, when a version is released; its files and answers must never change afterwards.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bigrain import Index

HERE = Path(__file__).parent
# Sections of at most one page keep the files small. The width covers every point: the answers are
# exact, and do not depend on how a later version walks the graph.
N, K, WIDTH = 40, 5, 64
SHAPES = {  # metric, dtype, dimension, vectors, dimension of the codes
    "1.0": [
        ("l2", "float32", 8, N, None),
        ("cosine", "float16", 13, N, None),
        ("ip", "int8", 5, N, None),
        ("l2", "uint8", 16, N, None),
        ("ip", "float32", 3, 1, None),
        ("l2", "float32", 4, 0, None),
    ],
    # Codes of leading principal components.
    "1.1": [
        ("l2", "float32", 20, N, 7),
        ("cosine", "float16", 17, N, 16),
        ("ip", "int8", 24, N, 1),
        ("ip", "float32", 9, 2, 4),
    ],
    # Trained codes.
    "1.3": [("l2", "float32", 6, N, None), ("cosine", "float16", 5, N, None)],
    # A curve with slack.
    "1.4": [("l2", "uint8", 7, N, None), ("cosine", "float32", 6, N, None)],
}


def train_codes(index: Index, dim: int) -> None:
    """Give the index codes of two bytes, as if trained."""
    random = np.random.default_rng(3)
    rotation = np.linalg.qr(random.standard_normal((dim, dim)))[0][:, :4]
    books = random.standard_normal((2, 256, 2)).astype(np.float32)
    codes = random.integers(0, 256, (len(index), 2), np.uint8) if index.metric == "l2" else None
    index.set_codes(codebooks=books, rotation=rotation.astype(np.float32), codes=codes)


def vectors_of(dtype: str, dim: int, n: int, seed: int) -> Any:
    values = np.random.default_rng(seed).uniform(1, 120, (n, dim))
    return (values if dtype.endswith("int8") else values / 64 - 1).astype(dtype)


def main(version: str) -> None:
    answers = {}
    for metric, dtype, dim, n, code_dim in SHAPES[version]:
        base = vectors_of(dtype, dim, n, seed=1)
        queries = vectors_of(dtype.replace("16", "32"), dim, 3, seed=2)
        ids = np.arange(n)[::-1] * 10 if metric == "l2" else None
        index = Index.build(
            base, ids, metric=metric, degree=8, build_width=20, seed=7, code_dim=code_dim
        )
        if n > 2:
            index.tune(queries, k=K, recall=0.9)
        if version == "1.3":
            train_codes(index, dim)
        path = HERE / f"v{version}-{metric}-{dtype}-{n}.bigrain"
        index.save(path)
        found = index.search(queries, K, width=WIDTH)
        header = Index.describe(path)
        header.pop("sections")
        answers[path.name] = {
            "header": header,
            "queries": queries.tolist(),
            "ids": found.ids.tolist(),
            "distances": found.distances.tolist(),
        }
    (HERE / f"v{version}.json").write_text(json.dumps(answers, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
