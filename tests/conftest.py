# SPDX-License-Identifier: Apache-2.0
"""What the tests share: an oracle in double precision, vectors of every dtype, child processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import hypothesis
import numpy as np
import numpy.typing as npt
import pytest

import bigrain

# A session started in the background inherits an ignored SIGINT, and would hand it on to the child
# processes that the tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

METRICS = ("l2", "ip", "cosine")
DTYPES = ("float32", "float16", "int8", "uint8")

# Reproducible by default; HYPOTHESIS_PROFILE=search explores anew.
hypothesis.settings.register_profile("default", deadline=None, derandomize=True)
hypothesis.settings.register_profile("search", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def make_vectors(n: int, dim: int, dtype: str = "float32", seed: int = 0) -> npt.NDArray[Any]:
    """Gaussian vectors; integers cover most of their range, and no row is zero."""
    values = np.random.default_rng(seed).standard_normal((n, dim))
    if dtype.startswith("float"):
        return values.astype(dtype)
    info = np.iinfo(dtype)
    middle, spread = (info.max + info.min + 1) / 2, (info.max - info.min) / 6
    rounded = np.clip(np.rint(values * spread + middle), info.min, info.max).astype(dtype)
    rounded[~rounded.any(axis=1), 0] = 1
    return rounded


def oracle_distances(
    base: npt.NDArray[Any], queries: npt.NDArray[Any], metric: str
) -> npt.NDArray[np.float64]:
    """All distances in double precision."""
    a, b = queries.astype(np.float64), base.astype(np.float64)
    products = a @ b.T
    if metric == "ip":
        return -products
    if metric == "cosine":
        lengths = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)[None, :]
        return 1.0 - products / lengths
    # One difference at a time: |a|^2 + |b|^2 - 2 ab would cancel.
    return np.stack([((row - b) ** 2).sum(axis=1) for row in a]) if len(a) else products


def oracle_search(
    base: npt.NDArray[Any], queries: npt.NDArray[Any], k: int, metric: str
) -> bigrain.SearchResult:
    """Nearest k in double precision, padded as the library pads."""
    all_distances = oracle_distances(base, queries, metric)
    order = np.argsort(all_distances, axis=1, kind="stable")[:, :k]
    ids = np.full((len(queries), k), -1, np.int64)
    distances = np.full((len(queries), k), np.inf, np.float32)
    ids[:, : order.shape[1]] = order
    distances[:, : order.shape[1]] = np.take_along_axis(all_distances, order, axis=1)
    return bigrain.SearchResult(ids, distances)


def assert_same(a: bigrain.SearchResult, b: bigrain.SearchResult) -> None:
    """Equal bit for bit."""
    np.testing.assert_array_equal(a.ids, b.ids)
    assert a.distances.tobytes() == b.distances.tobytes()


def read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a copy that refuses writes."""
    array = array.copy()
    array.flags.writeable = False
    return array


@pytest.fixture(scope="session")
def vectors() -> npt.NDArray[np.float32]:
    """3,000 Gaussian vectors of 24 dimensions."""
    return make_vectors(3000, 24)


@pytest.fixture(scope="session")
def queries() -> npt.NDArray[np.float32]:
    """200 queries for `vectors`."""
    return make_vectors(200, 24, seed=1)


@pytest.fixture(scope="session")
def index(vectors: npt.NDArray[np.float32]) -> bigrain.Index:
    """An index of `vectors`; tests must not change it."""
    return bigrain.Index.build(vectors, threads=2)


@pytest.fixture
def run_child() -> Callable[..., str]:
    """Run Python code in a fresh process and return what it prints; its failure is the test's."""

    def run(code: str, *, timeout: float = 120, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, **environment},
        )
        assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run
