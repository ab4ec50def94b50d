# SPDX-License-Identifier: Apache-2.0
"""What a reader of figures must know about the machine and the code that made them."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

# The flags that decide which kernels run.
SIMD_FLAGS = (
    *("sse4_2", "avx", "avx2", "f16c", "fma", "avx_vnni", "amx_int8"),
    *("avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "sve", "sve2", "bf16"),
)


def describe() -> dict[str, Any]:
    """Machine, system, interpreter, and the commit that this file belongs to."""
    cpu, flags = _cpu()
    return {
        "cpu": cpu,
        "cpu_flags": flags,
        "cores_usable": _cores(),
        "memory_bytes": _memory(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "load_average": _load(),
        "commit": _commit(),
    }


def _cpu() -> tuple[str, list[str]]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine(), []
    fields = dict(line.partition(":")[::2] for line in text.split("\n\n")[0].splitlines())
    fields = {name.strip().lower(): value.strip() for name, value in fields.items()}
    present = set((fields.get("flags") or fields.get("features") or "").split())
    return fields.get("model name", platform.machine()), [f for f in SIMD_FLAGS if f in present]


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0


def _load() -> list[float]:
    """Load before the run: figures of a busy machine are worth less."""
    try:
        return [round(value, 2) for value in os.getloadavg()]
    except OSError:
        return []


def _commit() -> str | None:
    """The git commit of the checkout that this runs from, with "-dirty"; None elsewhere."""
    folder = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if not git("ls-files", "--error-unmatch", __file__):
            return None
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
