# SPDX-License-Identifier: Apache-2.0
"""Run by torchrun: two SGD steps under DistributedDataParallel against one process.

Prints, on the first rank, how far the parameters are apart, plainly and by GradCache, and how far
the right gradient is from that of every rank alone.
"""

from __future__ import annotations

import copy
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
sys.path.append(str(Path(__file__).parents[2] / "bench"))

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from bigrain.train.gradcache import gradcache
from bigrain_claims import grad_checks, grad_runs

SIZES = (5, 9)


def train(towers: grad_checks.Towers, data: grad_checks.Data, way: str) -> dict[str, Any]:
    """Two steps; "one" process with all rows, "ddp", "gradcache" under DDP, or "alone"."""
    model = copy.deepcopy(towers)
    for unused in (model.codebook, *model.pq.parameters()):  # DDP waits for all others
        unused.requires_grad_(False)
    ddp = DistributedDataParallel(model) if way in ("ddp", "gradcache") else None
    rows, group = grad_checks.own_rows(SIZES, dist.get_rank()), None
    if way == "one":
        rows = slice(0, sum(SIZES))
    elif way != "alone":
        group = dist.group.WORLD
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    encode = model if ddp is None else ddp
    columns = grad_runs.columns(data, rows)

    def loss(*embeddings: torch.Tensor) -> torch.Tensor:
        return grad_runs.objective(model, data, rows, group, *embeddings)

    for _ in range(2):
        optimizer.zero_grad()
        if way == "gradcache":
            gradcache(encode, columns, loss, 2, ddp=[ddp])  # 3 and 5 chunks a column
        else:
            loss(*(encode(column) for column in columns)).backward()
        optimizer.step()
    return {name: p.detach() for name, p in model.named_parameters()}


def main() -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    towers, data = grad_checks.make(sum(SIZES), 3, torch.float64)
    found = {way: train(towers, data, way) for way in ("one", "ddp", "gradcache", "alone")}
    errors = {way: grad_checks.error(found[way], found["one"]) for way in found}
    if dist.get_rank() == 0:
        print(json.dumps(errors), flush=True)
    dist.barrier()
    dist.destroy_process_group()
    # Past the interpreter's end: a thread of torch's that still ran then has aborted the process.
    os._exit(0)


if __name__ == "__main__":
    main()
