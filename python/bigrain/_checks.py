# SPDX-License-Identifier: Apache-2.0
"""Arguments: types, ranges and shapes, with errors that say what was found and what is allowed.

A message names the argument, what was expected, what was found and, where it helps, what to do.
"""

from __future__ import annotations

import operator
import os
from typing import Any, Literal, TypeAlias, cast

from bigrain import _core

Metric: TypeAlias = Literal["l2", "ip", "cosine"]
Builder: TypeAlias = Literal["auto", "vamana", "partitioned"]
Layout: TypeAlias = Literal["auto", "compact", "fast"]
Verify: TypeAlias = Literal["full", "header", "off"]

METRICS = ("l2", "ip", "cosine")
BUILDERS = ("auto", "vamana", "partitioned")
LAYOUTS = ("auto", "compact", "fast")
VERIFY_LEVELS = ("full", "header", "off")
# Fewer vectors than this fit any memory.
PQ_FROM = 4096
# build() draws from a 64-bit generator.
MAX_SEED = 2**64 - 1


def require(fine: Any, name: str, expected: str, found: Any, advice: str = "") -> None:
    """Raise ValueError unless `fine`; `advice` says what to do."""
    if not fine:
        raise ValueError(f"{name}: expected {expected}, found {found}{advice and '; ' + advice}")


def require_choice(value: Any, name: str, *choices: str) -> None:
    """Raise ValueError where `value` is none of the choices."""
    *others, last = map(repr, choices)
    require(value in choices, name, f"{', '.join(others)} or {last}", repr(value))


def check_shape(x: Any, name: str, *shape: int | str) -> None:
    """Raise ValueError where a tensor or an array has another shape; a name: any length.

    None passes: an argument that was not given has no shape.
    """
    if x is None:
        return
    fixed = [(want, n) for want, n in zip(shape, x.shape, strict=False) if isinstance(want, int)]
    fine = len(shape) == len(x.shape) and all(want == n for want, n in fixed)
    wanted = ", ".join(map(str, shape)) + "," * (len(shape) == 1)
    require(fine, name, f"shape ({wanted})", tuple(x.shape))


def check_integer(value: Any, name: str, least: int, most: int) -> int:
    """Return `value` as an int in [least, most]."""
    if isinstance(value, bool):
        raise TypeError(f"{name}: expected an integer, found a bool")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{name}: expected an integer, found {value!r} of type {type(value).__name__}"
        ) from None
    if not least <= number <= most:
        raise ValueError(f"{name}: expected {least} to {most}, found {number}")
    return number


def check_limit(value: Any, name: str) -> int:
    """Check an integer parameter against the core's own limits (cpp/include/bigrain/params.h)."""
    least, _, most = _core.LIMITS[name]
    return check_integer(value, name, least, most)


def check_number(value: Any, name: str) -> float:
    """Return `value` as a float."""
    if isinstance(value, bool):
        raise TypeError(f"{name}: expected a number, found a bool")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected a number, found {value!r}") from None


def check_fraction(value: Any, name: str) -> float:
    """Return `value` as a float in (0, 1]."""
    number = check_number(value, name)
    if not 0.0 < number <= 1.0:
        raise ValueError(f"{name}: expected above 0 and at most 1, found {number}")
    return number


def check_slack(value: Any) -> float:
    """Return `value` as a float of at least 0."""
    number = check_number(value, "slack")
    if not number >= 0.0:
        raise ValueError(f"slack: expected at least 0, found {number}")
    return number


def check_alpha(value: Any, metric: str) -> float:
    """Return alpha for `metric`; None gives the metric's default."""
    least, default, most = _core.LIMITS["alpha_ip" if metric == "ip" else "alpha"]
    if value is None:
        return cast(float, default)
    number = check_number(value, "alpha")
    if not least <= number <= most:
        raise ValueError(f"alpha: expected {least} to {most} for metric {metric!r}, found {number}")
    return number


def check_choice(value: Any, name: str, choices: tuple[str, ...]) -> str:
    """Return `value` where it is one of `choices`."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected one of {choices}, found {value!r}")
    if value not in choices:
        raise ValueError(f"{name}: expected one of {choices}, found {value!r}")
    return value


def check_metric(value: Any) -> Metric:
    """Return `value` where it names a metric."""
    return cast(Metric, check_choice(value, "metric", METRICS))


def check_builder(value: Any) -> Builder:
    """Return `value` where it names a way to build."""
    return cast(Builder, check_choice(value, "builder", BUILDERS))


def check_layout(value: Any) -> Layout:
    """Return `value` where it names a layout."""
    return cast(Layout, check_choice(value, "layout", LAYOUTS))


def check_verify(value: Any) -> Verify:
    """Return `value` where it names a level of verification."""
    return cast(Verify, check_choice(value, "verify", VERIFY_LEVELS))


def check_pq_bytes(value: Any, dim: int, count: int) -> int:
    """Return bytes of a PQ code; 0: none."""
    if isinstance(value, str) and value == "auto":
        if count < PQ_FROM:
            return 0
        return min(64, (dim + 1) // 2)  # as default_pq_bytes in cpp/quant/pq_coder.h
    return check_integer(value, "pq_bytes", 0, dim)


def check_path(value: Any) -> bytes:
    """Return a path as the bytes that the file system uses."""
    path = os.fsencode(value)
    if b"\0" in path:
        raise ValueError(f"path: expected no NUL character, found {value!r}")
    return path


def check_io(value: Any) -> str:
    """Return `value` where it is a string; the core knows what it may say."""
    if not isinstance(value, str):
        raise TypeError(
            f"io: expected 'auto', 'uring', 'pread' or 'simulated:...', found {value!r}"
        )
    return value
