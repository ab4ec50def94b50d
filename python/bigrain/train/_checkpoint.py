# SPDX-License-Identifier: Apache-2.0
"""What `fit` leaves on disk: a checkpoint that a killed run goes on from, and its log."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist

from bigrain.eval.collections import StrPath


class Checkpoint:
    """All that decides the next step, in one file that is replaced as a whole.

    Args:
        path: the file; beside it, for a moment, the same name with `.part`.
        state: of `fit`.
        settings: plain values that a run must share with the checkpoint it goes on from.
        parts: objects of which those with state_dict and load_state_dict are kept, by place.
        device: whose random state is kept, beside the CPU's.
        group: ranks; the first writes for all, so that they never go on from different steps.
    """

    def __init__(
        self, path: StrPath, state: Any, settings: Mapping[str, Any], parts: list[Any],
        device: Any, group: Any,
    ) -> None:  # fmt: skip
        self.path, self.state, self.settings = Path(path), state, dict(settings)
        self.group, self.rank = group, dist.get_rank(group) if group else 0
        self.parts = {
            f"part{i}": part for i, part in enumerate(parts) if hasattr(part, "state_dict")
        }
        self.cuda = device if device.type == "cuda" else None

    def save(self) -> None:
        """Write under another name, flush, rename."""
        state = self.state
        random = [(torch.get_rng_state(), self.cuda and torch.cuda.get_rng_state(self.cuda))]
        if self.group:
            own = random[0]
            random = random * dist.get_world_size(self.group)
            dist.all_gather_object(random, own, group=self.group)
        if self.rank:
            return
        arrays = {"negatives": state.data.negatives, "scores": state.data.scores}
        content = {
            "settings": self.settings,
            "step": state.step,
            "losses": state.losses,
            "random": random,
            "data": {k: None if a is None else torch.from_numpy(a) for k, a in arrays.items()},
            **{name: part.state_dict() for name, part in self.parts.items()},
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(self.path.name + ".part")
        with open(partial, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self.path)

    def restore(self) -> None:
        """Take up the file, if there is one; a ValueError says if it is of another run."""
        if not self.path.exists():
            return
        # Not weights_only: samplers' and callbacks' states may hold arrays. It is the user's file.
        content = torch.load(self.path, map_location="cpu", weights_only=False)
        if content["settings"] != self.settings:
            raise ValueError(
                f"checkpoint: {self.path} is of a run with {content['settings']}, this one has "
                f"{self.settings}; delete it, or pass resume=False"
            )
        for name, part in self.parts.items():
            part.load_state_dict(content[name])
        state = self.state
        state.step, state.losses = content["step"], content["losses"]
        arrays = {k: None if a is None else a.numpy() for k, a in content["data"].items()}
        state.data = dataclasses.replace(state.data, **arrays)
        own, cuda = content["random"][self.rank]
        torch.set_rng_state(own)
        if self.cuda is not None and cuda is not None:
            torch.cuda.set_rng_state(cuda, self.cuda)


class Log:
    """JSON lines, one per step; lines past `step`, half written ones too, are dropped first."""

    def __init__(self, path: StrPath | None, step: int) -> None:
        self.path, self.step = path, step
        self.file: Any = None

    def __enter__(self) -> Log:
        if self.path is not None:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            self.file = open(self.path, "a+", encoding="utf-8")
            self.file.seek(0)
            kept = self.file.readlines()[: self.step]
            self.file.truncate(0)
            self.file.writelines(kept)
        return self

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            self.file.close()

    def write(self, values: Mapping[str, Any]) -> None:
        """Add a line."""
        if self.file is not None:
            self.file.write(json.dumps(values) + "\n")
            self.file.flush()
