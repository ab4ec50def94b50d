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

import contextlib
import dataclasses
import inspect
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch import distributed as dist

from bigrain.eval.collections import StrPath
from bigrain.train._tensors import rows_dot
from bigrain.train.data import TrainingSet
from bigrain.train.dist import average_gradients, mean_over_ranks
from bigrain.train.gradcache import gradcache
from bigrain.train.losses import align, uniform

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
        optimizer: AdamW.
        step, steps: done so far, and in all.
        losses: one per step done, over all ranks.
    """

    encoder: Any
    data: TrainingSet
    optimizer: torch.optim.Optimizer
    steps: int
    step: int = 0
    losses: list[float] = dataclasses.field(default_factory=list)
    record: dict[str, Any] = dataclasses.field(default_factory=dict)

    def log(self, values: dict[str, Any]) -> None:
        """Add values to the log's next line."""
        self.record.update(values)


class ShuffledBatches:
    """Batches of a fresh permutation per epoch, without the incomplete last; endless, resumable.

    Args:
        n: rows in all.
        batch_size: rows per rank.
        seed: of the permutations.
        rank, world: this process's slice of each batch of world * batch_size rows.
    """

    def __init__(
        self, n: int, batch_size: int, seed: int = 0, *, rank: int = 0, world: int = 1
    ) -> None:
        if not 1 <= batch_size * world <= n:
            raise ValueError(
                f"batch_size: expected 1 to {n // world}, for {n} rows over {world} processes, "
                f"found {batch_size}"
            )
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.rank, self.world = rank, world
        self.epoch = self.cursor = 0

    def __iter__(self) -> Iterator[npt.NDArray[np.int64]]:
        whole = self.batch_size * self.world
        while True:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.n)
            while self.cursor + whole <= self.n:
                start = self.cursor + self.rank * self.batch_size
                self.cursor += whole
                yield order[start : start + self.batch_size]
            self.epoch, self.cursor = self.epoch + 1, 0

    def state_dict(self) -> dict[str, int]:
        """Return where the sampler stands."""
        return {"epoch": self.epoch, "rank": self.rank, "cursor": self.cursor}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there."""
        self.epoch, self.cursor = state["epoch"], state["cursor"]


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
    progress: bool = False,
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
        checkpoint: file to write each `every` steps and at the end, and to resume from.
        resume: go on from `checkpoint` if it exists.
        every: steps between checkpoints.
        log: JSON lines, one per step.
        device: where to train; the encoder is moved there and stays.
        group: a torch.distributed process group; None trains alone.
        chunk: rows per forward pass of GradCache, for batches beyond memory; None is one pass.
        clip: largest norm of the gradient; None leaves it.
        progress: show a bar (tqdm).
        weight_decay: AdamW's; 0.01 is its default.
        amp: encode in bfloat16; None does so on CUDA where the card has it. Processors with
            bfloat16 arithmetic gain as well.
        geometry: log `align` and `uniform` of the batch each so many steps.

    Raises:
        ValueError: arguments out of range, a checkpoint of another run, a loss that is not finite.
    """
    for name, value in (("steps", steps), ("batch_size", batch_size), ("every", every)):
        if value < 1:
            raise ValueError(f"{name}: expected 1 or more, found {value}")
    if not 0 <= warmup < 1 or lr <= 0:
        raise ValueError(f"warmup, lr: expected 0 to 1 and above 0, found {warmup} and {lr}")
    rank, world = (dist.get_rank(group), dist.get_world_size(group)) if group else (0, 1)
    device = torch.device(device)
    if amp is None:
        amp = device.type == "cuda" and torch.cuda.is_bf16_supported()
    if chunk is not None and hasattr(encoder, "module"):
        raise ValueError("chunk: GradCache needs the encoder itself; pass it with `group`")
    encoder.to(device).train()
    extra = list(loss.to(device).parameters()) if isinstance(loss, nn.Module) else []
    parameters = [p for p in [*encoder.parameters(), *extra] if p.requires_grad]
    state = State(
        encoder, data, torch.optim.AdamW(parameters, lr, weight_decay=weight_decay), steps
    )
    if sampler is None:
        sampler = ShuffledBatches(len(data), batch_size, seed, rank=rank, world=world)
    run = _Run(state, sampler, list(callbacks), loss, device, group, chunk, rank, amp)
    run.settings = {"steps": steps, "batch_size": batch_size, "lr": lr, "warmup": warmup,
                    "seed": seed, "rows": len(data), "world": world}  # fmt: skip
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), run.open_log(log), _bar(steps, progress) as bar:
        torch.manual_seed(seed + rank)
        path = None if checkpoint is None else Path(f"{checkpoint}" + f".{rank}" * (world > 1))
        if path is not None and resume and path.exists():
            run.restore(path)
        run.synchronise()
        run.trim_log()
        run.call("on_start")
        begin, batches = time.perf_counter(), run.batches()
        bar.update(state.step)
        while state.step < steps:
            rate = lr * _schedule(state.step, steps, warmup)
            run.step(next(batches), rate, clip, geometry)
            bar.update(1)
            if path is not None and (state.step % every == 0 or state.step == steps):
                run.save(path)
        run.call("on_end")
    tail = state.losses[-max(1, steps // 10) :]
    return {"loss": float(np.mean(tail)), "losses": state.losses, "steps": steps,
            "seconds": time.perf_counter() - begin}  # fmt: skip


class _Run:
    """One call of fit: how a step is taken, what a checkpoint holds."""

    settings: dict[str, Any]

    def __init__(
        self, state: State, sampler: Any, callbacks: list[Any], loss: Any,
        device: torch.device, group: Any, chunk: int | None, rank: int, amp: bool,
    ) -> None:  # fmt: skip
        self.state, self.sampler, self.callbacks, self.loss = state, sampler, callbacks, loss
        self.device, self.group, self.chunk, self.rank = device, group, chunk, rank
        self.core = getattr(state.encoder, "module", state.encoder)
        self.named = named_by(loss)
        self.query_ids = state.data.query_ids() if "q_ids" in self.named else None
        self.parameters = [p for g in state.optimizer.param_groups for p in g["params"]]
        # What DistributedDataParallel wraps it averages itself; a loss's parameters it does not.
        inner = set() if self.core is state.encoder else set(self.core.parameters())
        self.averaged = [p for p in self.parameters if p not in inner]
        self.cast = torch.autocast(device.type, torch.bfloat16, enabled=amp)
        self.file: Any = None

    def step(
        self, rows: npt.NDArray[np.int64], rate: float, clip: float | None, geometry: int | None
    ) -> None:
        """One update, logged, and the callbacks after it."""
        state, begin = self.state, time.perf_counter()
        self.geometry = geometry is not None and state.step % geometry == 0
        for part in state.optimizer.param_groups:
            part["lr"] = rate
        state.optimizer.zero_grad()
        value = float(mean_over_ranks(self._backward(np.asarray(rows, np.int64)), self.group))
        if not np.isfinite(value):
            raise ValueError(
                f"loss: {value} at step {state.step + 1}; lower lr, or look for texts or scores "
                "that break it"
            )
        average_gradients(self.averaged, self.group)
        if clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, clip)
        state.optimizer.step()
        state.step += 1
        state.losses.append(value)
        self.call("on_step")
        line = {"step": state.step, "loss": value, "lr": rate, **state.record}
        state.record = {}
        if self.file is not None:
            line["seconds"] = round(time.perf_counter() - begin, 4)
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()

    def _backward(self, rows: npt.NDArray[np.int64]) -> Tensor:
        data = self.state.data
        p_ids = data.positives[rows]
        n_ids = None if data.negatives is None else data.negatives[rows]
        if n_ids is not None and "n_ids" not in self.named and n_ids.min(initial=0) < 0:
            raise ValueError("loss: the set has padded negatives (-1), so it must take n_ids")
        wanted = p_ids if n_ids is None else np.concatenate([p_ids, n_ids.ravel()])
        # -1 reads some document, which the loss masks by its id.
        documents, places = np.unique(wanted, return_inverse=True)
        texts = [data.documents[i] for i in documents], [data.queries[i] for i in rows]
        where = torch.from_numpy(places).to(self.device)
        offered = {"p_ids": p_ids, "n_ids": n_ids, "rows": rows,
                   "scores": None if data.scores is None else data.scores[rows],
                   "q_ids": None if self.query_ids is None else self.query_ids[rows]}  # fmt: skip
        named = {k: v if v is None else torch.from_numpy(v).to(self.device)
                 for k, v in offered.items() if k in self.named}  # fmt: skip
        if "group" in self.named and self.group is not None:
            named["group"] = self.group

        def objective(q: Tensor, d: Tensor) -> Tensor:
            p = d[where[: len(rows)]]
            n = None if n_ids is None else d[where[len(rows) :]].view(*n_ids.shape, -1)
            self._log_geometry(q, p)
            with torch.autocast(self.device.type, enabled=False):
                return self.loss(q, p, n, **named)  # type: ignore[no-any-return]

        features = [
            self._move(self.core.tokenize(texts[1], "query")),
            self._move(self.core.tokenize(texts[0], "document")),
        ]
        if self.chunk is not None:
            return gradcache(self._embed, features, objective, self.chunk)
        value = objective(*map(self._embed, features))
        value.backward()  # type: ignore[no-untyped-call]
        return value.detach()

    def _embed(self, features: dict[str, Tensor]) -> Tensor:
        with self.cast:
            return self.state.encoder(features).float()  # type: ignore[no-any-return]

    def _move(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.to(self.device) for name, value in features.items()}

    def _log_geometry(self, q: Tensor, p: Tensor) -> None:
        if self.geometry:
            x, y = (nn.functional.normalize(v.detach()[:GEOMETRY_ROWS], dim=-1) for v in (q, p))
            both = (uniform(x) + uniform(y)) / 2
            self.state.log({"align": float(align(x, y)), "uniform": float(both)})

    def synchronise(self) -> None:
        """Give every rank the first one's parameters."""
        if self.group is not None:
            first = dist.get_global_rank(self.group, 0)
            for parameter in self.parameters:
                dist.broadcast(parameter.data, first, group=self.group)

    def batches(self) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the sampler's batches, over and over if it ends."""
        while True:
            empty = True
            for rows in self.sampler:
                empty = False
                yield rows
            if empty:
                raise ValueError("sampler: yielded no batch; lower its batch size")

    def call(self, name: str) -> None:
        """Call every callback that has a method of this name."""
        for callback in self.callbacks:
            if hasattr(callback, name):
                getattr(callback, name)(self.state)

    def save(self, path: Path) -> None:
        """Write the checkpoint under another name, flush it, and rename it."""
        state, parts = self.state, {}
        for name, part in self._parts():
            parts[name] = part.state_dict()
        content = {
            "settings": self.settings,
            "step": state.step,
            "losses": state.losses,
            "negatives": _tensor(state.data.negatives),
            "scores": _tensor(state.data.scores),
            "random": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if self.device.type == "cuda" else None,
            **parts,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".part")
        with open(temporary, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)

    def restore(self, path: Path) -> None:
        """Take up a checkpoint; a ValueError says where it is of another run."""
        # Not weights_only: samplers' and callbacks' states may hold arrays. It is the user's file.
        content = torch.load(path, map_location="cpu", weights_only=False)
        if content["settings"] != self.settings:
            raise ValueError(
                f"checkpoint: {path} is of a run with {content['settings']}, this one has "
                f"{self.settings}; delete it, or pass resume=False"
            )
        state = self.state
        for name, part in self._parts():
            part.load_state_dict(content[name])
        state.step, state.losses = content["step"], content["losses"]
        negatives, scores = (
            None if content[k] is None else content[k].numpy() for k in ("negatives", "scores")
        )
        state.data = dataclasses.replace(state.data, negatives=negatives, scores=scores)
        torch.set_rng_state(content["random"])
        if content["cuda"] is not None:
            torch.cuda.set_rng_state(content["cuda"])

    def _parts(self) -> Iterator[tuple[str, Any]]:
        yield "encoder", self.core
        yield "optimizer", self.state.optimizer
        callbacks = [(f"callback{i}", c) for i, c in enumerate(self.callbacks)]
        for name, part in [("loss", self.loss), ("sampler", self.sampler), *callbacks]:
            if hasattr(part, "state_dict"):
                yield name, part

    @contextlib.contextmanager
    def open_log(self, path: StrPath | None) -> Iterator[None]:
        """Open the log on the first rank."""
        if path is None or self.rank:
            yield
            return
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+", encoding="utf-8") as self.file:
            yield

    def trim_log(self) -> None:
        """Drop the lines after the step that training goes on from, half written ones too."""
        if self.file is not None:
            self.file.seek(0)
            kept = self.file.readlines()[: self.state.step]
            self.file.truncate(0)
            self.file.writelines(kept)
            self.file.flush()


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
            raise ValueError(
                "data: this loss needs negatives, and a teacher's scores to learn from"
            )
        student = rows_dot(q, torch.cat([p[:, None], n], 1))
        mask = torch.ones_like(student, dtype=torch.bool)
        if n_ids is not None:
            mask[:, 1:] = n_ids >= 0
        if "student" in names:
            return loss(student, scores, mask=mask, **options)
        parts = (student,) if scores is None or not taught else (student, scores)
        sides = [side for part in parts for side in (part[:, 0], part[:, 1:])]
        return loss(*sides, mask=mask[:, 1:], **options)

    return call


def _schedule(step: int, steps: int, warmup: float) -> float:
    """Share of the highest rate: up to 1 over the warm-up, then down to 0 past the last step."""
    rise = warmup * steps
    return min((step + 1) / rise if rise else 1.0, (steps - step) / (steps - rise))


def named_by(loss: Callable[..., Any]) -> set[str]:
    """Return which of the keyword arguments on offer a loss takes."""
    offered = {"p_ids", "n_ids", "rows", "scores"}
    call = loss.forward if isinstance(loss, nn.Module) else loss
    parameters = inspect.signature(call).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return offered
    return {p.name for p in parameters} & (offered | {"q_ids", "group"})


def _tensor(array: npt.NDArray[Any] | None) -> Tensor | None:
    return None if array is None else torch.from_numpy(array)


def _bar(steps: int, progress: bool) -> Any:
    if not progress:
        return contextlib.nullcontext(_NoBar())
    from tqdm.auto import tqdm

    return tqdm(total=steps, unit="step", mininterval=1)


class _NoBar:
    def update(self, n: int) -> None:
        """Nothing."""
