# SPDX-License-Identifier: Apache-2.0
"""Runs every check of `grad_checks` in processes of two and of four, and GradCache in both."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from bigrain.train import losses, token_losses
from bigrain.train.dist import Group, average_gradients, spawn
from bigrain.train.gradcache import gradcache
from bigrain_claims import grad_checks as checks
from bigrain_claims.grad_checks import Data, Towers

STEPS = (1, 20)
RATE = 0.05
CHUNKS = (1, 2, 7)


def everything(dtypes: tuple[str, ...] = ("float64", "float32")) -> list[dict[str, Any]]:
    """All checks in four new processes, of which the groups of two use two.

    Returns:
        A dict per check: "check", "kind" ("equal" or "wrong"), "dtype", "world", "sizes", and
        "error", the largest over ranks; where it was computed "loss", "cosine", "ratio".
    """
    ranks = spawn(of_rank, max(checks.WORLDS), dtypes)
    result: dict[tuple[Any, ...], dict[str, Any]] = {}
    for rank in ranks:
        for check in rank:
            key = tuple(check[name] for name in ("kind", "check", "dtype", "world", "sizes"))
            other = result.setdefault(key, check)
            other["error"] = max(other["error"], check["error"])
    return list(result.values())


def of_rank(dtypes: tuple[str, ...]) -> list[dict[str, Any]]:
    """What this rank finds."""
    groups = {world: dist.new_group(range(world)) for world in checks.WORLDS}
    found: list[dict[str, Any]] = []
    for name in dtypes:
        dtype = getattr(torch, name)
        for world, group in groups.items():
            if dist.get_rank() < world:
                checked = _equal(dtype, world, group)
                if dtype == torch.float64:  # in float32 they are as far off
                    checked += _wrong(dtype, world, group)
                found += [{"dtype": name, "world": world, **check} for check in checked]
    return found


def _equal(dtype: torch.dtype, world: int, group: Group) -> list[dict[str, Any]]:
    found = []
    kinds = checks.SIZES if dtype == torch.float64 else {"uneven": checks.SIZES["uneven"]}
    for kind, sizes in kinds.items():
        own = checks.own_rows(sizes[:world], dist.get_rank(group))
        for seed, (name, case) in enumerate(checks.CASES.items()):
            towers, data = checks.make(sum(sizes[:world]), seed, dtype)
            mine, whole, off = checks.both(case, case, towers, data, own, group)
            wrong = _error(checks.gradients(mine), checks.gradients(whole))
            found.append({"check": name, "sizes": kind, "loss": off, "error": wrong})
        found += [{"sizes": kind, **check} for check in _whole_steps(dtype, sizes[:world], group)]
    towers, data = checks.make(8 * world, 99, dtype, dropout=0.1)
    own = checks.own_rows(checks.SIZES["even"][:world], dist.get_rank(group))
    wrong = dropout_error(towers, data, own, group, replay=True)
    found.append({"check": "GradCache with dropout", "sizes": "even", "error": wrong})
    return [{"kind": "equal", **check} for check in found]


def _error(found: dict[str, Tensor], exact: dict[str, Tensor]) -> float:
    """Of each parameter in float64, of the whole gradient in float32."""
    return checks.error(found, exact, whole=next(iter(exact.values())).dtype == torch.float32)


def _whole_steps(
    dtype: torch.dtype, sizes: tuple[int, ...], group: Group
) -> Iterator[dict[str, Any]]:
    """SGD and GradCache; the longest and the many only where sizes are uneven: it costs most."""
    towers, data = checks.make(sum(sizes), 99, dtype)
    own, whole = checks.own_rows(sizes, dist.get_rank(group)), slice(0, sum(sizes))
    full = min(sizes) > 0 and len(set(sizes)) > 1
    for steps in STEPS if full else STEPS[:1]:
        yield {"check": f"SGD, steps: {steps}", "error": descend(towers, data, own, group, steps)}
    for chunk in CHUNKS if full else CHUNKS[1:2]:
        yield {
            "check": f"GradCache, chunk: {chunk}",
            "error": cached_error(towers, data, own, group, chunk),
        }
        yield {
            "check": f"GradCache, chunk: {chunk}, one process",
            "error": cached_error(towers, data, whole, None, chunk),
        }


def _wrong(dtype: torch.dtype, world: int, group: Group) -> list[dict[str, Any]]:
    found = []
    for name, (case, reference, kind, part) in checks.WRONG.items():
        sizes = checks.SIZES[kind][:world]
        towers, data = checks.make(sum(sizes), 5, dtype)
        own = checks.own_rows(sizes, dist.get_rank(group))
        mine, whole, _ = checks.both(case, reference, towers, data, own, group)
        a, b = (checks.only(checks.gradients(m), part) for m in (mine, whole))
        check = {"check": name, "sizes": kind, "error": checks.error(a, b)}
        found.append({**check, "cosine": checks.cosine(a, b), "ratio": checks.ratio(a, b)})
    towers, data = checks.make(8 * world, 99, dtype, dropout=0.1)
    own = checks.own_rows(checks.SIZES["even"][:world], dist.get_rank(group))
    wrong = dropout_error(towers, data, own, group, replay=False)
    found.append({"check": "GradCache without replay", "sizes": "even", "error": wrong})
    return [{"kind": "wrong", **check} for check in found]


def descend(towers: Towers, data: Data, own: slice, group: Group, steps: int) -> float:
    """Train on all ranks and in one process; how far the parameters are apart."""
    trained = []
    for rows, ranks in ((own, group), (slice(0, len(data.queries)), None)):
        model = copy.deepcopy(towers)
        optimizer = torch.optim.SGD(model.parameters(), RATE)
        for _ in range(steps):
            optimizer.zero_grad()
            case = checks.several if steps == 1 else checks.hard  # many steps: fewer collectives
            case(model, data, rows, ranks).backward()  # type: ignore[no-untyped-call]
            average_gradients(model.parameters(), ranks)
            optimizer.step()
        trained.append({name: p.detach() for name, p in model.named_parameters()})
    return _error(*trained)


def columns(data: Data, rows: slice) -> list[dict[str, Tensor]]:
    """Queries, positives and hard negatives as GradCache takes them."""
    return [
        {"query": data.queries[rows]},
        {"document": data.positives[rows]},
        {"document": data.negatives[rows].flatten(0, 1)},
    ]


def objective(
    towers: Towers, data: Data, rows: slice, group: Group | None, q: Tensor, p: Tensor, n: Tensor
) -> Tensor:
    """Two terms of embeddings, one of which is no mean over rows."""
    given: dict[str, Any] = {**data.ids(rows), "tau": towers.tau, "group": group}
    loss = losses.contrastive(q, p, n.view(-1, checks.H, checks.WIDTH), symmetric=True, **given)
    return loss + 0.1 * token_losses.flops(p.relu(), group)


def cached_error(towers: Towers, data: Data, rows: slice, group: Group | None, chunk: int) -> float:
    """GradCache on these ranks against one process without it."""
    mine, whole = copy.deepcopy(towers), copy.deepcopy(towers)
    gradcache(mine, columns(data, rows), lambda *x: objective(mine, data, rows, group, *x), chunk)
    average_gradients(mine.parameters(), group)
    everything = slice(0, len(data.queries))
    q, p, n = (whole(column) for column in columns(data, everything))
    objective(whole, data, everything, None, q, p, n).backward()  # type: ignore[no-untyped-call]
    return _error(checks.gradients(mine), checks.gradients(whole))


def dropout_error(
    towers: Towers, data: Data, rows: slice, group: Group | None, *, replay: bool
) -> float:
    """GradCache under dropout against the same chunks encoded once, in order, with their graph."""
    mine, plain, size = copy.deepcopy(towers), copy.deepcopy(towers), 3
    given = columns(data, rows)
    with torch.random.fork_rng([]):
        torch.manual_seed(7)
        gradcache(
            mine, given, lambda *x: objective(mine, data, rows, group, *x), size, replay=replay
        )
        torch.manual_seed(7)
        embeddings = [
            torch.cat([plain({name: x[i : i + size]}) for i in range(0, len(x), size)])
            for column in given
            for name, x in column.items()
        ]
    objective(plain, data, rows, group, *embeddings).backward()  # type: ignore[no-untyped-call]
    average_gradients(mine.parameters(), group)
    average_gradients(plain.parameters(), group)
    return _error(checks.gradients(mine), checks.gradients(plain))
