# SPDX-License-Identifier: Apache-2.0
"""Keeps files small: length of files and lines, totals of the binding and the package."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("cpp", "python", "tests", "bench", "tools")
SUFFIXES = {".cpp", ".h", ".py", ".pyi", ".cmake", ".txt"}
WARN, FAIL, FAIL_TEST, WIDTH = 400, 600, 800, 100
TOTALS = {"python/bindings": 1050, "python/bigrain": 9000, "python/bigrain/train": 2900}


def main() -> int:
    """Print what is too large; 1 if anything is past its limit."""
    problems, warnings = [], []
    totals = dict.fromkeys(TOTALS, 0)
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            name = path.relative_to(ROOT).as_posix()
            if path.suffix not in SUFFIXES or "/data/" in name:
                continue
            lines = path.read_text(encoding="utf-8").splitlines()
            limit = FAIL_TEST if "tests/" in name else FAIL
            if len(lines) > limit:
                problems.append(f"{name}: {len(lines)} lines, at most {limit}: split it")
            elif len(lines) > WARN:
                warnings.append(f"{name}: {len(lines)} lines, aim under {WARN}")
            for number, line in enumerate(lines, 1):
                if len(line) > WIDTH:
                    problems.append(f"{name}:{number}: {len(line)} columns, at most {WIDTH}")
            for part in totals:
                totals[part] += len(lines) if name.startswith(part + "/") else 0
    for part, total in totals.items():
        if total > TOTALS[part]:
            problems.append(f"{part}: {total} lines in all, at most {TOTALS[part]}")
    for line in [*(f"warning: {line}" for line in warnings), *problems]:
        print(line)
    print("sizes:", ", ".join(f"{part} {total} lines" for part, total in totals.items()))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
