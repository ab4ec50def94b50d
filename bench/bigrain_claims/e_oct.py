# SPDX-License-Identifier: Apache-2.0
"""E-OCT: several vectors per user against one, in a planted world of known interests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from bigrain.eval.significance import permutation_test
from bigrain_claims import interests
from bigrain_claims.claim import ArmResult, Claim, Row, Verdict, of_arm, spread, values

F64 = NDArray[np.float64]
SINGLE = ("mean", "attention")
ELASTIC = ("octopus-32", "hash-6")
CONTROLS = ("control-octopus-32", "control-hash-6")
# The best of half decades from 3e-5 to 1e-2 per model, in a world of its own (seed 100).
RATES = dict.fromkeys(("comirec", "octopus", "hash"), 1e-2)
RATES |= {"mean": 1e-4, "attention": 1e-4, "mind": 3e-5}
# Users by interests: what "grows" compares.
FEW, MANY = (2, 3), (4, 5, 6)

CLAIM = Claim(
    id="E-OCT",
    statement="Several user embeddings beat one when interests are diverse; their number follows "
    "the user; grouping by hash code gives it cheaply.",
    reported="Direction only: the paper's tables are not public.",
    rule="At equal candidates, for octopus-32 and for hash-6, the gap in recall to the better "
    "single vector is within .02 of 0 for users of one interest, above 0 (paired p < .05) for "
    "users of 2-3 and of 4-6, larger for 4-6 than for 2-3, and correlates with the number of "
    "interests (Spearman > 0, p < .05). Vectors per user correlate with interests (Spearman > "
    ".6) for both. octopus-8 or octopus-32 has at least the recall of ComiRec-4 at fewer probes "
    "per user.",
    control="The same models random and untrained, with histories of other users, must not meet "
    "the gap's rule.",
    arms=(
        *("mean", "attention", "comirec-4", "mind-4", "octopus-8", "octopus-32"),
        *("octopus-32-collect", "hash-4", "hash-6", "hash-8", "hash-6-untrained"),
        *CONTROLS,
    ),
    seeds=5,
    source="Liu et al., Octopus, SIGIR 2020 (channels, quota and hash groups reconstructed); "
    "Cen et al., ComiRec, KDD 2020; Li et al., MIND, CIKM 2019",
)


def load() -> None:
    """Worlds are made per seed."""


def run(arm: str, seed: int, device: str, data: None) -> dict[str, Any]:
    """Train an arm in the seed's world and serve its test users."""
    torch.set_num_threads(1)
    world = interests.planted(seed)
    merge: Literal["allocate", "score"] = "allocate"
    if arm in ("comirec-4", "mind-4", "octopus-32-collect"):
        merge = "score"
    if arm in CONTROLS:
        world = interests.shuffled(world, seed)
    model = arm.removeprefix("control-").removesuffix("-collect").removesuffix("-untrained")
    untrained = arm in CONTROLS or arm.endswith("-untrained")
    rate = RATES[model.partition("-")[0]]
    steps = 0 if untrained else interests.STEPS
    net = interests.train(world, model, seed, rate, steps, device)
    served = interests.serve(net, world, merge, device=device)
    many = world.many[world.test].astype(np.float64)
    by_interests = [float(served["recall"][many == k].mean()) for k in range(1, interests.MOST + 1)]
    figures: dict[str, Any] = {name: float(np.nanmean(x)) for name, x in served.items()}
    return {**figures, "recall by interests": by_interests, "per_query": {**served, "many": many}}


def pooled(results: Sequence[ArmResult], arm: str, name: str) -> F64:
    """An arm's values of every user of every seed."""
    return np.concatenate([r.per_query[name] for r in of_arm(results, arm)])


def better_single(results: Sequence[ArmResult]) -> str:
    """The single vector of higher mean recall."""
    return max(SINGLE, key=lambda arm: float(values(results, arm, "recall").mean()))


