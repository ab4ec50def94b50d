# SPDX-License-Identifier: Apache-2.0
"""Data of the micro-benchmarks: synthetic, since what is timed here does not depend on the values.

Run with `make bench`; compare two runs with pytest-benchmark's --benchmark-save and
--benchmark-compare. BIGRAIN_SIMD=scalar|avx2|avx512|neon chooses the kernels, BIGRAIN_MICRO_SCALE
below 1 shrinks the data for a smoke test.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

SCALE = float(os.environ.get("BIGRAIN_MICRO_SCALE", "1"))

Make = Callable[[int, int, str], NDArray[Any]]


@pytest.fixture(scope="session")
def vectors() -> Make:
    """make(rows, dim, dtype): clustered Gaussian vectors, integers over most of their range."""

    def make(rows: int, dim: int, dtype: str = "float32") -> NDArray[Any]:
        rows = max(16, int(rows * SCALE))
        rng = np.random.default_rng(dim)
        centres = rng.normal(size=(32, dim))
        values = centres[rng.integers(32, size=rows)] + 0.5 * rng.normal(size=(rows, dim))
        if dtype.startswith("float"):
            return values.astype(dtype)
        limits = np.iinfo(dtype)
        middle, spread = (limits.max + limits.min + 1) / 2, (limits.max - limits.min) / 8
        return np.clip(values * spread + middle, limits.min, limits.max).astype(dtype)

    return make
