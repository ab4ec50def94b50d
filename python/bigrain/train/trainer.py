# SPDX-License-Identifier: Apache-2.0
"""`fit`: a short training loop for two-sided encoders, with callbacks, checkpoints and resume.

AdamW, linear warm-up then linear decay to 0 (as DPR and sentence-transformers train), clipped
gradients, bfloat16 on CUDA where the card has it, logits in float32. A batch's documents are
encoded once each, however often they occur. Over a process group every rank takes its slice of
each batch, gradients are averaged after the backward pass as DDP does, and a loss that takes
`group` gathers the other ranks' columns.

A checkpoint holds everything that decides the next step - weights, optimizer, random state,
sampler, callbacks, replaced negatives - and is renamed into place, so that a killed run goes on
with the same losses, on a CPU bit for bit.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch import distributed as dist

from bigrain._checks import require
from bigrain._core import Cancelled
from bigrain._progress import Progress, reporting
from bigrain.eval.collections import StrPath
from bigrain.train._checkpoint import Checkpoint, log_lines
from bigrain.train._tensors import rows_dot
from bigrain.train.data import TrainingSet
from bigrain.train.dist import average_gradients, mean_over_ranks
from bigrain.train.gradcache import gradcache
from bigrain.train.losses import align, uniform
from bigrain.train.samplers import Shuffled

# fit(every=): a few seconds of a static encoder's steps, a few minutes of a transformer's.
CHECKPOINT_STEPS = 200
# fit(geometry=): rows that `uniform` compares pairwise at most.
GEOMETRY_ROWS = 512


@dataclasses.dataclass
class State:
    """What callbacks see and may change.

    Attributes:
        encoder: the module that is trained.
        data: replaceable between steps, by as many rows of other negatives or scores.
        optimizer: AdamW; None under another library's trainer.
        step, steps: done so far, and in all.
        losses: one per step done, over all ranks.
    """

    encoder: Any
    data: TrainingSet
    optimizer: Any
    steps: int
    step: int = 0
    losses: list[float] = dataclasses.field(default_factory=list)
    record: dict[str, Any] = dataclasses.field(default_factory=dict)

    def log(self, values: dict[str, Any]) -> None:
        """Add values to the log's next line."""
        self.record.update(values)


