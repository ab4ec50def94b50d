# SPDX-License-Identifier: Apache-2.0
"""E-MCL: codes trained for the ranking beat codes trained for reconstruction, byte for byte.

MoPQ (Xiao et al., EMNLP 2021, section 3) and Distill-VQ (Xiao et al., SIGIR 2022) on frozen
embeddings, those of an untouched all-MiniLM-L6-v2 (384 dimensions): only rotation and codebooks are
trained, all from the same OPQ, with the same optimizer, steps and batches. Every arm's documents
are searched exhaustively by what their codes stand for, by inner product or by cosine, whichever
finds more answers of dev; queries are never quantized.

The same experiment on BoolQ, with 128 dimensions of a static encoder that was trained on that
collection, did not show the claim: beside OPQ scored by cosine no loss gained anything, at 8 or at
16 bytes. `NOTE` keeps that on the page.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from bigrain.eval.significance import Comparison, compare
from bigrain_claims import codes, frozen
from bigrain_claims.claim import ArmResult, Claim, Row, Verdict, of_arm, per_query, spread, values
from bigrain_claims.frozen import Frozen

SIZES = (8, 16)
TRAINED = ("MCL", "ListNet", "ListNet-unlabelled")
KINDS = ("PQ", "OPQ", "reconstruction", *TRAINED, "MCL-shuffled")
CLAIM = Claim(
    id="E-MCL",
    statement="At equal bytes, codes trained for matching find more answers than codes trained "
    "for reconstruction.",
    source="Xiao et al., EMNLP 2021 (MoPQ), table 2; Xiao et al., SIGIR 2022 (Distill-VQ), table 1",
    reported=(
        "R@10 on News, 8 bytes: PQ .2028, OPQ .2381, MoPQ with in-batch negatives .3422, at a "
        "higher reconstruction error; MS MARCO 96 times smaller, codes alone trained: MRR@10 of "
        "OPQ .3268, ListNet .3435 labelled, .3467 unlabelled."
    ),
    rule=(
        "One of MCL, ListNet, ListNet-unlabelled has a higher labelled R@10 than OPQ on held-out "
        "queries (the 2,000 of Debian's package descriptions, all-MiniLM-L6-v2), at 8 and at 16 "
        "bytes, both with p < .05 (paired permutation test over queries, means over seeds; p times "
        "3, the number of losses tried). Reconstruction trained with the same optimizer and steps, "
        "recall of exact neighbours and distortion are printed whichever way they fall."
    ),
    control=(
        "MCL with the pairs' documents shuffled must not beat OPQ at either size (a positive "
        "difference with p < .05)."
    ),
    arms=tuple(f"{kind}-{size}" for size in SIZES for kind in KINDS),
    seeds=3,
)
# Of the runs of this rule on BoolQ, 3 seeds, whose 14 arms lie in the history of docs/claims.
NOTE = (
    "On BoolQ, with 128 dimensions of a static encoder trained on that collection, the same rule "
    "was not met: R@10 of OPQ by cosine .7440 at 8 bytes and .8160 at 16, MCL +.0018 (p = .60) and "
    "-.0018 (p = .59). Whether fewer dimensions or the encoder's training make that difference was "
    "not tried."
)
STEPS, BATCH = 300, 256
# Of the softmax over codewords: of .01 and .03 the better by MRR@10 on dev for every loss and
# size. ListNet draws one near document per query: a step costs twice what MCL's does.
TEMPERATURE, DRAWN = 0.01, 1
GRID = (1e-3, 3e-3)
# Best of GRID on dev, by python -m bigrain_claims.tune E-MCL.
RATES = {
    "reconstruction-8": 3e-3,
    "MCL-8": 3e-3,
    "ListNet-8": 3e-3,
    "ListNet-unlabelled-8": 3e-3,
    "reconstruction-16": 1e-3,
    "MCL-16": 3e-3,
    "ListNet-16": 3e-3,
    "ListNet-unlabelled-16": 3e-3,
}
TUNED = tuple(f"{kind}-{size}" for size in SIZES for kind in ("reconstruction", *TRAINED))


def load() -> Frozen:
    """Frozen embeddings."""
    return frozen.load()


def code_of(arm: str, seed: int, device: str, data: Frozen, lr: float | None = None) -> codes.Code:
    """The codes of an arm."""
    kind, size = arm.rsplit("-", 1)
    if kind in ("PQ", "OPQ"):
        return codes.untrained(data, kind, int(size), seed)
    rate = lr or RATES[arm.replace("-shuffled", "")]
    options: dict[str, Any] = {"steps": STEPS, "batch_size": BATCH, "lr": rate}
    loss = "recon" if kind == "reconstruction" else kind.split("-")[0].lower()
    if loss == "listnet":
        options["drawn"] = DRAWN
    pairs = {"MCL-shuffled": "shuffled", "ListNet-unlabelled": "none"}.get(kind, "given")
    return codes.learned(
        data, int(size), seed, loss, pairs=pairs, device=device, temperature=TEMPERATURE, **options
    )


def run(
    arm: str,
    seed: int,
    device: str,
    data: Frozen,
    lr: float | None = None,
    split: str = "test",
) -> dict[str, Any]:
    """Labelled recall, recall of exact neighbours, distortion."""
    made = code_of(arm, seed, device, data, lr).decode()
    score, vectors = codes.scored(data, made)
    rows = getattr(data, split)
    queries, answers = data.queries[rows], data.positive[rows][:, None]
    found = codes.search(vectors, queries, 100)
    true = codes.search(data.documents, queries, 10)
    hit = codes.hits(data, split, found)
    place = 1 + (found[:, :10] == answers).argmax(1)
    common = [len(np.intersect1d(*pair)) for pair in zip(found[:, :10], true, strict=True)]
    return {
        "r@10": float(hit.mean()),
        "r@100": float((found == answers).any(1).mean()),
        "mrr@10": float((hit / place).mean()),
        "score": score,
        "exact r@10": float(codes.hits(data, split, true).mean()),
        "neighbours@10": float(np.mean(common) / 10),
        "distortion": float(((made - data.documents) ** 2).sum(1).mean()),
        "lr": lr or RATES.get(arm.replace("-shuffled", ""), 0.0),
        "per_query": {"hit@10": hit.astype(np.float64)},
    }


def judge(results: Sequence[ArmResult]) -> Verdict:
    """The differences to OPQ, the control, and a row per arm."""
    hits = {arm: per_query(results, arm, "hit@10") for arm in CLAIM.arms}

    @functools.cache
    def test(kind: str, base: str, size: int) -> Comparison:
        return compare(hits[f"{base}-{size}"], hits[f"{kind}-{size}"])

    def beats(kind: str, base: str, size: int, times: int = 1) -> bool:
        found = test(kind, base, size)
        return found.difference > 0 and found.p * times < 0.05

    winners = [k for k in TRAINED if all(beats(k, "OPQ", s, len(TRAINED)) for s in SIZES)]
    failed = not any(beats("MCL-shuffled", "OPQ", size) for size in SIZES)
    rows = [
        _row(results, kind, size, test(kind, "OPQ", size) if kind != "OPQ" else None, failed)
        for size in SIZES
        for kind in KINDS
    ]
    best = max(TRAINED, key=lambda kind: sum(hits[f"{kind}-{size}"].mean() for size in SIZES))
    said = "; ".join(
        f"at {size} bytes {best} over OPQ {_said(test(best, 'OPQ', size))}, over reconstruction "
        f"{_said(test(best, 'reconstruction', size))}"
        for size in SIZES
    )
    passed = f"The rule is met by {', '.join(winners)}." if winners else "No loss meets the rule."
    exact = values(results, CLAIM.arms[0], "exact r@10")[0]
    text = f"Labelled R@10: {said}. {passed} Without codes it is {exact:.4f}. {NOTE}"
    return Verdict(bool(winners), failed, rows, text)


def _said(found: Comparison) -> str:
    return f"{found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}], p = {found.p:.4f}"


def _row(
    results: Sequence[ArmResult], kind: str, size: int, found: Comparison | None, failed: bool
) -> Row:
    arm = f"{kind}-{size}"
    scores = dict.fromkeys(run.figures["score"] for run in of_arm(results, arm))
    parts = [
        f"R@10 {spread(values(results, arm, 'r@10'))} by {' or '.join(scores)}",
        f"R@100 {values(results, arm, 'r@100').mean():.4f}",
        f"neighbours {values(results, arm, 'neighbours@10').mean():.4f}",
        f"distortion {values(results, arm, 'distortion').mean():.3f}",
    ]
    if found is not None:
        parts.append(f"to OPQ {found.difference:+.4f}, p = {found.p:.4f}")
    holds = None
    if kind in TRAINED and found is not None:
        holds = found.difference > 0 and found.p * len(TRAINED) < 0.05
    elif kind == "MCL-shuffled":
        holds = failed
    reported = {"PQ-8": ".2028", "OPQ-8": ".2381", "MCL-8": ".3422"}.get(arm, "")
    return Row(f"{size} bytes, {kind}", reported, ", ".join(parts), holds)


def plot(results: Sequence[ArmResult], axes: Any) -> None:
    """Labelled recall over distortion: which of the two a loss buys."""
    for size, marker in zip(SIZES, "os", strict=True):
        for i, kind in enumerate(k for k in KINDS if k != "MCL-shuffled"):
            arm = f"{kind}-{size}"
            x, y = (values(results, arm, name).mean() for name in ("distortion", "r@10"))
            axes.plot(x, y, marker, color=f"C{i}", label=kind if size == SIZES[0] else None)
            axes.annotate(f"{size} B", (x, y), textcoords="offset points", xytext=(4, 3))
    axes.set_xlabel("distortion")
    axes.set_ylabel("labelled R@10 by codes")
    axes.legend(fontsize="small")
