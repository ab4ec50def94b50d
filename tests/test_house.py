# SPDX-License-Identifier: Apache-2.0
"""The documents are true: examples run, links lead somewhere, tables agree with the code."""

from __future__ import annotations

import inspect
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from bigrain import Index, __version__, _core, writers
from bigrain.cli import main

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PARAMETERS = (ROOT / "docs" / "parameters.md").read_text(encoding="utf-8")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def block(text: str, fence: str) -> str:
    found = re.search(rf"```{fence}\n(.*?)```", text, re.DOTALL)
    assert found, f"no block fenced {fence!r}"
    return found[1]


def test_readme_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example = block(README, "python").replace("100_000", "3_000")
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    assert (tmp_path / "vectors.bigrain").stat().st_size > 0


def test_readme_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    vectors = np.random.default_rng(0).standard_normal((500, 16), dtype=np.float32)
    writers.write_vectors("base.fvecs", vectors)
    writers.write_vectors("queries.fvecs", vectors[:20])
    shutil.copytree(ROOT / "tests" / "diskann", "diskann")
    ran = 0
    for line in block(README, "sh").splitlines():
        command, *arguments = shlex.split(line)
        assert command == "bigrain"
        if arguments[0] in {"bench", "demo"}:  # they need other libraries and minutes
            continue
        assert main(arguments) == 0, line
        ran += 1
    assert ran >= 5


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_of_documents_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("name", ["degree", "build_width", "k"])
def test_parameter_table_agrees_with_the_core(name: str) -> None:
    row = re.search(rf"^\| `{name}`.*?\|[^|]*\| ([^|]*) \| ([^|]*) \|", PARAMETERS, re.MULTILINE)
    assert row, f"docs/parameters.md has no row for {name}"
    low, default, high = _core.LIMITS[name]
    assert int(row[1]) == default
    method = Index.search if name == "k" else Index.build
    # None: the core's default, or what it chooses by the data.
    assert inspect.signature(method).parameters[name].default in (default, None)
    bounds = row[2].replace(",", "").replace("2^20", str(2**20))
    assert bounds == f"{low}-{high}"


def test_version_is_one_of_the_changelog_or_in_development() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert ".dev" in __version__ or f"## [{__version__}]" in changelog
