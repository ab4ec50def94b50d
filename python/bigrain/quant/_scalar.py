# SPDX-License-Identifier: Apache-2.0
"""Scalar codes with one scale per vector: what indexes walk on, as a quantizer of its own."""

from __future__ import annotations

from typing import Any

from bigrain import _core
from bigrain.quant import _base
from bigrain.quant._rotated import RotatedQuantizer


class ScalarQuantizer(RotatedQuantizer):
    """Scalar codes of 8 or 4 bits per dimension, with one scale per vector.

    The fastest codes to compare: a distance is one integer inner product of the record with the
    query, which is rounded to 8 bits itself. Distances are those between what the two codes stand
    for. They are those of an index, whose 8-bit codes these are.

    A record holds the codes, zeros, and in its last 8 bytes float32 scale and squared length; its
    size is a multiple of 64 bytes, so that records of an aligned array lie on whole cache lines.
    decode() gives centre + P.T @ (scale * code) with codes in [-127, 127], one per byte, or
    2 * u - 15 for nibbles u. In line l of 64 bytes, byte i holds codes 128 * l + i (low nibble) and
    128 * l + 64 + i (high); in the last line 56 + 56 codes stand before the two floats.

    Args:
        bits: 8 or 4 per dimension.
    """

    __slots__ = ()

    _TYPE = _core.ScalarQuantizer

    def __init__(self, bits: int = 8) -> None:
        super().__init__(bits)

    @staticmethod
    def _check_bits(bits: Any) -> int:
        return _base.check_bits(bits)
