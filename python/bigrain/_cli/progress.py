# SPDX-License-Identifier: Apache-2.0
"""Progress on standard error: tqdm's bar where it is installed, a plain line where it is not."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

Report: TypeAlias = Callable[[int, int], None]

# Seconds between two updates: on a terminal as the eye wants it, in a log file seldom.
TERMINAL, LOG = 0.1, 10.0
BAR = 30  # columns of the plain bar


@contextmanager
def progress(title: str, unit: str = "vectors", *, quiet: bool = False) -> Iterator[Report | None]:
    """Yield a callback (done, total) that shows how far a long call is; None when quiet."""
    if quiet:
        yield None
        return
    line: _Bar | _Line
    try:
        line = _Bar(title, unit)
    except ImportError:
        line = _Line(title, unit)
    try:
        yield line.report
    finally:
        line.close()


def _interval() -> float:
    return TERMINAL if sys.stderr.isatty() else LOG


class _Bar:
    """tqdm's bar, drawn from the first report on: only then is the total known."""

    def __init__(self, title: str, unit: str) -> None:
        from tqdm import tqdm

        self.make = partial(
            tqdm, desc=title, unit=f" {unit}", unit_scale=True, mininterval=_interval()
        )
        self.bar: Any = None

    def report(self, done: int, total: int) -> None:
        if self.bar is None:
            self.bar = self.make(total=total)
        elif self.bar.total != total or done < self.bar.n:  # the next phase of a call
            self.bar.reset(total)
        self.bar.update(done - self.bar.n)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


class _Line:
    """One line that is written over on a terminal, and seldom repeated in a log."""

    def __init__(self, title: str, unit: str) -> None:
        self.title, self.unit = title, unit
        self.interval = _interval()
        self.start = self.last = time.monotonic()
        self.done = 0

    def report(self, done: int, total: int) -> None:
        self.done = done
        now = time.monotonic()
        if now - self.last >= self.interval and total:
            self.last = now
            full = BAR * done // total
            bar = "#" * full + "." * (BAR - full)
            left = (now - self.start) * (total - done) / max(done, 1)
            self._show(
                f"{self.title}: [{bar}] {done:,} of {total:,} {self.unit}, about {left:.0f} s left"
            )

    def close(self) -> None:
        seconds = time.monotonic() - self.start
        self._show(f"{self.title}: {self.done:,} {self.unit} in {seconds:.1f} s", end="\n")

    @staticmethod
    def _show(text: str, end: str = "") -> None:
        if sys.stderr.isatty():
            print(f"\r{text:<78}", end=end, file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)
