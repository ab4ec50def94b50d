# SPDX-License-Identifier: Apache-2.0
"""`bigrain demo`: real word vectors, sensible neighbours, a picture with a peer on it."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bigrain import Index
from bigrain._cli.progress import progress

WORDS = ("king", "river", "guitar", "monday", "physics")
SHOWN = 6  # neighbours printed per word
PEER = "hnswlib"
# Enough for a smooth curve within the demo's minute; `bigrain bench` takes its time instead.
ROUNDS, SECONDS = 3, 0.1


def run(output: Path) -> int:
    """Build, ask for five words, sweep the width, write the picture."""
    from bigrain_bench import cli, datasets, report
    from bigrain_bench.measure import Options, Plan

    words, vectors = datasets.sample_words()
    data = datasets.load("glove-sample")
    print(
        f"1. Building a Vamana index over {len(data.base):,} GloVe word vectors "
        f"({data.base.shape[1]} dimensions, cosine)",
        flush=True,
    )
    start = time.perf_counter()
    kept, _ = datasets.hold_out(len(words), datasets.SAMPLE_QUERIES)
    with progress("building") as callback:
        # The rows of the word list become the ids, so that an answer names its word.
        index = Index.build(data.base, kept, metric="cosine", progress=callback)
    print(f"   built in {time.perf_counter() - start:.1f} s\n\n2. Nearest words")
    _show_neighbours(index, words, vectors)

    peers = [PEER] if importlib.util.find_spec(PEER) else []
    beside = f", {PEER} beside it" if peers else f" ({PEER} is not installed: no peer beside it)"
    print(f"\n3. Recall and speed on one thread{beside}", flush=True)
    plans = [Plan(report.OURS), *(Plan(peer) for peer in peers)]
    found, _ = cli.measure_all(data, plans, Options(rounds=ROUNDS, seconds=SECONDS))
    report.write(found, output / "recall-qps.json")
    print(f"\n{report.sweep(found)}\n\n{report.table(found)}")
    picture = output / "recall-qps.png"
    if cli.draw(found, picture):
        print(f"\nThe picture is {picture}")
    return int(any(row["error"] for row in found["engines"]))


def _show_neighbours(index: Index, words: list[str], vectors: NDArray[np.float32]) -> None:
    """A word that is in the index is its own nearest neighbour, which is left out."""
    asked = [words.index(word) for word in WORDS]
    found = index.search(vectors[asked], SHOWN + 1)
    for word, row, ids in zip(WORDS, asked, found.ids.tolist(), strict=True):
        near = [words[other] for other in ids if other != row][:SHOWN]
        print(f"   {word:<8} {', '.join(near)}")
    sys.stdout.flush()
