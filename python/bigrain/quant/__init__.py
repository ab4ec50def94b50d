# SPDX-License-Identifier: Apache-2.0
"""Quantizers on their own: vectors to compact codes, and distances from the codes alone.

All share their verbs: `fit(x)` learns from a sample, `encode(x)` gives one self-contained record of
`code_size` bytes per vector, `decode(codes)` gives vectors back, and `distance(queries, codes,
metric)` compares whole queries with codes.
"""

from bigrain.quant._rabitq import DistanceBounds, RaBitQ
from bigrain.quant._scalar import ScalarQuantizer

__all__ = ["DistanceBounds", "RaBitQ", "ScalarQuantizer"]
