# SPDX-License-Identifier: Apache-2.0
"""What PQ and OPQ share: the layout of codebooks, and every verb but fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bigrain import _core
from bigrain._arrays import check_values, to_numpy
from bigrain._checks import Metric, check_integer, check_metric
from bigrain.quant import _base

# Centroids per sub-quantizer: 2**bits.
BITS = {8: 256, 4: 16}
MAX_ITERATIONS = 1_000


def lengths(dim: int, m: int) -> list[int]:
    """Return the sub-vectors' lengths: the first dim % m have one coordinate more."""
    return [dim // m + (i < dim % m) for i in range(m)]


def pack_codebooks(codebooks: npt.NDArray[np.float32], dim: int) -> npt.NDArray[np.float32]:
    """Return (1, 2**bits * dim): the codebooks one after another, without their padding."""
    parts = [
        book[:, :length].ravel()
        for book, length in zip(codebooks, lengths(dim, len(codebooks)), strict=True)
    ]
    return np.concatenate(parts)[None, :]


def unpack_codebooks(
    flat: npt.NDArray[np.float32], dim: int, m: int, bits: int
) -> npt.NDArray[np.float32]:
    """Return (m, 2**bits, ceil(dim / m)); shorter sub-vectors are padded with zeros."""
    books = np.zeros((m, BITS[bits], -(-dim // m)), np.float32)
    start = 0
    for book, length in zip(books, lengths(dim, m), strict=True):
        book[:, :length] = flat[start : start + BITS[bits] * length].reshape(-1, length)
        start += BITS[bits] * length
    return books


def check_codebooks(value: Any, dim: int | None) -> tuple[npt.NDArray[np.float32], int]:
    """Return (m, 16 or 256, dsub) codebooks and the dimension."""
    books = to_numpy(value, "codebooks")
    if books.dtype.kind != "f":
        raise TypeError(f"codebooks: expected float32, found dtype {books.dtype}")
    if books.ndim != 3 or books.shape[1] not in BITS.values() or 0 in books.shape:
        raise ValueError(f"codebooks: expected shape (m, 16 or 256, dsub), found {books.shape}")
    m, _, dsub = books.shape
    least, _, most = _core.LIMITS["dim"]
    dim = m * dsub if dim is None else check_integer(dim, "dim", least, most)
    if -(-dim // m) != dsub or dim < m:
        raise ValueError(
            f"codebooks: {m} sub-vectors of a dimension {dim} have at most {-(-dim // m)} "
            f"coordinates, found shape {books.shape}"
        )
    books = np.require(books, np.float32, ["C", "A"])
    check_values(books.reshape(-1, dsub), "l2", "codebooks")
    return books, dim


class ProductQuantizer(_base.CoreQuantizer):
    """Sub-vectors coded by the nearest of their centroids; PQ and OPQ say how they are trained."""

    def __init__(self, m: int, bits: int, iterations: int) -> None:
        super().__init__(_base.check_bits(bits))
        self._m = check_integer(m, "m", 1, _core.LIMITS["dim"][2])
        self._iterations = check_integer(iterations, "iterations", 1, MAX_ITERATIONS)

    @property
    def m(self) -> int:
        """Sub-vectors."""
        return self._m

    @property
    def bits(self) -> int:
        """Bits per sub-vector."""
        return self._bits

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return int(self._fitted().dim())

    @property
    def code_size(self) -> int:
        """Bytes per code: m with 8 bits, (m + 1) // 2 with 4."""
        return self._m if self._bits == 8 else (self._m + 1) // 2

    @property
    def codebooks(self) -> npt.NDArray[np.float32]:
        """The centroids, (m, 2**bits, ceil(coded / m)); shorter sub-vectors end in a zero.

        `coded` is what is cut into sub-vectors: dim, or the columns of a rotation.
        """
        flat = self._fitted().codebooks()
        return unpack_codebooks(flat, flat.size // BITS[self._bits], self._m, self._bits)

    def encode(self, x: Any, *, threads: int = 0) -> _base.Codes:
        """Return the (n, code_size) codes of (n, dim) vectors."""
        core = self._fitted()
        rows = _base.check_rows(x, core.dim())
        codes = np.empty((rows.shape[0], self.code_size), np.uint8)
        core.encode(rows, codes, _base.check_threads(threads))
        return codes

    def decode(self, codes: Any, *, threads: int = 0) -> _base.Floats:
        """Return the (n, dim) vectors that codes stand for: their centroids, side by side."""
        core = self._fitted()
        checked = _base.check_codes(codes, self.code_size)
        rows = np.empty((checked.shape[0], core.dim()), np.float32)
        core.decode(checked, rows, _base.check_threads(threads))
        return rows

    def distance(
        self, queries: Any, codes: Any, metric: Metric = "l2", *, threads: int = 0
    ) -> _base.Floats:
        """Return the distances from queries to the vectors that codes stand for.

        Args:
            queries: (q, dim), or (dim,) for one query; they are not quantized.
            codes: (n, code_size).
            metric: "l2" (squared), "ip" (negated) or "cosine" (1 - similarity).
            threads: 0 means every core this process may use.

        Returns:
            float32 (q, n), or (n,) for one 1-D query. With 8 bits they are those of `decode`'s
            vectors up to rounding. With 4 bits the query's tables are rounded to 8 bits: a
            distance may be off by `distance_error`.
        """
        core, threads = self._fitted(), _base.check_threads(threads)
        return _base.distances(
            lambda *arrays: core.distance(*arrays, threads),
            queries,
            codes,
            metric,
            core.dim(),
            self.code_size,
        )

    def distance_error(self, queries: Any, metric: Metric = "l2") -> _base.Floats:
        """Return, per query, how far `distance` may be from the distance to `decode`'s vectors.

        That is m / 510 of the widest range among the query's m tables with 4 bits, 0 with 8, and
        in both cases without the rounding of float32. Under "cosine" it is the error of the inner
        product, before the division by the norms.
        """
        core, metric = self._fitted(), check_metric(metric)
        asked, single = _base.check_queries(queries, core.dim(), metric)
        out = np.empty((asked.shape[0], 1), np.float32)
        core.error_bound(asked, metric, out)
        return out[0, 0] if single else out[:, 0]

    def __repr__(self) -> str:
        """Return the constructor's call, and the dimension once it is known."""
        known = f", dim={self.dim}" if self.is_fitted else ", not fitted"
        return f"{type(self).__name__}(m={self._m}, bits={self._bits}{known})"
