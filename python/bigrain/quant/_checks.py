# SPDX-License-Identifier: Apache-2.0
"""Arguments of quantizers: vectors, queries and codes, with errors in their words."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from bigrain._arrays import AnyArray, as_queries, as_vectors, check_values, to_numpy


def as_sample(value: Any) -> AnyArray:
    """Return the rows that a quantizer is fitted to: at least one, of finite length."""
    x = as_vectors(value, "x")
    if x.shape[0] == 0:
        raise ValueError("x: expected at least one row to fit to, found none")
    check_values(x, "l2", "x")
    return x


def as_rows(value: Any, dim: int) -> AnyArray:
    """Return vectors to encode, of the quantizer's dimension."""
    x = as_vectors(value, "x")
    if x.shape[1] != dim:
        raise ValueError(f"x: the quantizer has {dim} dimensions, found shape {x.shape}")
    check_values(x, "l2", "x")
    return x


def as_asked(value: Any, dim: int, metric: str) -> tuple[AnyArray, bool]:
    """Return (rows, dim) float32 queries, and whether one 1-D query came."""
    queries = to_numpy(value, "queries")
    if queries.ndim in (1, 2) and queries.shape[-1] != dim:
        raise ValueError(
            f"queries: the quantizer has {dim} dimensions, found shape {queries.shape}"
        )
    asked, single = as_queries(queries, dim, np.dtype(np.float32))
    check_values(asked, metric, "queries")
    return asked, single


def as_codes(value: Any, code_size: int) -> npt.NDArray[np.uint8]:
    """Return (n, code_size) records as C-contiguous bytes."""
    codes = to_numpy(value, "codes")
    if codes.dtype != np.uint8:
        raise TypeError(f"codes: expected uint8 as from encode(), found dtype {codes.dtype}")
    if codes.ndim != 2 or codes.shape[1] != code_size:
        raise ValueError(
            f"codes: expected shape (n, {code_size}) as from encode(), found {codes.shape}"
        )
    return np.ascontiguousarray(codes)


def check_epsilon(value: Any) -> float:
    """Return a number of standard errors: finite and at least 0."""
    if isinstance(value, bool):
        raise TypeError("epsilon: expected a number, found a bool")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"epsilon: expected a number, found {value!r}") from None
    if not (math.isfinite(number) and 0 <= number <= 1e6):
        raise ValueError(f"epsilon: expected 0 to 1e6, found {number}")
    return number
