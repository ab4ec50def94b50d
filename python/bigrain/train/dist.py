# SPDX-License-Identifier: Apache-2.0
"""Embeddings of every process in one loss, with exact gradients.

Follows differentiable cross-device sampling (Xiao et al., "Matching-oriented Product Quantization",
EMNLP 2021, section 3.3): a process's embeddings are negatives for all others, and the gradient that
they cause there comes back. The paper lets every device compute the loss of the whole batch and
sums the gradients. Here each rank computes the loss of its own rows only, against the columns of
all ranks, so that the mean over ranks, which DistributedDataParallel takes, is the gradient of the
loss over the whole batch: no factor of the number of ranks anywhere, which would be wrong for
parameters that the loss uses directly (a temperature) and for every second term of a loss.
"""

from __future__ import annotations

import os
import pickle
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor
from torch.multiprocessing.spawn import ProcessRaisedException

from bigrain._checks import check_shape

Group: TypeAlias = dist.ProcessGroup


@dataclass(frozen=True)
class GroupInfo:
    """Rows of a batch over the ranks of a group; `group` None: one process with all rows."""

    rank: int
    sizes: tuple[int, ...]
    group: Group | None = None

    @property
    def offset(self) -> int:
        """Rows of the ranks before this one: where its own begin in what is gathered."""
        return sum(self.sizes[: self.rank])

    @property
    def total(self) -> int:
        """Rows of all ranks."""
        return sum(self.sizes)

    def mean(self, values: Tensor) -> Tensor:
        """Reduce (rows,) local values so that the plain mean over ranks is the mean of all."""
        return values.sum() * (len(self.sizes) / max(self.total, 1))


def group_info(rows: int, group: Group | None, device: torch.device | str = "cpu") -> GroupInfo:
    """Exchange the ranks' numbers of rows; `group` None means this process alone."""
    if group is None:
        return GroupInfo(0, (rows,))
    own = torch.tensor([rows], dtype=torch.int64, device=device)
    sizes = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(sizes, own, group=group)
    return GroupInfo(dist.get_rank(group), tuple(int(size) for size in sizes), group)


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:
        ctx.group, ctx.rows = group, len(x)
        x = x.contiguous()
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size(group))]
        dist.all_gather(parts, x, group=group)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        # A copy: autograd may hand the same tensor to others. all_reduce and not reduce_scatter:
        # gloo has no reduce_scatter.
        total = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=ctx.group)
        start = dist.get_rank(ctx.group) * ctx.rows
        return total[start : start + ctx.rows], None


def all_gather_grad(x: Tensor, group: Group | None) -> Tensor:
    """Stack the ranks' tensors of one shape; gradients flow back to the ranks that gave them.

    Args:
        x: (b, ...), the same shape and dtype on every rank.
        group: None returns x.

    Returns:
        (world * b, ...) by rank. The backward pass sums the ranks' gradients of it: exact where
        every rank's loss is its share and the shares are added (or averaged, with all their
        gradients), which gloo and NCCL do alike.
    """
    if group is None:
        return x
    gathered: Tensor = _AllGather.apply(x, group)  # type: ignore[no-untyped-call]
    return gathered


def all_gather_padded(x: Tensor, info: GroupInfo) -> Tensor:
    """As `all_gather_grad` where ranks hold unequal numbers of rows: (info.total, ...) by rank."""
    if info.group is None:
        return x
    most = max(info.sizes)
    padded = torch.cat([x, x.new_zeros(most - len(x), *x.shape[1:])]) if len(x) < most else x
    gathered = all_gather_grad(padded, info.group)
    if min(info.sizes) == most:
        return gathered
    return torch.cat([gathered[r * most :][:size] for r, size in enumerate(info.sizes)])


def gather_ragged(x: Tensor, mask: Tensor, group: Group | None) -> tuple[Tensor, Tensor]:
    """Gather token vectors of unequal lengths, padded with zeros to the longest of any rank.

    Args:
        x: (b, L, d); b and L may differ between ranks.
        mask: (b, L) bool, False where there is no token.
        group: None returns both as they are.

    Returns:
        (B, Lmax, d) with gradients, and the (B, Lmax) mask.
    """
    check_shape(mask, "mask", *x.shape[:2])
    if group is None:
        return x, mask
    rows = group_info(len(x), group, x.device)
    lengths = group_info(x.shape[1], group, x.device)
    more = max(lengths.sizes) - x.shape[1]
    x = torch.nn.functional.pad(x, (0, 0, 0, more))
    # bytes: NCCL gathers no bool on every version
    marks = torch.nn.functional.pad(mask.to(torch.uint8), (0, more))
    return all_gather_padded(x, rows), all_gather_padded(marks, rows).bool()


def weighted_mean(loss: Tensor, rows: int, group: Group | None) -> Tensor:
    """Scale a mean over `rows` local rows so that the plain mean over ranks is the mean over all.

    For losses of local rows alone. Those that take a `group` do it themselves.
    """
    return group_info(rows, group, loss.device).mean(loss * rows)


def mean_over_ranks(value: Tensor, group: Group | None) -> Tensor:
    """Average what ranks hold, without gradient: the loss to log, since each rank has its own."""
    value = value.detach().clone()
    if group is not None:
        dist.all_reduce(value, group=group)
        value /= dist.get_world_size(group)
    return value


def average_gradients(parameters: Iterable[Tensor], group: Group | None) -> None:
    """Average gradients over ranks, as DistributedDataParallel does, for models without it.

    In one buffer per dtype. A parameter without a gradient here counts as zero: others may have
    one.
    """
    if group is None:
        return
    parts: dict[torch.dtype, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parts.setdefault(parameter.dtype, []).append(parameter.grad)
    for gradients in parts.values():
        flat = mean_over_ranks(torch.cat([x.flatten() for x in gradients]), group)
        means = torch.split(flat, [x.numel() for x in gradients])
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean.view_as(gradient))


def spawn(body: Callable[..., Any], world: int, *args: Any) -> list[Any]:
    """Run `body(*args)` in `world` new gloo processes of one thread each; the results by rank.

    Args:
        body: a function that the new processes can import; the default group is set up in it.
        world: processes on this machine.
        args: what pickle can carry, as must be the results.

    Raises:
        RuntimeError: a process failed; with its trace, and of several the first one's, since the
            others then fail for want of it.
    """
    with tempfile.TemporaryDirectory() as name:
        folder, arguments = Path(name), (body, world, name, args)
        try:
            torch.multiprocessing.spawn(_worker, arguments, nprocs=world)  # type: ignore
        except ProcessRaisedException:
            traces = sorted(folder.glob("*.trace"), key=lambda path: path.stat().st_mtime_ns)
            raise RuntimeError(traces[0].read_text() if traces else "no trace left") from None
        return [pickle.loads((folder / str(rank)).read_bytes()) for rank in range(world)]


def _worker(
    rank: int, body: Callable[..., Any], world: int, folder: str, args: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    if sys.platform == "linux":  # otherwise gloo looks up the host's name, which may not resolve
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(
        "gloo", init_method=Path(folder, "store").as_uri(), rank=rank, world_size=world
    )
    try:
        Path(folder, str(rank)).write_bytes(pickle.dumps(body(*args)))
        dist.barrier()
    except Exception:
        Path(folder, f"{rank}.trace").write_text(traceback.format_exc())
        raise
    finally:
        dist.destroy_process_group()
    # Past the interpreter's end: a thread of torch's that still ran then has aborted the process.
    os._exit(0)
