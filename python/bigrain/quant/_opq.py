# SPDX-License-Identifier: Apache-2.0
"""Product quantization behind a trained rotation."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bigrain import _core
from bigrain._arrays import check_values, to_numpy
from bigrain._checks import check_integer, check_limit
from bigrain._progress import Progress, reporting
from bigrain.quant import _base
from bigrain.quant._product import (
    BITS,
    MAX_ITERATIONS,
    ProductQuantizer,
    check_codebooks,
    pack_codebooks,
)

# Rotations of float32 or float16 lie well within; whatever does not keep lengths to three digits
# would make decode, which turns back by the transpose, wrong.
ORTHONORMAL = 1e-3


def check_rotation(value: Any) -> npt.NDArray[np.float32]:
    """Return a (dim, d_out) rotation with orthonormal columns."""
    rotation = to_numpy(value, "rotation")
    if rotation.dtype.kind != "f":
        raise TypeError(f"rotation: expected float32, found dtype {rotation.dtype}")
    if rotation.ndim != 2 or not 1 <= rotation.shape[1] <= rotation.shape[0]:
        raise ValueError(
            f"rotation: expected shape (dim, d_out) with 1 <= d_out <= dim, found {rotation.shape}"
        )
    rotation = np.require(rotation, np.float32, ["C", "A"])
    check_values(rotation, "l2", "rotation")
    off = float(np.abs(rotation.T @ rotation - np.eye(rotation.shape[1])).max())
    if off > ORTHONORMAL:
        raise ValueError(
            f"rotation: expected orthonormal columns, found products that are off by {off:.3g}"
        )
    return rotation


class OPQ(ProductQuantizer):
    """Optimized product quantization: PQ of x @ rotation, the rotation trained with the codebooks.

    Args:
        m: sub-vectors of the rotated vectors, 1 to d_out.
        bits: 8 or 4, as for `PQ`.
        d_out: columns of the rotation, at most the dimension, which is the default. What lies
            outside them is lost to the codes.
        n_iter: alternations between codebooks and rotation.
        iterations: at most so many iterations of k-means after the last rotation.

    Codes are laid out as for `PQ`.
    """

    def __init__(
        self,
        m: int,
        bits: int = 8,
        *,
        d_out: int | None = None,
        n_iter: int = 40,
        iterations: int = 25,
    ) -> None:
        super().__init__(m, bits, iterations)
        self._n_iter = check_integer(n_iter, "n_iter", 0, MAX_ITERATIONS)
        self._d_out = None if d_out is None else check_limit_of_columns(d_out, self._m)

    @classmethod
    def from_arrays(cls, rotation: Any, codebooks: Any) -> OPQ:
        """Make a fitted quantizer from a `rotation` and `codebooks` as these properties give them.

        Args:
            rotation: (dim, d_out) with orthonormal columns; kept as float32, bit by bit.
            codebooks: (m, 16 or 256, ceil(d_out / m)).
        """
        matrix = check_rotation(rotation)
        books, coded = check_codebooks(codebooks, matrix.shape[1])
        self = cls(len(books), 8 if books.shape[1] == BITS[8] else 4, d_out=coded)
        packed = pack_codebooks(books, coded)
        self._core = _core.OPQ(matrix, self._m, self._bits, packed)
        return self

    @property
    def rotation(self) -> npt.NDArray[np.float32]:
        """The rotation, (dim, d_out): x @ rotation is what is coded."""
        core = self._fitted()
        assert isinstance(core, _core.OPQ)
        return core.rotation()

    def fit(self, x: Any, *, threads: int = 0, seed: int = 0, progress: Progress = None) -> OPQ:
        """Train rotation and codebooks and return self.

        Args:
            x: (n, dim) vectors, n at least 2**bits; of more than 65,536 rows a random sample of
                that size is used.
            threads: 0 means every core this process may use; the result does not depend on it.
            seed: of the sample and of the first centroids.
            progress: None, True for a bar, or a callable (done, total); False from it cancels.

        Raises:
            ValueError: NaN, infinity, fewer than 2**bits rows, fewer dimensions than m or d_out.
        """
        rows = _base.check_training(x, BITS[self._bits], f"one per centroid of {self._bits} bits")
        dim = rows.shape[1]
        d_out = dim if self._d_out is None else self._d_out
        if dim < max(d_out, self._m):
            raise ValueError(
                f"x: expected at least {max(d_out, self._m)} dimensions, for m = {self._m} and "
                f"d_out = {self._d_out}, found {dim}; choose a smaller m or d_out"
            )
        seed, threads = _base.check_seed(seed), _base.check_threads(threads)
        with reporting(progress, "rotation and k-means", "rows") as callback:
            self._core = _core.OPQ.fit(
                rows,
                d_out,
                self._m,
                self._bits,
                self._n_iter,
                self._iterations,
                seed,
                threads,
                callback,
            )
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle keeps: the parameters and the arrays."""
        state: dict[str, Any] = {
            "m": self._m,
            "bits": self._bits,
            "d_out": self._d_out,
            "n_iter": self._n_iter,
            "iterations": self._iterations,
        }
        if self._core is not None:
            state |= {"rotation": self.rotation, "codebooks": self.codebooks}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Check what pickle kept as the constructors do."""
        names = ("d_out", "n_iter", "iterations")
        OPQ.__init__(self, state["m"], state["bits"], **{name: state[name] for name in names})
        if "codebooks" in state:
            self._core = OPQ.from_arrays(state["rotation"], state["codebooks"])._core


def check_limit_of_columns(d_out: Any, m: int) -> int:
    """Return d_out: a dimension, and at least one column per sub-vector."""
    columns = check_limit(d_out, "dim")
    if columns < m:
        raise ValueError(f"d_out: expected at least m = {m}, found {columns}")
    return columns
