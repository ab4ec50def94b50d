# SPDX-License-Identifier: Apache-2.0
"""An encoder that a refresher's child can import, and that kills the child where it is told to."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import bigrain
from bigrain.train import _negatives_file

DIM = 16


def die(*_: Any, **__: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


class TinyEncoder:
    """Words hashed to Gaussian vectors, summed, times `scale` per dimension."""

    metric, dim = "cosine", DIM

    def __init__(self, turn: int = 0, kill_at: str = "", pause: float = 0.0) -> None:
        self.turn, self.kill_at, self.pause = turn, kill_at, pause

    def save(self, path: Any) -> None:
        Path(path).write_text(json.dumps([self.turn, self.kill_at, self.pause]))

    @classmethod
    def load(cls, path: Any) -> TinyEncoder:
        """Only the child loads: what is broken here stays whole in the trainer."""
        self = cls(*json.loads(Path(path).read_text()))
        main = sys.modules["__main__"]
        place: Any = {
            "encode": (self, "encode_document"),
            "build": (bigrain.Index, "build"),
            "search": (main, "mine"),
            "flush": (os, "fsync"),
            "rename": (os, "replace"),
            "renamed": (_negatives_file, "versions_in"),
        }.get(self.kill_at)
        if self.kill_at == "load":
            die()
        elif place is not None:
            setattr(*place, die)
        time.sleep(self.pause)
        return self

    def _encode(self, texts: Sequence[str]) -> Any:
        rng = np.random.default_rng(self.turn)
        scale = rng.uniform(0.1, 1.0, DIM)

        def vector(word: str) -> Any:
            return np.random.default_rng(zlib.crc32(word.encode())).standard_normal(DIM)

        return np.stack([sum(map(vector, t.split()), 0) * scale for t in texts]).astype(np.float32)

    def encode_query(self, texts: Sequence[str]) -> Any:
        return self._encode(texts)

    def encode_document(self, texts: Sequence[str]) -> Any:
        return self._encode(texts)
