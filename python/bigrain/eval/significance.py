# SPDX-License-Identifier: Apache-2.0
"""Is a difference between two systems more than the luck of these queries? Paired tests.

Smucker, Allan and Carterette (CIKM 2007): the randomization test (a permutation test of the signs
of the per-query differences) and the bootstrap agree with the t-test for means, Wilcoxon and sign
tests do not; both of the former are here. Pairs with NaN in either system (skipped queries) are
left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

# Draws at once: 1,000 queries take 8 MB.
_BLOCK = 1000


@dataclass(frozen=True)
class Comparison:
    """Outcome of a paired test of b against a.

    Attributes:
        difference: mean of b - a over the pairs.
        p: two-sided p-value of no difference.
        low, high: 95% confidence interval of the difference, from the bootstrap.
        pairs: number of pairs.
    """

    difference: float
    p: float
    low: float
    high: float
    pairs: int


def differences(a: Any, b: Any) -> npt.NDArray[np.float64]:
    """Return b - a of the pairs without NaN.

    Raises:
        ValueError: shapes that differ, or no pair left.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(
            f"b: expected one value per query as in a, shape {a.shape}, found {b.shape}; the "
            "test is paired"
        )
    d: npt.NDArray[np.float64] = (b - a)[~(np.isnan(a) | np.isnan(b))]
    if not len(d):
        raise ValueError("a, b: expected at least one pair without NaN, found none")
    return d


def permutation_test(a: Any, b: Any, *, draws: int = 10_000, seed: int = 0) -> float:
    """Return the two-sided p-value of the mean of b - a under random signs.

    Args:
        a, b: (n,) values per query of two systems, same queries in the same order.
        draws: random sign vectors; p is at least 1 / (draws + 1).
        seed: of the draws.
    """
    d = differences(a, b)
    # Rounding must not make a sign vector that leaves all as it is less extreme than it is.
    observed = abs(d.sum()) * (1 - 1e-12)
    rng = np.random.default_rng(seed)
    extreme = 0
    for block in _blocks(draws):
        signs = rng.integers(0, 2, (block, len(d)), np.int8) * np.int8(2) - np.int8(1)
        extreme += int((np.abs(signs @ d) >= observed).sum())
    return (extreme + 1) / (draws + 1)


def bootstrap_interval(
    a: Any, b: Any, *, draws: int = 10_000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile interval of the mean of b - a under resampled queries.

    Args:
        a, b: (n,) values per query of two systems.
        draws: resamples.
        level: of confidence.
        seed: of the draws.
    """
    d = differences(a, b)
    rng = np.random.default_rng(seed)
    means = [d[rng.integers(0, len(d), (block, len(d)))].mean(axis=1) for block in _blocks(draws)]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def compare(a: Any, b: Any, *, draws: int = 10_000, seed: int = 0) -> Comparison:
    """Return the difference of b from a with its permutation p-value and bootstrap interval."""
    d = differences(a, b)
    low, high = bootstrap_interval(a, b, draws=draws, seed=seed)
    p = permutation_test(a, b, draws=draws, seed=seed)
    return Comparison(float(d.mean()), p, low, high, len(d))


def _blocks(draws: int) -> list[int]:
    if draws < 1:
        raise ValueError(f"draws: expected 1 or more, found {draws}")
    return [_BLOCK] * (draws // _BLOCK) + [draws % _BLOCK] * (draws % _BLOCK > 0)
