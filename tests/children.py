# SPDX-License-Identifier: Apache-2.0
"""Forked children of the test process, which need no start of their own."""

from __future__ import annotations

import os
from collections.abc import Callable

RAISED = 7  # the exit code of a child whose body raised


def in_child(body: Callable[[], None]) -> int:
    """Start a forked child that runs `body` and exits; RAISED is its code if `body` raised."""
    child = os.fork()
    if child == 0:
        code = RAISED
        try:
            body()
            code = 0
        finally:
            os._exit(code)
    return child


def exit_code_of(child: int) -> int:
    """Wait for a child; the exit code, or the negated signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
