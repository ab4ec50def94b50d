# SPDX-License-Identifier: Apache-2.0
"""What `fit` leaves on disk: a checkpoint that a killed run goes on from, and its log."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist

from bigrain._files import discard_partial, replace_file
from bigrain.eval.collections import StrPath


class Checkpoint:
    """All that decides the next step, in one file that is replaced as a whole.

    Args:
        path: the file; None keeps nothing.
        state: of `fit`.
        settings: plain values that a run must share with the checkpoint it goes on from.
        parts: objects of which those with state_dict and load_state_dict are kept, by place.
        group: ranks; the first writes for all, so that they never go on from different steps.
    """

    def __init__(
        self, path: Any, state: Any, settings: dict[str, Any], parts: list[Any], group: Any
    ) -> None:
        self.path = None if path is None else Path(path)
        self.state, self.settings = state, settings
        self.group, self.rank = group, dist.get_rank(group) if group else 0
        self.parts = {f"part{i}": x for i, x in enumerate(parts) if hasattr(x, "state_dict")}
        device = state.optimizer.param_groups[0]["params"][0].device
        self.cuda = device if device.type == "cuda" else None

    def save(self) -> None:
        """Write it; the file that was there stays until this one is complete."""
        if self.path is None:
            return
        random = [(torch.get_rng_state(), self.cuda and torch.cuda.get_rng_state(self.cuda))]
        if self.group:
            own = random[0]
            random = random * dist.get_world_size(self.group)
            dist.all_gather_object(random, own, group=self.group)
        if self.rank:
            return
        content = {
            "settings": self.settings,
            "step": self.state.step,
            "losses": self.state.losses,
            "random": random,
            "data": {name: getattr(self.state.data, name) for name in ("negatives", "scores")},
            **{name: part.state_dict() for name, part in self.parts.items()},
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self.path, lambda file: torch.save(content, file))

    def restore(self) -> None:
        """Take up the file, if there is one; a ValueError says if it is of another run."""
        if self.path is None:
            return
        discard_partial(self.path.parent, self.path.name + ".")
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
        self.state.step, self.state.losses = content["step"], content["losses"]
        self.state.data = dataclasses.replace(self.state.data, **content["data"])
        own, cuda = content["random"][self.rank]
        torch.set_rng_state(own)
        if self.cuda is not None and cuda is not None:
            torch.cuda.set_rng_state(cuda, self.cuda)


@contextmanager
def log_lines(path: StrPath | None, step: int) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Give what adds a JSON line; those past `step`, half written ones too, are dropped first."""
    if path is None:
        yield lambda values: None
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        file.seek(0)
        kept = file.readlines()[:step]
        file.truncate(0)
        file.writelines(kept)

        def write(values: Mapping[str, Any]) -> None:
            file.write(json.dumps(values) + "\n")
            file.flush()

        yield write
