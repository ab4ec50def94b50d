# SPDX-License-Identifier: Apache-2.0
"""What `progress=` may be: None, True for a bar, or a callable (done, total) -> bool | None."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeAlias

Progress: TypeAlias = bool | Callable[[int, int], object] | None
CoreProgress: TypeAlias = Callable[[int, int], bool] | None


_SILENT: AbstractContextManager[None] = nullcontext()  # made once: short searches notice


def reporting(progress: Progress, title: str, unit: str) -> AbstractContextManager[CoreProgress]:
    """Give the callback for the core within a `with` block; a bar is closed in the end.

    A call that ends well is reported as done to its last unit, whatever the last poll saw.
    """
    if progress is None or progress is False:
        return _SILENT
    return _reporting(progress, title, unit)


@contextmanager
def _reporting(progress: Progress, title: str, unit: str) -> Iterator[CoreProgress]:
    if progress is True:
        with _bar(title, unit) as report:
            yield from _report_to(report)
    elif callable(progress):
        yield from _report_to(progress)
    else:
        raise TypeError(
            f"progress: expected None, True or a callable (done, total), found {progress!r}"
        )


def _report_to(callback: Callable[[int, int], object]) -> Iterator[CoreProgress]:
    seen = (0, 0)

    def report(done: int, total: int) -> bool:
        nonlocal seen
        seen = (done, total)
        answer = callback(done, total)
        return answer is None or bool(answer)

    yield report
    if seen[0] < seen[1]:
        callback(seen[1], seen[1])


@contextmanager
def _bar(title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError(
            "progress=True draws its bar with tqdm, which is not installed: "
            "pip install 'bigrain[cli]', or pass a callable (done, total)"
        ) from error
    bar: Any = tqdm(desc=title, unit=unit, unit_scale=True)
    try:

        def report(done: int, total: int) -> None:
            if total != bar.total or done < bar.n:  # a new phase
                bar.reset(total)
            bar.update(done - bar.n)

        yield report
    finally:
        bar.close()
