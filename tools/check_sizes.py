# SPDX-License-Identifier: Apache-2.0
"""Keeps files small: length of files and lines, totals of the binding and the package."""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("cpp", "python", "tests", "bench", "tools")
SUFFIXES = {".cpp", ".h", ".py", ".pyi", ".cmake", ".txt"}
WARN, FAIL, FAIL_TEST, WIDTH = 400, 600, 800, 100
# Lines in all, and in Python packages lines of code: without blanks, comments and docstrings.
TOTALS = {"python/bindings": 1100, "python/bigrain": 11600}
CODE = {"python/bigrain/train": 2600}
LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}


def lines_of_code(text: str) -> int:
    """Count the lines of a Python file that are neither blank nor comment nor docstring."""
    kept: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in LAYOUT and token.string:
            kept |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if documented and ast.get_docstring(node):
            kept -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(kept)


def main() -> int:
    """Print what is too large; 1 if anything is past its limit."""
    problems, warnings = [], []
    totals, code = dict.fromkeys(TOTALS, 0), dict.fromkeys(CODE, 0)
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
            for part in code:
                code[part] += lines_of_code("\n".join(lines)) if name.startswith(part + "/") else 0
    limits = {**TOTALS, **CODE}
    for part, total in {**totals, **code}.items():
        if total > limits[part]:
            problems.append(f"{part}: {total} lines in all, at most {limits[part]}")
    for line in [*(f"warning: {line}" for line in warnings), *problems]:
        print(line)
    print("sizes:", ", ".join(f"{part} {total} lines" for part, total in totals.items()))
    print("lines of code:", ", ".join(f"{part} {total}" for part, total in code.items()))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