def fit(
    encoder: Any,
    data: TrainingSet,
    *,
    loss: Callable[..., Tensor],
    steps: int,
    batch_size: int,
    lr: float,
    warmup: float = 0.1,
    sampler: Any = None,
    callbacks: Iterable[Any] = (),
    seed: int = 0,
    checkpoint: StrPath | None = None,
    resume: bool = True,
    every: int = CHECKPOINT_STEPS,
    log: StrPath | None = None,
    device: str | torch.device = "cpu",
    group: Any = None,
    chunk: int | None = None,
    clip: float | None = 1.0,
    progress: Progress = None,
    weight_decay: float = 0.01,
    geometry: int | None = None,
    amp: bool | None = None,
) -> dict[str, Any]:
    """Train an encoder in place and return `losses`, `loss` (their last tenth's mean), `seconds`.

    Args:
        encoder: as in `bigrain.train.encoders`; or one wrapped in DistributedDataParallel, which
            then averages the gradients itself.
        data: rows to train on.
        loss: called as loss(q, p, n, **those of p_ids, n_ids, q_ids, rows, scores, group that it
            names) with q and p (b, dim), n (b, H, dim) or None, float32; ids int64, of -1 where
            a negative is padding; returns a scalar. Parameters of an nn.Module are trained too.
        steps: optimizer steps.
        batch_size: rows per step and rank.
        lr: highest learning rate.
        warmup: share of the steps in which the rate rises.
        sampler: iterable of int64 arrays of rows, with state_dict and load_state_dict; None
            shuffles.
        callbacks: objects with any of on_start(state), on_step(state), on_end(state), and
            state_dict(), load_state_dict(state) where they keep something.
        seed: of dropout and of the default sampler; the caller's random state is left alone.
        checkpoint: file to write each `every` steps and at the end, and to resume from; the first
            rank writes it, all read it.
        resume: go on from `checkpoint` if it exists.
        every: steps between checkpoints.
        log: JSON lines, one per step.
        device: where to train; the encoder is moved there and stays.
        group: a torch.distributed process group; None trains alone.
        chunk: rows per forward pass of GradCache, for batches beyond memory; None is one pass.
        clip: largest norm of the gradient; None leaves it.
        progress: None, True for a bar, or a callable (done, total); False from it cancels.
        weight_decay: AdamW's; 0.01 is its default.
        amp: encode in bfloat16; None does so on CUDA where the card has it. Processors with
            bfloat16 arithmetic gain as well.
        geometry: log `align` and `uniform` of the batch each so many steps.

    Raises:
        ValueError: arguments out of range, a checkpoint of another run, a loss that is not finite.
        Cancelled: by `progress`; a checkpoint stays.
    """
    for name, value in (("steps", steps), ("batch_size", batch_size), ("every", every)):
        require(value >= 1, name, "1 or more", value)
    require(0 <= warmup < 1 and lr > 0, "warmup, lr", "0 to 1 and above 0", f"{warmup} and {lr}")
    device, callbacks = torch.device(device), list(callbacks)
    rank, world = (dist.get_rank(group), dist.get_world_size(group)) if group else (0, 1)
    if sampler is None:
        sampler = Shuffled(len(data), batch_size, seed=seed, rank=rank, world=world)
    encoder.to(device).train()
    modules = [encoder, *([loss.to(device)] if isinstance(loss, nn.Module) else [])]
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr, weight_decay=weight_decay)
    state = State(encoder, data, optimizer, steps)
    step = _Step(state, loss, device, group, chunk, clip, amp, geometry)
    settings = {"steps": steps, "batch_size": batch_size, "lr": lr, "warmup": warmup}
    settings |= {"seed": seed, "rows": len(data), "world": world}
    parts = [step.core, optimizer, loss, sampler, *callbacks]
    kept = Checkpoint(checkpoint, state, settings, parts, group)
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(cuda), reporting(progress, "training", "steps") as bar:
        torch.manual_seed(seed + rank)
        if resume:
            kept.restore()
        step.synchronise()
        with log_lines(None if rank else log, state.step) as write:
            begin = time.perf_counter()
            _call(callbacks, "on_start", state)
            for rows in itertools.islice(_batches(sampler), steps - state.step):
                started, rate = time.perf_counter(), lr * _schedule(state.step, steps, warmup)
                step(rows, rate)
                _call(callbacks, "on_step", state)
                line = {"step": state.step, "loss": state.losses[-1], "lr": rate, **state.record}
                write(line | {"seconds": round(time.perf_counter() - started, 4)})
                state.record = {}
                if state.step % every == 0 or state.step == steps:
                    kept.save()
                if bar is not None and not bar(state.step, steps):
                    raise Cancelled(f"training: cancelled after step {state.step}")
            _call(callbacks, "on_end", state)
    last = float(np.mean(state.losses[-max(1, steps // 10) :]))
    seconds = time.perf_counter() - begin
    return {"loss": last, "losses": state.losses, "steps": steps, "seconds": seconds}


class _Step:
    """One update: encode a batch, backward, average, clip, step."""

    def __init__(
        self, state: State, loss: Any, device: torch.device, group: Any, chunk: int | None,
        clip: float | None, amp: bool | None, geometry: int | None,
    ) -> None:  # fmt: skip
        self.state, self.loss, self.device, self.group = state, loss, device, group
        self.chunk, self.clip, self.geometry = chunk, clip, geometry
        self.core = getattr(state.encoder, "module", state.encoder)
        self.named = named_by(loss)
        self.query_ids = state.data.query_ids() if "q_ids" in self.named else None
        self.parameters = state.optimizer.param_groups[0]["params"]
        # What DistributedDataParallel wraps it averages itself; a loss's parameters it does not.
        self.wrapped = [] if self.core is state.encoder else [state.encoder]
        inner = {p for module in self.wrapped for p in module.parameters()}
        self.averaged = [p for p in self.parameters if p not in inner]
        if amp is None:
            amp = device.type == "cuda" and torch.cuda.is_bf16_supported()
        self.cast = torch.autocast(device.type, torch.bfloat16, enabled=amp)

    def __call__(self, rows: Any, rate: float) -> None:
        state = self.state
        state.optimizer.param_groups[0]["lr"] = rate
        state.optimizer.zero_grad()
        value = self._backward(np.asarray(rows, np.int64))
        value = float(mean_over_ranks(value, self.group))
        if not np.isfinite(value):
            advice = "lower lr, or look for texts or scores that break it"
            raise ValueError(f"loss: {value} at step {state.step + 1}; {advice}")
        average_gradients(self.averaged, self.group)
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.clip)
        state.optimizer.step()
        state.step += 1
        state.losses.append(value)

    def synchronise(self) -> None:
        """Give every rank the first one's parameters."""
        if self.group is not None:
            first = dist.get_global_rank(self.group, 0)
            for parameter in self.parameters:
                dist.broadcast(parameter.data, first, group=self.group)

    def _backward(self, rows: npt.NDArray[np.int64]) -> Any:
        data, b = self.state.data, len(rows)
        named = self._named(rows)
        wanted = data.positives[rows]
        shape = None if data.negatives is None else (b, data.negatives.shape[1])
        if data.negatives is not None:
            hard = data.negatives[rows].ravel()
            if "n_ids" not in self.named and hard.min(initial=0) < 0:
                raise ValueError("loss: the set has padded negatives (-1), so it must take n_ids")
            wanted = np.concatenate([wanted, hard])
        # Each document is encoded once. -1 reads the last one, which the loss masks by its id.
        documents, places = np.unique(wanted, return_inverse=True)
        where = torch.from_numpy(places).to(self.device)

        def objective(q: Tensor, d: Tensor) -> Tensor:
            p = d[where[:b]]
            n = None if shape is None else d[where[b:]].view(*shape, -1)
            if self.geometry is not None and self.state.step % self.geometry == 0:
                self._log_geometry(q, p)
            with torch.autocast(self.device.type, enabled=False):
                return self.loss(q, p, n, **named)  # type: ignore[no-any-return]

        features = [
            self._tokens([data.queries[i] for i in rows], "query"),
            self._tokens([data.documents[i] for i in documents], "document"),
        ]
        if self.chunk is not None:
            return gradcache(self._embed, features, objective, self.chunk, ddp=self.wrapped)
        value = objective(*map(self._embed, features))
        value.backward()  # type: ignore[no-untyped-call]
        return value

    def _named(self, rows: npt.NDArray[np.int64]) -> dict[str, Any]:
        """Return what of ids, rows and scores the loss takes."""
        data = self.state.data
        arrays = {"p_ids": data.positives, "n_ids": data.negatives, "scores": data.scores}
        arrays |= {"q_ids": self.query_ids, "rows": np.arange(len(data))}
        named: dict[str, Any] = {
            name: None if array is None else torch.from_numpy(array[rows]).to(self.device)
            for name, array in arrays.items()
            if name in self.named
        }
        return named | ({"group": self.group} if "group" in self.named and self.group else {})

    def _tokens(self, texts: list[str], kind: str) -> dict[str, Tensor]:
        return {k: v.to(self.device) for k, v in self.core.tokenize(texts, kind).items()}

    def _embed(self, features: dict[str, Tensor]) -> Tensor:
        with self.cast:
            return self.state.encoder(features).float()  # type: ignore[no-any-return]

    def _log_geometry(self, q: Tensor, p: Tensor) -> None:
        x, y = (nn.functional.normalize(v.detach()[:GEOMETRY_ROWS], dim=-1) for v in (q, p))
        both = float(uniform(x) + uniform(y)) / 2
        self.state.log({"align": float(align(x, y)), "uniform": both})


def on_scores(loss: Callable[..., Tensor], **options: Any) -> Callable[..., Tensor]:
    """Return `loss`, which takes scores, as one of embeddings that `fit` can call.

    Args:
        loss: `kd_kl` or `kd_listnet` (student, teacher), `margin_mse` (s_pos, s_neg, t_pos,
            t_neg) or `triplet_hinge` (s_pos, s_neg) of `bigrain.train.losses`.
        options: handed to it, such as tau_s=.

    The student's scores are the products of a query with its positive and its own negatives.
    """
    names = inspect.signature(loss).parameters
    taught = "teacher" in names or "t_pos" in names

    def call(
        q: Tensor, p: Tensor, n: Tensor | None, *, n_ids: Tensor | None = None,
        scores: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        if n is None or (taught and scores is None):
            missing = "negatives, and a teacher's scores to learn from"
            raise ValueError(f"data: this loss needs {missing}")
        student = rows_dot(q, torch.cat([p[:, None], n], 1))
        mask = torch.ones_like(student, dtype=torch.bool)
        if n_ids is not None:
            mask[:, 1:] = n_ids >= 0
        if "student" in names:
            return loss(student, scores, mask=mask, **options)
        given = (student, scores) if scores is not None and taught else (student,)
        sides = [side for part in given for side in (part[:, 0], part[:, 1:])]
        return loss(*sides, mask=mask[:, 1:], **options)

    return call


def named_by(loss: Callable[..., Any]) -> set[str]:
    """Return which of the keyword arguments on offer a loss takes."""
    offered = {"p_ids", "n_ids", "rows", "scores"}
    call = loss.forward if isinstance(loss, nn.Module) else loss
    parameters = inspect.signature(call).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return offered
    return {p.name for p in parameters} & (offered | {"q_ids", "group"})


def _schedule(step: int, steps: int, warmup: float) -> float:
    """Share of the highest rate: up to 1 over the warm-up, then down to 0 past the last step."""
    rise = warmup * steps
    return min((step + 1) / rise if rise else 1.0, (steps - step) / (steps - rise))


def _batches(sampler: Any) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the sampler's batches, over and over if it ends."""
    while True:
        empty = True
        for rows in sampler:
            empty = False
            yield rows
        if empty:
            raise ValueError("sampler: yielded no batch; lower its batch size")


def _call(callbacks: list[Any], name: str, state: State) -> None:
    for callback in callbacks:
        if hasattr(callback, name):
            getattr(callback, name)(state)
