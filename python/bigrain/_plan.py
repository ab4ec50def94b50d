# SPDX-License-Identifier: Apache-2.0
"""What an index consists of, what that costs, and why: `Index.plan`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from bigrain import _core
from bigrain._memory import ALL

# As the trials were made (cpp/index/choose_code_dim.cpp).
TRIAL_SHARE, TRIAL_K = 0.98, 10


class CodeTrial(NamedTuple):
    """A length of codes that the build tried.

    rerank: candidates among which .98 of the 10 nearest lie. cost: cache lines that a typical query
    reads then.
    """

    code_dim: int
    rerank: float
    cost: float


class TunedCurve(NamedTuple):
    """A curve that `tune` stored: how many settings, and the recalls that they reach."""

    k: int
    settings: int
    least: float
    most: float


class Residency(NamedTuple):
    """What of an index is in memory.

    mode: "memory", "vectors on disk" or "rows and vectors on disk". budget: bytes, None where there
    is none. bytes: of what stays. hot_rows: rows in memory, of those on disk. hot_vectors:
    vectors in memory, where all rows are. entries: points where a walk looks first. reason: in
    words. io: how the file is read, "" where it is not.
    """

    mode: str
    budget: int | None
    bytes: int
    hot_rows: int
    hot_vectors: int
    entries: int
    reason: str
    io: str


@dataclass(frozen=True)
class Plan:
    """What is where in an index and what it costs; print it to read it.

    n, dim, dtype, metric, degree: as built. layout: "compact" or "fast"; why_layout: who
    chose it, or what "auto" measured. code_dim: dimensions of
    the codes. code_bytes: of one code record, whole cache lines. bytes: by part. total_bytes,
    bytes_per_vector: of all parts. isa: the instruction set of the kernels here. trials: the code
    lengths that the build tried, empty where `code_dim` was given or nothing could be won. tuned:
    the stored curves, empty before `tune`. residency: what is in memory, and how the rest is read.
    """

    n: int
    dim: int
    dtype: str
    metric: str
    degree: int
    layout: str
    why_layout: str
    code_dim: int
    code_bytes: int
    bytes: dict[str, int]
    total_bytes: int
    bytes_per_vector: float
    isa: str
    trials: tuple[CodeTrial, ...]
    tuned: tuple[TunedCurve, ...]
    residency: Residency

    def __str__(self) -> str:
        parts = ", ".join(f"{part} {_size(size)}" for part, size in self.bytes.items() if size)
        return "\n".join(
            [
                f"vectors  {self.n:,} x {self.dim} {self.dtype}, metric {self.metric}",
                f"layout   {self.layout} ({self.why_layout})",
                f"graph    at most {self.degree} neighbours each",
                *self._residency_lines(),
                f"codes    8 bits each of {self._code_dimensions()}, {self.code_bytes} bytes each",
                f"bytes    {parts}",
                f"         in all {_size(self.total_bytes)}, {self.bytes_per_vector:,.0f} a vector",
                f"kernels  {self.isa}",
                *self._trial_lines(),
                *self._curve_lines(),
            ]
        )

    def _residency_lines(self) -> list[str]:
        where = self.residency
        if where.mode == "memory":
            return [f"memory   everything ({where.reason})"]
        budget = "the least" if not where.budget else _size(where.budget)
        lines = [f"memory   {where.mode}, {_size(where.bytes)} of {budget} ({where.reason})"]
        if where.hot_vectors:
            lines.append(f"         {where.hot_vectors:,} hot vectors")
        if where.entries:
            lines.append(f"         {where.hot_rows:,} hot rows, {where.entries:,} entry points")
        return [*lines, f"reads    {where.io}"]

    def _code_dimensions(self) -> str:
        if self.code_dim == self.dim:
            return f"all {self.dim} dimensions, rotated"
        return f"the {self.code_dim} leading principal components of {self.dim}"

    def _trial_lines(self) -> list[str]:
        if not self.trials:
            return ["trials   none: code_dim was given, or the vectors are too few or too short"]
        head = (
            f"trials   code_dim  candidates for {TRIAL_SHARE} of {TRIAL_K}  cache lines per query"
        )
        lines = [
            f"         {trial.code_dim:8}  {trial.rerank:25.1f}  {trial.cost:21,.0f}"
            + ("  <- taken" if trial.code_dim == self.code_dim else "")
            for trial in self.trials
        ]
        return [head, *lines]

    def _curve_lines(self) -> list[str]:
        if not self.tuned:
            return ["tuned    not yet: index.tune(recall=...)"]
        return [
            f"tuned    k={c.k}: {c.settings} settings, recall {c.least:.4f} to {c.most:.4f}"
            for c in self.tuned
        ]


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"


def plan_of(core: _core.Index, why_layout: str) -> Plan:
    """Gather what the core knows."""
    meta, parts = core.meta(), core.part_bytes()
    count, total = meta["count"], sum(parts.values())
    return Plan(
        n=count,
        dim=meta["dim"],
        dtype=meta["dtype"],
        metric=meta["metric"],
        degree=meta["degree"],
        layout="fast" if parts["blocks"] else "compact",
        why_layout=why_layout,
        code_dim=meta["code_dim"],
        code_bytes=meta["code_stride"],
        bytes=parts,
        total_bytes=total,
        bytes_per_vector=total / count if count else 0.0,
        isa=_core.active_isa(),
        trials=tuple(CodeTrial(*row) for row in core.trials()),
        tuned=_curves(core),
        residency=_residency(core),
    )


def _residency(core: _core.Index) -> Residency:
    found = core.residency()
    if found["budget"] == ALL:
        found["budget"] = None
    return Residency(**found)


def _curves(core: _core.Index) -> tuple[TunedCurve, ...]:
    recalls: dict[int, list[float]] = {}
    for k, _, _, recall, _ in core.tuning():
        recalls.setdefault(k, []).append(recall)
    return tuple(TunedCurve(k, len(all_), min(all_), max(all_)) for k, all_ in recalls.items())
