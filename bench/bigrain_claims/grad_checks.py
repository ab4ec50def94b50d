# SPDX-License-Identifier: Apache-2.0
"""Gradients over gloo processes against one process with the whole batch, and wrong ways to do it.

A case is a function (towers, data, rows, group) -> loss of these rows: with all rows and no group
it is the reference. After the ranks' gradients are averaged, as DistributedDataParallel does, loss
and gradients must be the reference's. A wrong way is such a function that must differ.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bigrain.train import losses, token_losses
from bigrain.train.dist import (
    Group,
    GroupInfo,
    all_gather_padded,
    average_gradients,
    gather_ragged,
    group_info,
    mean_over_ranks,
    weighted_mean,
)
from bigrain.train.quantize import LearnedPQ, mcl

Case: TypeAlias = "Callable[[Towers, Data, slice, Group | None], Tensor]"
WIDTH, H, TOKENS = 6, 3, 5
# Rows per rank: equal; the sizes that section 3's figures were made with; a rank without rows.
SIZES = {"even": (8, 8, 8, 8), "uneven": (5, 9, 8, 10), "empty rank": (7, 0, 4, 6)}
WORLDS = (2, 4)
# Gradients so much smaller than others are rounding: float32 leaves 1e-7, true ones are above 1e-3.
ZERO = 1e-5


class Towers(nn.Module):
    """An encoder per side, a temperature, and a codebook that is used after the gather."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()

        def side() -> nn.Module:
            return nn.Sequential(
                nn.Linear(9, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, WIDTH)
            )

        self.sides = nn.ModuleDict({"query": side(), "document": side()})
        self.tau = nn.Parameter(torch.tensor(0.7))
        self.codebook = nn.Parameter(torch.randn(4, WIDTH))
        self.pq = LearnedPQ(WIDTH, 2)
        generator = torch.Generator().manual_seed(0)
        nn.init.normal_(self.pq.codebooks, std=0.5, generator=generator)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Encode features under the name of their side."""
        ((name, x),) = features.items()
        encoded: Tensor = self.sides[name](x)
        return encoded

    def q(self, data: Data, rows: slice) -> Tensor:
        """Queries, (b, d)."""
        return self.forward({"query": data.queries[rows]})

    def p(self, data: Data, rows: slice) -> Tensor:
        """Positives, (b, d)."""
        return self.forward({"document": data.positives[rows]})

    def n(self, data: Data, rows: slice) -> Tensor:
        """Hard negatives, (b, H, d)."""
        return self.forward({"document": data.negatives[rows]})


@dataclass(frozen=True)
class Data:
    """A whole batch of B rows; every rank has all of it and uses its rows."""

    queries: Tensor
    positives: Tensor
    negatives: Tensor
    tokens: Tensor
    lengths: Tensor
    q_ids: Tensor
    p_ids: Tensor
    n_ids: Tensor
    teacher: Tensor
    log_q: Tensor

    def ids(self, rows: slice) -> dict[str, Any]:
        """What `contrastive` takes of these rows."""
        return {name: getattr(self, name)[rows] for name in ("q_ids", "p_ids", "n_ids")}


def make(B: int, seed: int, dtype: torch.dtype, dropout: float = 0.0) -> tuple[Towers, Data]:
    """Draw towers and a batch of B rows; the same on every rank."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        towers = Towers(dropout).to(dtype)
        data = Data(
            torch.randn(B, 9),
            torch.randn(B, 9),
            torch.randn(B, H, 9),
            torch.randn(B, TOKENS, WIDTH),
            torch.randint(1, TOKENS + 1, (B,)),
            torch.arange(B) % 7,
            torch.arange(B) % 11,
            torch.randint(-1, 11, (B, H)),
            torch.randn(B, B),
            torch.randn(B * (1 + H)) / 4,
        )
    floats = {k: v.to(dtype) for k, v in vars(data).items() if v.is_floating_point()}
    return towers, Data(**{**vars(data), **floats})


def pairs(m: Towers, data: Data, rows: slice, group: Group | None) -> Tensor:
    return losses.contrastive(m.q(data, rows), m.p(data, rows), group=group)


def hard(m: Towers, data: Data, rows: slice, group: Group | None, **more: Any) -> Tensor:
    """Three hard negatives per query, ids, a correction of every column, a trained temperature."""
    q, p, n = m.q(data, rows), m.p(data, rows), m.n(data, rows)
    given = {**data.ids(rows), "tau": m.tau, "log_q": data.log_q, "group": group, **more}
    return losses.contrastive(q, p, n, **given)


def own(m: Towers, data: Data, rows: slice, group: Group | None) -> Tensor:
    return hard(m, data, rows, group, negatives="own")


