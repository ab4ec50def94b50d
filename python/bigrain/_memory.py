# SPDX-License-Identifier: Apache-2.0
"""Budgets of memory, as people write them."""

from __future__ import annotations

import re
from typing import Any, TypeAlias

from bigrain._checks import check_integer

Memory: TypeAlias = "int | str"

# What the core takes for no limit, and for as little as possible.
ALL, LEAST = 2**64 - 1, 0
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?i?)b?", re.IGNORECASE)


def check_memory(value: Any, name: str = "memory") -> int:
    """Return bytes: ALL for "all", LEAST for "min", else a number, or one with a unit."""
    if not isinstance(value, str):
        return check_integer(value, name, 1, ALL - 1)
    if value in ("all", "min"):
        return ALL if value == "all" else LEAST
    match = _SIZE.fullmatch(value.strip())
    unit = match[2].lower() if match else None
    factor = {**_UNITS, **_BINARY}.get(unit) if unit is not None else None
    if match is None or factor is None:
        raise ValueError(
            f'{name}: expected "all", "min", a number of bytes, or one with a unit such as '
            f'"512MiB" or "2GB", found {value!r}'
        )
    return check_integer(int(float(match[1]) * factor), name, 1, ALL - 1)
