# SPDX-License-Identifier: Apache-2.0
"""Product quantization."""

from __future__ import annotations

from typing import Any

from bigrain import _core
from bigrain._progress import Progress, reporting
from bigrain.quant import _base
from bigrain.quant._product import (
    BITS,
    ProductQuantizer,
    check_codebooks,
    pack_codebooks,
)


class PQ(ProductQuantizer):
    """Product quantization: m sub-vectors, each coded by the nearest of 2**bits centroids.

    Args:
        m: sub-vectors, 1 to the dimension. Where m does not divide it, the first dim % m
            sub-vectors have one coordinate more.
        bits: 8 (one byte per sub-vector) or 4 (half a byte; distances are scored 32 codes at a
            time from tables of 8-bit entries, see `distance`).
        iterations: at most so many iterations of k-means per sub-vector; it ends earlier where
            the error falls by less than 0.03 % in one.

    A code of 8 bits is one byte per sub-vector. With 4 bits, sub-vector 2 i lies in the low and
    2 i + 1 in the high half of byte i. A sub-vector goes to the centroid c of least
    |c|^2 / 2 - <c, x>, in float32 relative to the codebook's mean, ties to the smaller number.
    """

    def __init__(self, m: int, bits: int = 8, *, iterations: int = 25) -> None:
        super().__init__(m, bits, iterations)

    @classmethod
    def from_codebooks(cls, codebooks: Any, *, dim: int | None = None) -> PQ:
        """Make a fitted quantizer from (m, 16 or 256, dsub) centroids, as `codebooks` gives them.

        Args:
            codebooks: any float array; kept as float32, bit by bit.
            dim: needed where m does not divide it; the last column of the shorter sub-vectors is
                then ignored.
        """
        books, dim = check_codebooks(codebooks, dim)
        self = cls(len(books), 8 if books.shape[1] == BITS[8] else 4)
        self._core = _core.PQ(dim, self._m, self._bits, pack_codebooks(books, dim))
        return self

    def fit(self, x: Any, *, threads: int = 0, seed: int = 0, progress: Progress = None) -> PQ:
        """Train the codebooks by k-means and return self.

        Args:
            x: (n, dim) vectors, n at least 2**bits; of more than 65,536 rows (16,384 with 4 bits)
                a random sample of that size is used.
            threads: 0 means every core this process may use; the result does not depend on it.
            seed: of the sample and of the first centroids.
            progress: None, True for a bar, or a callable (done, total); False from it cancels.

        Raises:
            ValueError: NaN, infinity, fewer than 2**bits rows, fewer dimensions than m.
        """
        rows = _base.check_training(x, BITS[self._bits], f"one per centroid of {self._bits} bits")
        if rows.shape[1] < self._m:
            raise ValueError(
                f"x: expected at least m = {self._m} dimensions, one per sub-vector, "
                f"found {rows.shape[1]}; choose a smaller m"
            )
        seed, threads = _base.check_seed(seed), _base.check_threads(threads)
        with reporting(progress, "k-means", "rows") as callback:
            self._core = _core.PQ.fit(
                rows, self._m, self._bits, self._iterations, seed, threads, callback
            )
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle keeps: the parameters and the codebooks."""
        state: dict[str, Any] = {"m": self._m, "bits": self._bits, "iterations": self._iterations}
        if self._core is not None:
            state |= {"dim": self.dim, "codebooks": self.codebooks}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Check what pickle kept as the constructors do."""
        PQ.__init__(self, state["m"], state["bits"], iterations=state["iterations"])
        if "codebooks" in state:
            self._core = PQ.from_codebooks(state["codebooks"], dim=state["dim"])._core
