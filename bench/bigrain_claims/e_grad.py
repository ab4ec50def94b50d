# SPDX-License-Identifier: Apache-2.0
"""E-GRAD: embeddings shared over devices with gradients are one big device (MoPQ, EMNLP 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bigrain_claims import grad_checks, grad_runs
from bigrain_claims.claim import ArmResult, Claim, Row, Verdict, of_arm

TOLERANCE = {"float64": 1e-12, "float32": 1e-6}
WRONG_BY = 0.1
CLAIM = Claim(
    id="E-GRAD",
    statement="Sharing embeddings over devices with gradients equals one device with the batch.",
    source="Xiao et al., EMNLP 2021, section 3.3",
    reported="Stated, not measured.",
    rule=(
        "Over 2 and 4 gloo processes, with equal and unequal rows and a rank without rows, loss "
        "and gradients of every loss that takes a group, 1 and 20 steps of SGD, and GradCache in "
        "chunks of 1, 2 and 7 differ from one process by at most 1e-12 relative in float64, of "
        "every parameter, and 1e-6 in float32, of the whole gradient."
    ),
    control=(
        "Eight wrong ways must each be off by more than 0.1: remote columns as constants (NCS), "
        "local batches, the loss repeated on every rank, that times the ranks, the mean of unequal "
        "ranks' means, FLOPS per rank, misordered columns, GradCache without replay of dropout."
    ),
    arms=("checks",),
    seeds=1,
)


def load() -> None:
    """Nothing: the batches are drawn."""


def run(arm: str, seed: int, device: str, data: Any) -> dict[str, Any]:
    """Every check with its error; on the CPU whatever the device, since gloo is what is checked."""
    return {"checks": grad_runs.everything()}


def judge(results: Sequence[ArmResult]) -> Verdict:
    """The largest errors of what must be equal, and the smallest of each wrong way."""
    checks = of_arm(results, CLAIM.arms[0])[0].figures["checks"]
    rows, shown, failed = [], True, True
    for dtype, tolerance in TOLERANCE.items():
        found = [c for c in checks if c["kind"] == "equal" and c["dtype"] == dtype]
        worst = max(max(c["error"], c.get("loss", 0.0)) for c in found)
        shown &= worst <= tolerance
        what = f"largest error of {len(found)} checks, {dtype}"
        rows.append(Row(what, f"at most {tolerance:g}", f"{worst:.1e}", worst <= tolerance))
    for name in (*grad_checks.WRONG, "GradCache without replay"):
        found = [c for c in checks if c["kind"] == "wrong" and c["check"] == name]
        off = min(c["error"] for c in found)
        failed &= off > WRONG_BY
        at_4 = next(c for c in found if c["world"] == 4)
        more = ""
        if "cosine" in at_4:
            more = f", cosine {at_4['cosine']:.3f}, length {at_4['ratio']:.2f}"
        rows.append(Row(f"wrong: {name}", "", f"off by {at_4['error']:.2f}{more}", off > WRONG_BY))
    text = (
        "Each rank computes the loss of its own rows against everybody's columns; the mean over "
        "ranks is then the gradient of the whole batch, with no factor of the number of ranks. "
        "Wrong ways are given for 4 processes: how far the worst parameter is off, the cosine to "
        "the right gradient and its length along it."
    )
    return Verdict(shown, failed, rows, text)


def plot(results: Sequence[ArmResult], axes: Any) -> None:
    """Errors of right and wrong ways on one logarithmic scale."""
    checks = of_arm(results, CLAIM.arms[0])[0].figures["checks"]
    kinds = [("equal", "float64"), ("equal", "float32"), ("wrong", "float64")]
    for height, (kind, dtype) in enumerate(kinds):
        found = [c["error"] for c in checks if c["kind"] == kind and c["dtype"] == dtype]
        # float64's spacing stands for an error of 0, which a logarithm cannot show
        axes.plot([max(e, 2.2e-16) for e in found], [height] * len(found), "|", markersize=14)
    axes.set_xscale("log")
    axes.set_yticks(range(len(kinds)), [" ".join(kind) for kind in kinds])
    axes.set_xlabel("relative error of the gradient")
