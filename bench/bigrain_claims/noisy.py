# SPDX-License-Identifier: Apache-2.0
"""Planted false negatives: documents with a paraphrase that the training labels do not know.

A paraphrase drops a fifth of the words and lets a tenth of the rest change places with the next.
Training labels name the original alone; test labels name both.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bigrain_claims import texts

SHARE, DROPPED, SWAPPED = 0.2, 0.2, 0.1
# Of BoolQ so much that the teacher reads it in two minutes of one core.
CUT = {"documents": 5000, "train": 3000, "dev": 500, "test": 2000}


def planted(seed: int = 0) -> tuple[texts.Judged, NDArray[np.int64]]:
    """A cut of BoolQ with paraphrases of a fifth of its documents behind them, and their originals.

    Returns:
        The collection, whose `relevant` holds the paraphrase after the original, and (N,) int64:
        the original of each document, itself if it is none's paraphrase.
    """
    judged = texts.judged("boolq", **CUT)
    rng = np.random.default_rng(seed)
    count = len(judged.documents)
    chosen = np.sort(rng.choice(count, round(SHARE * count), replace=False))
    copies = {int(row): count + place for place, row in enumerate(chosen)}
    documents = judged.documents + [paraphrase(judged.documents[row], rng) for row in chosen]
    relevant = [
        tuple(dict.fromkeys([*rows, *(copies[row] for row in rows if row in copies)]))
        for rows in judged.relevant
    ]
    originals = np.concatenate([np.arange(count), chosen])
    return replace(judged, documents=documents, relevant=relevant), originals


def paraphrase(text: str, rng: np.random.Generator) -> str:
    """The text with words dropped and swapped."""
    words = [word for word in text.split() if rng.random() >= DROPPED]
    for place in np.flatnonzero(rng.random(max(0, len(words) - 1)) < SWAPPED):
        words[place], words[place + 1] = words[place + 1], words[place]
    return " ".join(words)
