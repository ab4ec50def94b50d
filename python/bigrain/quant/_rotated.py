# SPDX-License-Identifier: Apache-2.0
"""What RaBitQ and ScalarQuantizer share: a centre, a rotation, and records of bytes."""

from __future__ import annotations

from typing import Any, ClassVar, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from bigrain import _core
from bigrain._arrays import to_numpy
from bigrain._checks import Metric, check_limit
from bigrain._progress import Progress, reporting
from bigrain.quant import _base

Core: TypeAlias = _core.Rabitq | _core.ScalarQuantizer
Self = TypeVar("Self", bound="RotatedQuantizer")


class RotatedQuantizer(_base.CoreQuantizer):
    """Encodes vectors that are centred on the mean of a sample and rotated at random."""

    __slots__ = ()

    _TYPE: ClassVar[type[_core.Rabitq] | type[_core.ScalarQuantizer]]

    def __init__(self, bits: int) -> None:
        super().__init__(self._check_bits(bits))

    @staticmethod
    def _check_bits(bits: Any) -> int:
        raise NotImplementedError

    @property
    def bits(self) -> int:
        """Bits per dimension."""
        return self._bits

    @property
    def dim(self) -> int:
        """Dimensions of the vectors."""
        return int(self._fitted().dim)

    @property
    def code_size(self) -> int:
        """Bytes of one record."""
        return int(self._fitted().code_size)

    @property
    def centre(self) -> _base.Floats:
        """The (dim,) float32 vector that is subtracted before the rotation; a copy."""
        return np.asarray(self._fitted().centre())

    @property
    def signs(self) -> npt.NDArray[np.uint8]:
        """The rotation: (4 * ceil(dim / 8),) bytes of sign bits, round by round; a copy."""
        return np.asarray(self._fitted().signs())

    def fit(
        self: Self, x: Any, *, threads: int = 0, seed: int = 0, progress: Progress = None
    ) -> Self:
        """Take the mean of a sample as centre, and draw a rotation.

        Args:
            x: (n, dim) vectors, like those to be encoded; all of them, or some thousands.
            threads: 0 means every core this process may use. The result does not depend on it.
            seed: of the rotation.
            progress: None, True for a bar, or a callable (done, total); False from it cancels.

        Returns:
            self. Codes of an earlier fit do not fit any more.
        """
        rows = _base.check_training(x, 1, "to fit to")
        seed = _base.check_seed(seed)
        threads = _base.check_threads(threads)
        with reporting(progress, "fit", "vectors") as callback:
            self._core = self._TYPE.fit(rows, self._bits, seed, threads, callback)
        return self

    @classmethod
    def from_arrays(cls: type[Self], bits: int, centre: Any, signs: Any) -> Self:
        """Make a fitted quantizer from `bits`, `centre` and `signs` of another one, bit for bit."""
        self = cls(bits)
        middle = np.ascontiguousarray(to_numpy(centre, "centre"), np.float32)
        bytes_ = to_numpy(signs, "signs")
        if middle.ndim != 1 or not np.isfinite(middle).all():
            raise ValueError("centre: expected a 1-D array of finite values")
        if bytes_.dtype != np.uint8 or bytes_.ndim != 1:
            raise TypeError(f"signs: expected 1-D uint8, found {bytes_.dtype} of {bytes_.ndim}-D")
        check_limit(middle.size, "dim")
        self._core = cls._TYPE.from_parts(self._bits, middle, np.ascontiguousarray(bytes_))
        return self

    def encode(self, x: Any, *, threads: int = 0, progress: Progress = None) -> _base.Codes:
        """Return the (n, code_size) records of (n, dim) vectors.

        A record is self-contained and in native byte order. The same input gives the same bytes
        with any number of threads and any instruction set.
        """
        core = self._fitted()
        rows = _base.check_rows(x, core.dim)
        threads = _base.check_threads(threads)
        codes = np.empty((rows.shape[0], core.code_size), np.uint8)
        with reporting(progress, "encode", "vectors") as callback:
            core.encode(rows, codes, threads, callback)
        return codes

    def decode(self, codes: Any, *, threads: int = 0, progress: Progress = None) -> _base.Floats:
        """Return the (n, dim) float32 vectors that records stand for, with least squared error."""
        core = self._fitted()
        records = _base.check_codes(codes, core.code_size)
        threads = _base.check_threads(threads)
        out = np.empty((records.shape[0], core.dim), np.float32)
        with reporting(progress, "decode", "vectors") as callback:
            core.decode(records, out, threads, callback)
        return out

    def distance(
        self,
        queries: Any,
        codes: Any,
        metric: Metric = "l2",
        *,
        threads: int = 0,
        progress: Progress = None,
    ) -> _base.Floats:
        """Return the (rows, n) float32 distances of queries to records; (n,) for a 1-D query.

        "l2" is squared and at least 0, "ip" negated, "cosine" 1 - similarity. For vectors of length
        1, "l2" loses less than the others, since queries are then centred too.
        """
        core, threads = self._fitted(), _base.check_threads(threads)
        with reporting(progress, "distance", "pairs") as callback:
            return _base.distances(
                lambda *arrays: core.distance(*arrays, threads, callback),
                queries,
                codes,
                metric,
                core.dim,
                core.code_size,
            )

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        if not self.is_fitted:
            return type(self), (self._bits,)
        return type(self).from_arrays, (self._bits, self.centre, self.signs)

    def __repr__(self) -> str:
        state = f"dim={self.dim}" if self.is_fitted else "not fitted"
        return f"{type(self).__name__}(bits={self._bits}, {state})"
