# SPDX-License-Identifier: Apache-2.0
"""E-KD: a teacher's scores of unlabelled queries make up for labels (Li et al., WWW 2019).

The teacher, MiniLM, scores every document of a batch for every query; the student learns its
softmax over them (KL, as TCT-ColBERT does in the batch) and, where there is a label, the label by
cross entropy. Unlabelled queries bring what BM25 finds: no label is read for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bigrain.eval.significance import compare
from bigrain.train.losses import kd_kl
from bigrain.train.negatives import BM25, duplicate_groups, known_positives, mine
from bigrain_claims import noisy, teacher, texts, tier_s
from bigrain_claims.claim import ArmResult, Claim, Row, Verdict, per_query, spread, values

I64 = NDArray[np.int64]
F32 = NDArray[np.float32]

CLAIM = Claim(
    id="E-KD",
    statement="A student trained on labels and on a teacher's scores beats one with labels only.",
    source="Li et al., WWW 2019 (from notes); RocketQA, step 4",
    reported="Four fifths of the labels can be dropped at equal quality (Li et al., from notes).",
    rule=(
        "The teacher's MRR@10 on the test queries is at least .05 above that of the student with "
        "all labels, else the experiment is void. At equal steps and with 20 % of the labels, "
        "labels and scored unlabelled queries together give a higher MRR@10 than labels alone "
        "(means over seeds, paired permutation test over test queries, p < .05). That 80 % of the "
        "labels can be dropped counts as shown where this is not below labels only with 100 % of "
        "them, or not significantly (p >= .05); it is printed either way."
    ),
    control=(
        "The teacher's vectors dealt to other queries, with 20 % of the labels: must gain less "
        "than half of what the teacher's own scores gain over labels alone."
    ),
    arms=(
        *("labels-5", "labels-20", "labels-100", "teacher-20"),
        *("both-5", "both-20", "tuned-20", "dealt-20"),
    ),
    seeds=3,
)
BATCH, STEPS, HARD, TAU = 64, 300, 3, 0.05
# Of the steps of "tuned", the last are on labels alone: the fourth step of weak annotation.
TUNED_FROM = 225
MARGIN = 0.05
GRID = (1e-3, 3e-3)
# Best of GRID on dev for each of TUNED, and so of all arms.
RATE = 1e-3
TUNED = ("labels-20", "labels-100", "both-20")


class Data(NamedTuple):
    """A cut of BoolQ, BM25's first documents of its training queries, and the teacher's vectors."""

    texts: tier_s.Collection
    found: I64
    queries: F32
    documents: F32
    teacher: float


def load() -> Data:
    """The cut, BM25's lists (n, 1 + HARD) and what the teacher reaches on the test queries."""
    judged = texts.judged("boolq", **noisy.CUT)
    asked = [judged.queries[row] for row in judged.train]
    nobody = np.full(len(asked), -1)
    lists = mine(BM25(judged.documents), asked, nobody, range=(0, 1 + HARD), n=1 + HARD).ids
    documents = teacher.vectors(judged.documents, "document")
    tested = teacher.vectors([judged.queries[row] for row in judged.test], "query")
    place = tier_s.ranks(tested, documents, [judged.relevant[row] for row in judged.test])
    tokens = (
        tier_s.tokenize(judged.documents, tier_s.DOCUMENT_TOKENS),
        tier_s.tokenize(judged.queries, tier_s.QUERY_TOKENS),
    )
    reached = float(np.where(place <= 10, 1 / place, 0.0).mean())
    vectors = teacher.vectors(asked, "query")
    # A query in which BM25 finds less is padded with the first documents.
    lists = np.where(lists < 0, np.arange(1 + HARD), lists)
    return Data(tier_s.Collection(judged, *tokens), lists, vectors, documents, reached)


def run(
    arm: str, seed: int, device: str, data: Data, lr: float | None = None, split: str = "test"
) -> dict[str, Any]:
    """MRR@10 of one student."""
    kind, share = arm.split("-")
    judged, count = data.texts.judged, len(data.found)
    rng = np.random.default_rng(seed)
    labelled = np.zeros(count, bool)
    labelled[rng.permutation(count)[: round(count * int(share) / 100)]] = True
    lr = lr or RATE
    encoder = tier_s.StaticBag(seed=seed)
    tier_s.train(
        encoder,
        replace(data.texts, judged=_seen(judged, labelled, data.found)),
        loss_of(kind, labelled, data, rng, device),
        steps=STEPS,
        batch_size=BATCH,
        lr=lr,
        seed=seed,
        negatives=_hard(data, labelled),
        sampler=_places(kind, labelled, seed),
        device=device,
    )
    figures = {"lr": lr, "labels": int(labelled.sum()), "teacher": data.teacher}
    return {**figures, **tier_s.evaluate(encoder, data.texts, split)}


def _seen(judged: texts.Judged, labelled: NDArray[np.bool_], found: I64) -> texts.Judged:
    """The collection as the student sees it: BM25's first document where there is no label."""
    relevant = list(judged.relevant)
    for place in np.flatnonzero(~labelled):
        relevant[judged.train[place]] = (int(found[place, 0]),)
    return replace(judged, relevant=relevant)


def _hard(data: Data, labelled: NDArray[np.bool_]) -> I64:
    """(n, HARD) documents beside the first: BM25's, without the label where there is one."""
    judged = data.texts.judged
    known = known_positives(
        [judged.queries[r] for r in judged.train], judged.positive[judged.train]
    )
    groups = duplicate_groups(judged.documents)
    hard: I64 = data.found[:, 1:].copy()
    for place in np.flatnonzero(labelled):
        own = groups[known[place][known[place] >= 0]]
        kept = [row for row in data.found[place] if groups[row] not in own]
        hard[place] = (kept * HARD)[:HARD] if kept else hard[place]
    return hard


