# SPDX-License-Identifier: Apache-2.0
"""Quantizers on their own: fit, encode, decode, distance; no index, no search."""

from bigrain.quant._base import Quantizer
from bigrain.quant._opq import OPQ
from bigrain.quant._pq import PQ

__all__ = [
    "OPQ",
    "PQ",
    "Quantizer",
]
