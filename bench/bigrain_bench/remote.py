# SPDX-License-Identifier: Apache-2.0
"""The benchmark's side of a worker: starts it, asks it, and says clearly how it died."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

WORKER = Path(__file__).with_name("worker.py")
PATIENCE = 0.5  # seconds for a worker to end by itself; one deep in a call is killed


class EngineError(RuntimeError):
    """An engine is not installed, refused, or crashed; the run goes on without it."""


class Remote:
    """An engine in a worker process."""

    def __init__(self, name: str, folder: Path, python: str | None = None) -> None:
        """`folder` takes the worker's temporary files; who made it removes it."""
        self.name = name
        self.python = python or sys.executable
        self.log_path = folder / f"{name}.log"
        try:
            with self.log_path.open("wb") as log:
                self.process = subprocess.Popen(
                    [self.python, str(WORKER)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    env={**os.environ, "TMPDIR": str(folder)},
                )
        except OSError as error:
            raise EngineError(f"{name}: cannot start {self.python}: {error.strerror}") from None

    def ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """Sends one request and waits for its answer."""
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:
            raise EngineError(f"{self.name}: its worker has no pipes")
        try:
            stdin.write(json.dumps({"verb": verb, **arguments}) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise EngineError(f"{self.name}: its worker {self._fate()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise EngineError(f"{self.name}: {answer['error']}")
        return answer

    def _fate(self) -> str:
        status = self.process.wait()
        log = self.log_path.read_text(encoding="utf-8", errors="replace")
        tail = log.strip().splitlines()[-4:]
        how = f"died of {signal.Signals(-status).name}" if status < 0 else f"ended with {status}"
        return how + "".join(f"\n    {line}" for line in tail)

    def close(self) -> None:
        """Ends the worker, at once if it does not end by itself."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        try:
            self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