def symmetric(m: Towers, data: Data, rows: slice, group: Group | None) -> Tensor:
    return hard(m, data, rows, group, symmetric=True)


def codebook(m: Towers, data: Data, rows: slice, group: Group | None) -> Tensor:
    """Every gathered column is rebuilt from a trained codebook."""
    q = m.q(data, rows)
    info = group_info(len(q), group)
    keys = all_gather_padded(m.p(data, rows), info)
    logits = q @ (torch.softmax(keys @ m.codebook.T, 1) @ m.codebook).T / m.tau
    labels = info.offset + torch.arange(len(q))
    return info.mean(nn.functional.cross_entropy(logits, labels, reduction="none"))


def quantized(m: Towers, data: Data, rows: slice, group: Group | None) -> Tensor:
    """MoPQ's loss: columns are reconstructions, of hard negatives too."""
    q, p, n = m.q(data, rows), m.p(data, rows), m.n(data, rows)
    return mcl(q, p, m.pq, n, tau=m.tau, eps=0.1, group=group, **data.ids(rows))


def kd(m: Towers, data: Data, rows: slice, group: Group | None) -> Tensor:
    q, p = m.q(data, rows), m.p(data, rows)
    return losses.kd_inbatch(q, p, data.teacher[rows], 0.3, 0.5, group)


def flops(m: Towers, data: Data, rows: slice, group: Group | None) -> Tensor:
    return token_losses.flops(m.p(data, rows).relu(), group)


def margin(m: Towers, data: Data, rows: slice, group: Group | None) -> Tensor:
    """A loss of local rows alone."""
    q, p, n = m.q(data, rows), m.p(data, rows), m.n(data, rows)
    goal = data.teacher[rows, : H + 1]
    s_neg = (n @ q[:, :, None]).squeeze(2)
    loss = losses.margin_mse((q * p).sum(1), s_neg, goal[:, 0], goal[:, 1:])
    return weighted_mean(loss, len(q), group)


def several(m: Towers, data: Data, rows: slice, group: Group | None) -> Tensor:
    """Terms of every kind in one loss: their ratio must not change with the number of ranks."""
    terms = [case(m, data, rows, group) for case in (symmetric, codebook, kd, flops, margin)]
    return losses.joint(terms, [1.0, 0.5, 0.7, 0.1, 0.05])


def tokens(m: Towers, data: Data, rows: slice, group: Group | None) -> Tensor:
    """Token vectors whose longest text differs between ranks."""
    q, lengths = m.q(data, rows), data.lengths[rows]
    longest = int(lengths.max()) if len(lengths) else 1
    mask = torch.arange(longest) < lengths[:, None]
    mine = data.tokens[rows, :longest] * m.p(data, rows)[:, None]
    documents, kept = gather_ragged(mine, mask, group)
    scores = token_losses.maxsim(q[:, None], documents, None, kept)
    labels = group_info(len(q), group).offset + torch.arange(len(q))
    return weighted_mean(token_losses.list_ce(scores, labels), len(q), group)


CASES: dict[str, Case] = {
    "pairs": pairs,
    "hard negatives": hard,
    "own negatives": own,
    "symmetric": symmetric,
    "codebook": codebook,
    "MCL": quantized,
    "in-batch distillation": kd,
    "FLOPS": flops,
    "margin-MSE": margin,
    "several terms": several,
    "token vectors": tokens,
}


def detached(x: Tensor, info: GroupInfo) -> Tensor:
    """Gather with the other ranks' rows as constants."""
    rows = all_gather_padded(x.detach(), info)
    return torch.cat([rows[: info.offset], x, rows[info.offset + len(x) :]])


def constants(m: Towers, data: Data, rows: slice, group: Group | None) -> Tensor:
    """NCS: local rows, remote columns constant."""
    q = m.q(data, rows)
    info = group_info(len(q), group)
    logits = q @ detached(m.p(data, rows), info).T / m.tau
    labels = info.offset + torch.arange(len(q))
    return info.mean(nn.functional.cross_entropy(logits, labels, reduction="none"))


def replicated(m: Towers, data: Data, rows: slice, group: Group | None) -> Tensor:
    """A: each rank the whole loss, its own rows alone with a gradient."""
    q, p = m.q(data, rows), m.p(data, rows)
    info = group_info(len(q), group)
    logits = detached(q, info) @ detached(p, info).T / m.tau
    return nn.functional.cross_entropy(logits, torch.arange(info.total))


def replicated_times_ranks(m: Towers, data: Data, rows: slice, group: Group | None) -> Tensor:
    """A x D, whose encoders' gradients are right and the temperature's is not."""
    return replicated(m, data, rows, group) * dist.get_world_size(group)


