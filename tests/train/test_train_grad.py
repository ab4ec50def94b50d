# SPDX-License-Identifier: Apache-2.0
"""Gradients over two and four gloo processes are those of one process with the whole batch."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

sys.path.append(str(Path(__file__).parents[2] / "bench"))

from bigrain.train import dist  # noqa: E402
from bigrain_claims import grad_checks, grad_runs  # noqa: E402

TOLERANCE = {"float64": 1e-12, "float32": 1e-6}


@pytest.fixture(scope="module")
def found() -> list[dict[str, Any]]:
    """Every check, all in one start of four processes."""
    return grad_runs.everything()


def test_gradients_equal_one_process(found: list[dict[str, Any]]) -> None:
    equal = [check for check in found if check["kind"] == "equal"]
    assert {(c["world"], c["dtype"]) for c in equal} == {
        (world, dtype) for world in (2, 4) for dtype in TOLERANCE
    }
    names = {check["check"] for check in equal}
    assert names >= set(grad_checks.CASES)
    assert len(names) == len(grad_checks.CASES) + 2 + 6 + 1
    for check in equal:
        tolerance = TOLERANCE[check["dtype"]]
        assert check["error"] <= tolerance, check
        assert check.get("loss", 0.0) <= tolerance, check


@pytest.mark.parametrize("name", [*grad_checks.WRONG, "GradCache without replay"])
def test_wrong_ways_differ(found: list[dict[str, Any]], name: str) -> None:
    wrong = [c for c in found if c["kind"] == "wrong" and c["check"] == name]
    assert [check["world"] for check in wrong] == [2, 4]
    for check in wrong:
        assert check["error"] > 0.1
    if name == "replicated":
        assert [check["ratio"] for check in wrong] == pytest.approx([1 / 2, 1 / 4])
    if name == "replicated x ranks":
        assert [check["ratio"] for check in wrong] == pytest.approx([2, 4])


def test_a_failure_in_a_process_is_raised() -> None:
    with pytest.raises(RuntimeError, match="math domain error"):
        dist.spawn(math.sqrt, 1, -1.0)


def test_ddp_under_torchrun_equals_one_process() -> None:
    script = Path(__file__).with_name("ddp_run.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(script)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    errors = json.loads(done.stdout.splitlines()[-1])
    assert errors["ddp"] <= 1e-12
    assert errors["gradcache"] <= 1e-12
    assert errors["alone"] > 1e-3
