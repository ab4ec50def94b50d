# SPDX-License-Identifier: Apache-2.0
"""What every quantizer offers, and the argument checks that they share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from bigrain import _core
from bigrain._arrays import AnyArray, as_vectors, check_values, to_numpy
from bigrain._checks import MAX_SEED, Metric, check_integer, check_limit, check_metric
from bigrain._progress import Progress

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]
Self = TypeVar("Self", bound="Quantizer")


@runtime_checkable
class Quantizer(Protocol):
    """Vectors to codes and back, and distances from queries to codes.

    `threads=0` is every core this process may use. Results are the same bytes for every number of
    threads and every instruction set.
    """

    @property
    def is_fitted(self) -> bool:
        """Whether encode, decode and distance may be called."""

    @property
    def dim(self) -> int:
        """Length of the vectors."""

    @property
    def code_size(self) -> int:
        """Bytes per code."""

    def fit(
        self: Self, x: Any, *, threads: int = 0, seed: int = 0, progress: Progress = None
    ) -> Self:
        """Train on the rows of `x` and return self."""

    def encode(self, x: Any, *, threads: int = 0) -> Codes:
        """Return (n, code_size) codes of (n, dim) vectors."""

    def decode(self, codes: Any, *, threads: int = 0) -> Floats:
        """Return the (n, dim) vectors that (n, code_size) codes stand for."""

    def distance(
        self, queries: Any, codes: Any, metric: Metric = "l2", *, threads: int = 0
    ) -> Floats:
        """Return (q, n) distances from queries to codes; (n,) for one 1-D query."""


class CoreQuantizer:
    """What all quantizers do alike: they hold a quantizer of the core once they are fitted."""

    __slots__ = ("__weakref__", "_bits", "_core")

    _bits: int
    _core: Any

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._core = None

    @property
    def is_fitted(self) -> bool:
        """Whether encode, decode and distance may be called."""
        return self._core is not None

    def _fitted(self) -> Any:
        if self._core is None:
            raise not_fitted(self)
        return self._core


def distances(
    run: Callable[[Floats, Codes, str, Floats], None],
    queries: Any,
    codes: Any,
    metric: Any,
    dim: int,
    code_size: int,
) -> Floats:
    """Return what `run(queries, codes, metric, out)` writes to out, (q, n); (n,) for one query."""
    metric = check_metric(metric)
    asked, single = check_queries(queries, dim, metric)
    records = check_codes(codes, code_size)
    out = np.empty((asked.shape[0], records.shape[0]), np.float32)
    run(asked, records, metric, out)
    return out[0] if single else out


def check_training(x: Any, least: int, reason: str, name: str = "x") -> AnyArray:
    """Return training vectors of a stored type: finite, and at least `least` rows of them."""
    array = as_vectors(x, name)
    if array.shape[0] < least:
        rows = "one row" if least == 1 else f"{least} rows"
        raise ValueError(
            f"{name}: expected at least {rows}, {reason}, found {array.shape[0]}; pass more rows"
        )
    check_values(array, "l2", name)
    return array


def check_rows(x: Any, dim: int, name: str = "x") -> AnyArray:
    """Return (n, dim) finite vectors of a stored type."""
    array = as_vectors(x, name)
    if array.shape[1] != dim:
        raise ValueError(f"{name}: the quantizer has {dim} dimensions, found shape {array.shape}")
    check_values(array, "l2", name)
    return array


def check_queries(queries: Any, dim: int, metric: Metric) -> tuple[Floats, bool]:
    """Return (q, dim) float32 queries, and whether one 1-D query came."""
    array = to_numpy(queries, "queries")
    single = array.ndim == 1
    rows = as_vectors(array[None, :] if single else array, "queries")
    if rows.shape[1] != dim:
        raise ValueError(f"queries: the quantizer has {dim} dimensions, found shape {array.shape}")
    check_values(rows, metric, "queries")
    return np.require(rows, np.float32, ["C", "A"]), single


def check_codes(codes: Any, code_size: int) -> Codes:
    """Return (n, code_size) codes as C-contiguous uint8."""
    array = to_numpy(codes, "codes")
    if array.dtype != np.uint8:
        raise TypeError(f"codes: expected uint8 as encode returns, found dtype {array.dtype}")
    if array.ndim != 2 or array.shape[1] != code_size:
        raise ValueError(f"codes: expected shape (n, {code_size}), found {array.shape}")
    return np.require(array, np.uint8, ["C", "A"])


def check_bits(bits: Any) -> int:
    """Return 4 or 8, for quantizers that have these two."""
    number = check_integer(bits, "bits", 1, 8)
    if number not in (4, 8):
        raise ValueError(f"bits: expected 4 or 8, found {number}")
    return number


def check_seed(seed: Any) -> int:
    """Return a seed of the core's 64-bit generator."""
    return check_integer(seed, "seed", 0, MAX_SEED)


def check_threads(threads: Any) -> int:
    """Return a number of threads; 0 becomes the cores that this process may use."""
    return check_limit(threads, "threads") or _core.usable_cores()


def not_fitted(quantizer: object) -> ValueError:
    """Return the error of a call that needs a fitted quantizer."""
    name = type(quantizer).__name__
    return ValueError(f"{name}: not fitted; call fit(x) first, or make one from trained arrays")
