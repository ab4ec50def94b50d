# SPDX-License-Identifier: Apache-2.0
"""Distance kernels, seen through exact search on one thread: rows that stay in cache, no graph.

One query is bound by the kernel of a single pair; a batch runs the blocked kernel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bigrain import _core

ROWS, K = 2_000, 10  # 2,000 rows of 100 float32 lie in a 1 MiB cache


@pytest.mark.parametrize("queries", [1, 64])
@pytest.mark.parametrize("dim", [100, 384, 784])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8"])
@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
def test_exact(
    benchmark: Any, vectors: Any, metric: str, dtype: str, dim: int, queries: int
) -> None:
    base = vectors(ROWS, dim, dtype)
    asked = base[:queries]
    if dtype == "float16":  # an index of float16 is asked in float32
        asked = asked.astype(np.float32)
    ids = np.empty((len(asked), K), np.int64)
    distances = np.empty((len(asked), K), np.float32)
    benchmark.group = f"exact, {len(asked)} queries, d={dim}"
    benchmark.extra_info["distances"] = len(base) * len(asked)
    benchmark(_core.exact_search, base, asked, metric, K, 1, ids, distances, None)
    assert (ids[:, 0] >= 0).all()
