# SPDX-License-Identifier: Apache-2.0
"""Files that are replaced as a whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def replace_file(path: Path, write: Callable[[Any], None]) -> None:
    """Write a file beside `path`, flush it to the disk and rename it: the old one or the new."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def discard_partial(folder: Path, name: str = "") -> None:
    """Remove what killed writers left of files of `folder` whose names begin with `name`."""
    for part in folder.glob("*.part"):
        if part.name.startswith(name):
            part.unlink(missing_ok=True)
