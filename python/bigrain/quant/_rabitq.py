# SPDX-License-Identifier: Apache-2.0
"""RaBitQ: codes whose distances are unbiased and come with bounds."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from bigrain import _core
from bigrain._checks import Metric, check_integer, check_metric, check_number
from bigrain._progress import Progress, reporting
from bigrain.quant import _base
from bigrain.quant._rotated import RotatedQuantizer

MIN_BITS, MAX_BITS = 1, 8


def check_epsilon(value: Any) -> float:
    """Return a number of standard errors: finite and at least 0."""
    number = check_number(value, "epsilon")
    if not (math.isfinite(number) and 0 <= number <= 1e6):
        raise ValueError(f"epsilon: expected 0 to 1e6, found {number}")
    return number


class DistanceBounds(NamedTuple):
    """Distances with the ends of their intervals, (rows, n) float32 each."""

    estimate: _base.Floats
    lower: _base.Floats
    upper: _base.Floats


class RaBitQ(RotatedQuantizer):
    """RaBitQ codes of 1 to 8 bits per dimension (Gao et al., SIGMOD 2024 and 2025).

    A vector is centred, rotated at random, and replaced by the grid point nearest in direction;
    two numbers make its inner products unbiased, a third says how far they may be off. Take 1 bit
    to filter, 4 to 5 to rank, 7 to 8 where nothing may be lost.

    A record holds ceil(dim / 8) bytes per bit, the highest bit's first, then 12 bytes, and for
    more than one bit 8 more at its end; its first bytes are the record of `first_bit()`.

    With g = code - (2**bits - 1) / 2 and the record's |r|**2 and `scale`, decode() gives
    centre + P.T @ (g * |r|**2 / (scale * |g|**2)), the multiple of g with least squared error,
    while distances use scale * g, with which they are unbiased.

    Args:
        bits: 1 to 8 per dimension.
    """

    __slots__ = ()

    _TYPE = _core.Rabitq

    def __init__(self, bits: int = 4) -> None:
        super().__init__(bits)

    @staticmethod
    def _check_bits(bits: Any) -> int:
        return check_integer(bits, "bits", MIN_BITS, MAX_BITS)

    def first_bit(self) -> RaBitQ:
        """Return the 1-bit quantizer with the same centre and rotation.

        `codes[:, : q.first_bit().code_size]` are its records, bit for bit: what they cannot rule
        out needs the rest.
        """
        return RaBitQ.from_arrays(1, self.centre, self.signs)

    def distance_bounds(
        self,
        queries: Any,
        codes: Any,
        metric: Metric = "l2",
        *,
        epsilon: float = 1.9,
        threads: int = 0,
        progress: Progress = None,
    ) -> DistanceBounds:
        """Return distances, and the interval that holds each true one at a known rate.

        Args:
            queries: (rows, dim), or (dim,) for one query.
            codes: (n, code_size) from `encode`.
            metric: "l2" or "ip".
            epsilon: half the width in standard errors of a nearly Gaussian error: 1.9 holds for
                94 of 100 pairs, 3 for 997 of 1,000.
            threads: 0 means every core this process may use.
            progress: None, True for a bar, or a callable (done, total); False from it cancels.

        Returns:
            DistanceBounds: `lower <= estimate <= upper`; `estimate` is what `distance` returns.
        """
        core = self._fitted()
        metric = check_metric(metric)
        epsilon = check_epsilon(epsilon)
        asked, single = _base.check_queries(queries, core.dim, metric)
        records = _base.check_codes(codes, core.code_size)
        threads = _base.check_threads(threads)
        shape = (asked.shape[0], records.shape[0])
        out = DistanceBounds(*(np.empty(shape, np.float32) for _ in range(3)))
        with reporting(progress, "distance bounds", "pairs") as callback:
            core.distance_bounds(asked, records, metric, epsilon, *out, threads, callback)
        return DistanceBounds(*(part[0] for part in out)) if single else out
