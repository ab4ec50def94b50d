# SPDX-License-Identifier: Apache-2.0
"""Batches larger than memory with the gradient of the whole batch.

Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup" (2021): encode
in chunks without a graph; compute the loss of all embeddings and its gradient for each; encode the
chunks again, now with a graph, and let the kept gradients flow through. Costs one more forward
pass; the random numbers of a chunk (dropout) are the same in both, which the gradient needs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import get_device_states, set_device_states

from bigrain._checks import require
from bigrain.train.dist import average_gradients

Features: TypeAlias = "Tensor | dict[str, Tensor]"
Encode: TypeAlias = Callable[[Any], Tensor]
Job: TypeAlias = "tuple[Encode, list[Features]]"


def gradcache(
    encode: Encode | Sequence[Encode],
    columns: Sequence[Features],
    loss: Callable[..., Tensor],
    chunk: int,
    *,
    ddp: Sequence[DistributedDataParallel] = (),
    replay: bool = True,
) -> Tensor:
    """Add the gradient of `loss(encode(column), ...)` to the parameters, in chunks of rows.

    Args:
        encode: features -> (rows, d) embeddings; one for all columns or one per column.
        columns: queries, positives, negatives ...: a tensor or a dict of tensors each, of which
            every first dimension counts rows. Hard negatives are (b * H) rows.
        loss: takes the columns' (rows, d) embeddings, reshapes them as it needs and returns a
            scalar; any loss, with a group or without. Parameters it uses directly get theirs.
        chunk: rows that are encoded with a graph at a time.
        ddp: modules that `encode` or `loss` use; their gradients are averaged once, at the end,
            and ranks need not have equally many chunks.
        replay: encode a second time with the random numbers of the first. Without, dropout makes
            the gradient wrong.

    Returns:
        The loss, detached.
    """
    require(chunk >= 1, "chunk", "at least 1 row", chunk)
    encoders = [encode] * len(columns) if callable(encode) else list(encode)
    fine = len(encoders) == len(columns)
    require(fine, "encode", f"{len(columns)}, one per column", len(encoders))
    jobs = [(e, _chunks(column, chunk)) for e, column in zip(encoders, columns, strict=True)]
    with contextlib.ExitStack() as stack:
        for module in ddp:
            stack.enter_context(module.no_sync())
        value = _two_passes(jobs, loss, chunk, replay)
    for module in ddp:
        average_gradients(module.parameters(), module.process_group)
    return value


def _two_passes(jobs: list[Job], loss: Callable[..., Tensor], chunk: int, replay: bool) -> Tensor:
    embeddings, states = [], []
    with torch.no_grad():
        for encode, parts in jobs:
            found = []
            for part in parts:
                states.append((torch.get_rng_state(), get_device_states(*_tensors(part))))
                found.append(encode(part))
            embeddings.append(torch.cat(found).requires_grad_())
    value = loss(*embeddings)
    value.backward()  # type: ignore[no-untyped-call]
    remembered = iter(states)
    with torch.random.fork_rng(states[0][1][0] if states else []):
        for (encode, parts), embedding in zip(jobs, embeddings, strict=True):
            gradient = torch.zeros_like(embedding) if embedding.grad is None else embedding.grad
            for part, upstream in zip(parts, torch.split(gradient, chunk), strict=True):
                if replay:
                    cpu, devices = next(remembered)
                    torch.set_rng_state(cpu)
                    set_device_states(*devices)
                torch.autograd.backward(encode(part), upstream)
    return value.detach()


def _chunks(column: Features, size: int) -> list[Features]:
    rows = {len(values) for values in _tensors(column)}
    require(len(rows) == 1, "columns", "tensors of one number of rows", sorted(rows))
    starts = range(0, max(rows.pop(), 1), size)
    if isinstance(column, Tensor):
        return [column[i : i + size] for i in starts]
    return [{name: values[i : i + size] for name, values in column.items()} for i in starts]


def _tensors(column: Features) -> list[Tensor]:
    return [column] if isinstance(column, Tensor) else list(column.values())
