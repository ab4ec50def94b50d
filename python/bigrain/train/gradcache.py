# SPDX-License-Identifier: Apache-2.0
"""Batches larger than memory with the gradient of the whole batch.

Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup" (2021): encode
in chunks without a graph; compute the loss of all embeddings and its gradient for each; encode the
chunks again, now with a graph, and let the kept gradients flow through. Costs one more forward
pass; the random numbers of a chunk (dropout) are the same in both, which the gradient needs.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.checkpoint import get_device_states, set_device_states

Features: TypeAlias = "Tensor | dict[str, Tensor]"
Encode: TypeAlias = Callable[[Any], Tensor]


def gradcache(
    encode: Encode | Sequence[Encode],
    columns: Sequence[Features],
    loss: Callable[..., Tensor],
    chunk: int,
    *,
    loss_parameters: Sequence[torch.nn.Parameter] = (),
    replay: bool = True,
) -> Tensor:
    """Add the gradient of `loss(encode(column), ...)` to the parameters, in chunks of rows.

    Args:
        encode: features -> (rows, d) embeddings; one for all columns or one per column. Where it
            is a DistributedDataParallel module, gradients are averaged once, with its last chunk.
        columns: queries, positives, negatives ...: a tensor or a dict of tensors each, of which
            every first dimension counts rows. Hard negatives are (b * H) rows.
        loss: takes the columns' (rows, d) embeddings, reshapes them as it needs and returns a
            scalar; any loss, with a group or without. Parameters it uses directly get theirs.
        chunk: rows that are encoded with a graph at a time.
        loss_parameters: parameters of a DistributedDataParallel `encode` that only the loss uses,
            such as a temperature, which must be averaged too.
        replay: encode a second time with the random numbers of the first. Without, dropout makes
            the gradient wrong.

    Returns:
        The loss, detached.
    """
    if chunk < 1:
        raise ValueError(f"chunk: expected at least 1 row, found {chunk}")
    encoders = [encode] * len(columns) if callable(encode) else list(encode)
    if len(encoders) != len(columns):
        raise ValueError(f"encode: expected {len(columns)}, one per column, found {len(encoders)}")
    jobs = [
        (encoder, _chunks(column, chunk)) for encoder, column in zip(encoders, columns, strict=True)
    ]
    embeddings, states = [], []
    with torch.no_grad():
        for encoder, parts in jobs:
            found = []
            for part in parts:
                states.append((torch.get_rng_state(), get_device_states(*_tensors(part))))
                found.append(encoder(part))
            embeddings.append(torch.cat(found).requires_grad_())
    value = loss(*embeddings)
    value.backward()  # type: ignore[no-untyped-call]
    devices = states[0][1][0] if states else []
    with torch.random.fork_rng(devices) if replay else contextlib.nullcontext():
        _second_pass(jobs, embeddings, iter(states if replay else ()), chunk, loss_parameters)
    return value.detach()


def _second_pass(
    jobs: list[tuple[Encode, list[Any]]],
    embeddings: list[Tensor],
    states: Iterator[Any],
    chunk: int,
    loss_parameters: Sequence[torch.nn.Parameter],
) -> None:
    last = {id(encoder): (i, len(parts) - 1) for i, (encoder, parts) in enumerate(jobs)}
    for i, (encoder, parts) in enumerate(jobs):
        ddp: Any = encoder if hasattr(encoder, "no_sync") else None
        gradient = embeddings[i].grad
        gradient = torch.zeros_like(embeddings[i]) if gradient is None else gradient
        for j, (part, upstream) in enumerate(zip(parts, _chunks(gradient, chunk), strict=True)):
            final = last[id(encoder)] == (i, j)
            for cpu, devices in itertools.islice(states, 1):
                torch.set_rng_state(cpu)
                set_device_states(*devices)
            with contextlib.nullcontext() if final or ddp is None else ddp.no_sync():
                ends: list[Any] = [encoder(part)]
                grads: list[Any] = [upstream]
                if final and ddp is not None:
                    # DDP waits for all its parameters: those only the loss used take part here
                    own = {id(parameter) for parameter in ddp.parameters()}
                    left = [p for p in loss_parameters if id(p) in own]
                    ends, grads = ends + left, grads + [torch.zeros_like(p) for p in left]
                torch.autograd.backward(ends, grads)


def _chunks(column: Features, size: int) -> list[Features]:
    rows = {len(values) for values in _tensors(column)}
    if len(rows) != 1:
        raise ValueError(f"columns: expected tensors of one number of rows, found {sorted(rows)}")
    starts = range(0, max(rows.pop(), 1), size)
    if isinstance(column, Tensor):
        return [column[i : i + size] for i in starts]
    return [{name: values[i : i + size] for name, values in column.items()} for i in starts]


def _tensors(column: Features) -> list[Tensor]:
    return [column] if isinstance(column, Tensor) else list(column.values())