def local(m: Towers, data: Data, rows: slice, group: Group | None) -> Tensor:
    """Each rank its own batch."""
    return losses.contrastive(m.q(data, rows), m.p(data, rows), tau=m.tau)


def scaled_pairs(m: Towers, data: Data, rows: slice, group: Group | None) -> Tensor:
    """The right way to do what the wrong ways do."""
    return losses.contrastive(m.q(data, rows), m.p(data, rows), tau=m.tau, group=group)


def unweighted(m: Towers, data: Data, rows: slice, group: Group | None) -> Tensor:
    """The mean of the ranks' means, whatever their numbers of rows."""
    info = group_info(rows.stop - rows.start, group)
    return (
        scaled_pairs(m, data, rows, group) * info.total / (len(info.sizes) * info.sizes[info.rank])
    )


def local_flops(m: Towers, data: Data, rows: slice, group: Group | None) -> Tensor:
    """The mean over ranks of a square of a mean."""
    return token_losses.flops(m.p(data, rows).relu())


def misordered(m: Towers, data: Data, rows: slice, group: Group | None) -> Tensor:
    """Columns gathered as [p, n] of rank 0, of rank 1, ..., labels as if all p came first."""
    q, p, n = m.q(data, rows), m.p(data, rows), m.n(data, rows)
    info = group_info(len(q) * (1 + H), group)
    columns = all_gather_padded(torch.cat([p, n.flatten(0, 1)]), info)
    labels = dist.get_rank(group) * len(q) + torch.arange(len(q))
    return nn.functional.cross_entropy(q @ columns.T / m.tau, labels)


def hard_only(m: Towers, data: Data, rows: slice, group: Group | None) -> Tensor:
    """What `misordered` means to do."""
    q, p, n = m.q(data, rows), m.p(data, rows), m.n(data, rows)
    return losses.contrastive(q, p, n, tau=m.tau, group=group)


# The wrong way, the right one, the sizes, and the parameters that must differ.
WRONG: dict[str, tuple[Case, Case, str, str]] = {
    "constants": (constants, scaled_pairs, "even", "sides"),
    "local batches": (local, scaled_pairs, "even", "sides"),
    "replicated": (replicated, scaled_pairs, "even", "sides"),
    "replicated x ranks": (replicated_times_ranks, scaled_pairs, "even", "tau"),
    "unweighted mean": (unweighted, scaled_pairs, "uneven", "sides"),
    "FLOPS per rank": (local_flops, flops, "even", "sides"),
    "misordered columns": (misordered, hard_only, "even", "sides"),
}


def gradients(m: Towers) -> dict[str, Tensor]:
    """Each parameter's gradient; zeros where it has none."""
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in m.named_parameters()
    }


def error(found: dict[str, Tensor], exact: dict[str, Tensor], *, whole: bool = False) -> float:
    """Largest difference of any parameter, relative to its own largest entry.

    Gradients that are 0 but for rounding, such as that of a bias which moves all columns alike, are
    relative to the largest entry of all parameters; with `whole` all are: where float32 cancels, a
    single parameter's relative error says more of its rounding than of its gradient.
    """
    scales = {name: value.abs().max().item() for name, value in exact.items()}
    most = max(scales.values())
    return max(
        (found[name] - value).abs().max().item()
        / (scales[name] if scales[name] > ZERO * most and not whole else most)
        for name, value in exact.items()
    )


def only(values: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name: value for name, value in values.items() if name.startswith(part)}


def cosine(found: dict[str, Tensor], exact: dict[str, Tensor]) -> float:
    a, b = (torch.cat([x.flatten() for x in v.values()]) for v in (found, exact))
    return torch.nn.functional.cosine_similarity(a, b, 0).item()


def ratio(found: dict[str, Tensor], exact: dict[str, Tensor]) -> float:
    """Length of the gradient along the right one, 1 where it is right."""
    a, b = (torch.cat([x.flatten() for x in v.values()]) for v in (found, exact))
    return (a @ b / (b @ b)).item()


def own_rows(sizes: tuple[int, ...], rank: int) -> slice:
    start = sum(sizes[:rank])
    return slice(start, start + sizes[rank])


def both(
    case: Case, reference: Case, towers: Towers, data: Data, rows: slice, group: Group
) -> tuple[Towers, Towers, float]:
    """Run a case on this rank and the reference on all rows; the losses' relative difference."""
    mine, whole = copy.deepcopy(towers), copy.deepcopy(towers)
    loss = case(mine, data, rows, group)
    loss.backward()  # type: ignore[no-untyped-call]
    average_gradients(mine.parameters(), group)
    exact = reference(whole, data, slice(0, len(data.queries)), None)
    exact.backward()  # type: ignore[no-untyped-call]
    off = mean_over_ranks(loss, group) - exact.detach()
    return mine, whole, abs(off.item() / exact.item())
