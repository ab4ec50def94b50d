# SPDX-License-Identifier: Apache-2.0
"""What the device gives: fio's random reads of 4 KiB, past the page cache, of one file."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

SECONDS = 3
PATIENCE = 60  # seconds, after which fio is stuck
# By preference; old kernels and sandboxes lack the first.
ENGINES = ("io_uring", "libaio", "psync")


class Device(NamedTuple):
    """Reads per second, and how long each took in the mean."""

    iops: float
    mean_us: float
    depth: int  # reads in flight, of each of `jobs`
    jobs: int
    engine: str


def installed() -> bool:
    """Whether there is a fio to ask."""
    return shutil.which("fio") is not None


def measure(path: Path, depth: int, jobs: int = 1) -> Device | None:
    """Random reads with `depth` in flight in each of `jobs` processes; None where fio cannot."""
    if not installed():
        return None
    for engine in ENGINES:
        command = ["fio", "--name=read", f"--filename={path}", "--rw=randread", "--bs=4k"]
        command += ["--direct=1", f"--ioengine={engine}", f"--iodepth={depth}", f"--numjobs={jobs}"]
        command += [f"--runtime={SECONDS}", "--time_based", "--readonly", "--group_reporting"]
        command += ["--output-format=json"]
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        except (OSError, subprocess.TimeoutExpired):
            return None
        if ran.returncode == 0:
            return parse(ran.stdout, depth, jobs, engine)
    return None


def parse(output: str, depth: int, jobs: int, engine: str) -> Device:
    """fio's JSON, which notes may precede."""
    read = json.loads(output[output.index("{") :])["jobs"][0]["read"]
    return Device(read["iops"], read["clat_ns"]["mean"] / 1000, depth, jobs, engine)
