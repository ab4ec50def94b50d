# SPDX-License-Identifier: Apache-2.0
"""k-means for any number of clusters, from k-means++ seeds; numpy only, for thousands of rows.

Arthur and Vassilvitskii, SODA 2007. The codebooks of `PQ` come from the core's own, of 16 or 256.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bigrain._checks import require

Rows = npt.NDArray[np.int64]

BLOCK = 4096  # rows compared with all centroids at once


def k_means(x: Any, k: int, *, seed: int = 0, iterations: int = 10, least: int = 1) -> Rows:
    """Cluster (n, d) vectors by Lloyd's iterations; return (n,) labels below k.

    Args:
        x: vectors.
        k: clusters, 1 to n.
        seed: of the first centroids, rows drawn far from each other (k-means++).
        iterations: of Lloyd; few do where clusters need not have converged.
        least: clusters with fewer rows are dissolved into the nearest others.
    """
    x = np.asarray(x, np.float32)
    require(1 <= k <= len(x), "k", f"1 to {len(x)} clusters", k)
    rng = np.random.default_rng(seed)
    first = [int(rng.integers(len(x)))]
    gap = np.full(len(x), np.inf)
    while len(first) < k:
        gap = np.minimum(gap, ((x - x[first[-1]]) ** 2).sum(axis=1, dtype=np.float64))
        if not (total := gap.sum()):
            break  # fewer distinct rows than clusters
        first.append(int(rng.choice(len(x), p=gap / total)))
    centres = x[first]
    for _ in range(iterations):
        labels = _nearest(x, centres)
        counts = np.bincount(labels, minlength=len(centres))
        sums = np.zeros_like(centres)
        np.add.at(sums, labels, x)
        kept = counts > 0
        centres = sums[kept] / counts[kept, None]
    while True:
        labels = _nearest(x, centres)
        counts = np.bincount(labels, minlength=len(centres))
        if len(centres) == 1 or counts.min() >= least:
            return labels
        centres = np.delete(centres, counts.argmin(), axis=0)


def _nearest(x: npt.NDArray[np.float32], centres: npt.NDArray[np.float32]) -> Rows:
    half = (centres**2).sum(axis=1) / 2
    blocks = [x[i : i + BLOCK] for i in range(0, len(x), BLOCK)]
    return np.concatenate([np.argmin(half - part @ centres.T, axis=1) for part in blocks])