def _places(kind: str, labelled: NDArray[np.bool_], seed: int) -> Iterator[I64]:
    """Batches of labelled queries, of unlabelled ones, or of all; "tuned" ends with labels."""
    chosen = {"labels": labelled, "teacher": ~labelled}.get(kind, np.ones_like(labelled))
    rows, tuned = np.flatnonzero(chosen), np.flatnonzero(labelled)
    endless = tier_s.batches(len(rows), BATCH, seed)
    last = tier_s.batches(len(tuned), min(BATCH, len(tuned)), seed)
    step = 0
    while True:
        ends = kind == "tuned" and step >= TUNED_FROM
        yield tuned[next(last)] if ends else rows[next(endless)]
        step += 1


def loss_of(
    kind: str, labelled: NDArray[np.bool_], data: Data, rng: np.random.Generator, device: str
) -> Callable[..., Tensor]:
    """Cross entropy of labelled rows, the teacher's softmax for all rows, or their sum."""
    dealt = rng.permutation(data.queries) if kind == "dealt" else data.queries
    vectors = torch.from_numpy(dealt).to(device), torch.from_numpy(data.documents).to(device)
    has_label = torch.from_numpy(labelled).to(device)

    def loss(q: Tensor, p: Tensor, n: Tensor, *, p_ids: Any, n_ids: Any, rows: Any) -> Tensor:
        ids = torch.cat([p_ids, n_ids.flatten()])
        student = q @ torch.cat([p, n.flatten(0, 1)]).T / TAU
        known = has_label[rows]
        total = q.new_zeros(())
        if kind != "labels":
            wanted = vectors[0][rows] @ vectors[1][ids].T / TAU
            total = total + kd_kl(student, wanted)
        if kind != "teacher" and known.any():
            own = torch.arange(len(q), device=q.device)
            same = (p_ids[:, None] == ids).scatter(1, own[:, None], False)
            logits = student.masked_fill(same, -torch.inf)[known]
            total = total + torch.nn.functional.cross_entropy(logits, own[known])
        return total

    return loss


def judge(results: Sequence[ArmResult]) -> Verdict:
    """The teacher's margin, the test at 20 %, what 100 % give, the control's share."""
    score = {arm: values(results, arm, "mrr@10") for arm in CLAIM.arms}
    means = {arm: float(found.mean()) for arm, found in score.items()}
    reached = float(values(results, "labels-100", "teacher").mean())
    above = reached - means["labels-100"]
    pairs = (("labels-20", "both-20"), ("labels-100", "both-20"), ("labels-5", "both-5"),
             ("both-20", "tuned-20"))  # fmt: skip
    tests = {p: compare(*(per_query(results, arm, "rr@10") for arm in p)) for p in pairs}
    main, whole = tests[pairs[0]], tests[pairs[1]]
    sure, dropped = main.difference > 0 and main.p < 0.05, whole.difference >= 0 or whole.p >= 0.05
    gain = means["both-20"] - means["labels-20"]
    share = (means["dealt-20"] - means["labels-20"]) / gain if gain > 0 else float("nan")
    rows = [Row("MRR@10, teacher", "", f"{reached:.4f}, {above:+.4f}", above >= MARGIN)]
    named = {arm: "{}, {} % of the labels".format(*arm.split("-")) for arm in CLAIM.arms}
    rows += [Row(f"MRR@10, {named[arm]}", "", spread(score[arm])) for arm in CLAIM.arms]
    for pair, holds in zip(pairs, (sure, dropped, None, None), strict=True):
        test = tests[pair]
        ours = f"{test.difference:+.4f} [{test.low:+.4f}, {test.high:+.4f}], p = {test.p:.4f}"
        rows.append(Row(f"{pair[0]} to {pair[1]}", "", ours, holds))
    failed = not gain > 0 or share < 0.5  # without a gain there is none to share
    rows.append(Row("control: the dealt teacher's share of the gain", "", f"{share:.0%}", failed))
    text = (
        f"At 20 % of the labels the teacher's scores change MRR@10 by {main.difference:+.4f} "
        f"(p = {main.p:.4f}); against all labels that is {whole.difference:+.4f} "
        f"(p = {whole.p:.4f}): that 80 % of the labels can be dropped is "
        f"{'shown' if dropped else 'not shown'}."
    )
    if above < MARGIN:
        text = f"Void: the teacher is only {above:+.4f} above the student. {text}"
    return Verdict(sure and above >= MARGIN, bool(failed), rows, text)


def plot(results: Sequence[ArmResult], axes: Any) -> None:
    """MRR@10 over the share of labels."""
    for kind, marker in (("labels", "o"), ("both", "s"), ("teacher", "^"), ("tuned", "v"),
                         ("dealt", "x")):  # fmt: skip
        shares = [int(a.split("-")[1]) for a in CLAIM.arms if a.startswith(kind)]
        found = [values(results, f"{kind}-{share}", "mrr@10") for share in shares]
        axes.errorbar(shares, [f.mean() for f in found], [f.std() for f in found],
                      marker=marker, label=kind, capsize=3)  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks([5, 20, 100], ["5 %", "20 %", "100 %"])
    axes.set_xlabel("labels")
    axes.set_ylabel("MRR@10, BoolQ test")
    axes.legend(frameon=False)