def gap_rule(results: Sequence[ArmResult], arm: str) -> tuple[bool, str]:
    """Whether an arm's gap to the better single vector is as the rule says, and its figures."""
    single = pooled(results, better_single(results), "recall")
    recall, many = pooled(results, arm, "recall"), pooled(results, arm, "many")
    gap = recall - single
    one, few, most = many == 1, np.isin(many, FEW), np.isin(many, MANY)
    p_few = permutation_test(single[few], recall[few])
    p_most = permutation_test(single[most], recall[most])
    rho, p = spearman(many, gap)
    g = [float(gap[part].mean()) for part in (one, few, most)]
    holds = abs(g[0]) <= 0.02 and g[1] > 0 and g[2] > g[1] and max(p_few, p_most, p) < 0.05
    text = (
        f"{g[0]:+.3f} / {g[1]:+.3f} / {g[2]:+.3f}, Spearman {rho:.2f} "
        f"(p {p_few:.4f}, {p_most:.4f}, {p:.4f})"
    )
    return bool(holds and rho > 0), text


def spearman(x: F64, y: F64, draws: int = 2000) -> tuple[float, float]:
    """Rank correlation, ties sharing their mean rank, and its two-sided permutation p."""
    a, b = (_ranks(values) for values in (x, y))
    if not (a.any() and b.any()):
        return 0.0, 1.0
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    rho, rng = float(a @ b), np.random.default_rng(0)
    extreme = sum(abs(float(rng.permutation(a) @ b)) >= abs(rho) for _ in range(draws))
    return rho, (extreme + 1) / (draws + 1)


def _ranks(values: F64) -> F64:
    _, which, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[which]
    return np.asarray(ranks - ranks.mean(), np.float64)


def judge(results: Sequence[ArmResult]) -> Verdict:
    """Apply the rule."""
    rows = []
    for arm in CLAIM.arms:
        figures = [spread(values(results, arm, name), 3) for name in ("recall", "coverage")]
        vectors, probes = (values(results, arm, n).mean() for n in ("vectors", "probes"))
        by = np.mean([r.figures["recall by interests"] for r in of_arm(results, arm)], axis=0)
        ours = (
            f"recall {figures[0]}, coverage {figures[1]}, vectors {vectors:.1f}, probes "
            f"{probes:.1f}; by interests {' '.join(f'{x:.2f}' for x in by)}"
        )
        rows.append(Row(f"{arm}: recall@{interests.CANDIDATES}", "", ours))
    holds = []
    for arm in ELASTIC:
        met, text = gap_rule(results, arm)
        what = f"{arm} - {better_single(results)}: gap at 1 / 2-3 / 4-6 interests"
        rows.append(Row(what, "grows", text, met))
        many, vectors = (pooled(results, arm, name) for name in ("many", "vectors"))
        rho, _ = spearman(many, vectors, 0)
        rows.append(Row(f"{arm}: Spearman of vectors and interests", "", f"{rho:.2f}", rho > 0.6))
        holds += [met, rho > 0.6]
    fewer = []
    for arm in ("octopus-8", "octopus-32"):
        more = (
            values(results, arm, "recall").mean() >= values(results, "comirec-4", "recall").mean()
        )
        less = values(results, arm, "probes").mean() < values(results, "comirec-4", "probes").mean()
        fewer.append(bool(more and less))
        a, b = pooled(results, "comirec-4", "recall"), pooled(results, arm, "recall")
        ours = f"{(b - a).mean():+.3f} (p {permutation_test(a, b):.4f}), "
        ours += "fewer probes" if less else "not fewer probes"
        rows.append(Row(f"{arm} - comirec-4: recall", ">= 0 at fewer probes", ours, fewer[-1]))
    passed = []
    for arm in CONTROLS:
        met, text = gap_rule(results, arm)
        rows.append(Row(f"{arm}: gap", "must not meet the rule", text, not met))
        passed.append(met)
    shown = all(holds) and any(fewer)
    missed = [row.what for row in rows if row.holds is False]
    text = (
        f"Missed: {'; '.join(missed) or 'nothing'}. A cluster that lies between two channels or "
        "on a hyperplane becomes several vectors, which costs probes and blurs their number; "
        "Octopus and hash groups are reconstructions."
    )
    return Verdict(bool(shown), not any(passed), rows, text)


def plot(results: Sequence[ArmResult], axes: Any) -> None:
    """Recall by number of interests."""
    for arm in CLAIM.arms:
        by = np.mean([r.figures["recall by interests"] for r in of_arm(results, arm)], axis=0)
        style = ":" if arm in CONTROLS else "--" if arm in SINGLE else "-"
        axes.plot(range(1, len(by) + 1), by, style, marker=".", label=arm)
    axes.set_xlabel("interests of the user")
    axes.set_ylabel(f"recall@{interests.CANDIDATES}")
    axes.legend(fontsize=6, ncols=2)
