# SPDX-License-Identifier: Apache-2.0
"""Quantizers on their own: vectors to compact codes, and distances from the codes alone.

All share their verbs (`Quantizer`): `fit(x)` learns from a sample, `encode(x)` gives `code_size`
bytes per vector, `decode(codes)` gives vectors back, and `distance(queries, codes, metric)`
compares whole queries with codes. There is no index and no search.
"""

from bigrain.quant._base import Quantizer
from bigrain.quant._opq import OPQ
from bigrain.quant._pq import PQ
from bigrain.quant._rabitq import DistanceBounds, RaBitQ
from bigrain.quant._scalar import ScalarQuantizer

__all__ = [
    "OPQ",
    "PQ",
    "DistanceBounds",
    "Quantizer",
    "RaBitQ",
    "ScalarQuantizer",
]
