# SPDX-License-Identifier: Apache-2.0
"""Annotating goes on where it was killed; labels follow the teacher; the recipes train."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
tokenizers = pytest.importorskip("tokenizers")

from children import exit_code_of, in_child  # noqa: E402

import bigrain  # noqa: E402
from bigrain.train.data import TrainingSet  # noqa: E402
from bigrain.train.distill import (  # noqa: E402
    annotate,
    pseudo_label,
    rocketqa,
    score_set,
    weak_annotation,
)
from bigrain.train.encoders import StaticEncoder  # noqa: E402

torch.set_num_threads(1)

# Queries are in another language: nothing but training can tell that q7 means w7.
WORDS = [f"{letter}{i}" for letter in "qw" for i in range(60)]
QUERIES = [f"q{i} q{i + 1}" for i in range(50)]
DOCUMENTS = [f"w{i} w{i + 1} w{i + 2}" for i in range(58)]
CANDIDATES = np.random.default_rng(0).integers(0, 58, (50, 6))
CANDIDATES[::7, 4:] = -1


class Overlap:
    """The share of a query's words that a document has; dies after so many calls."""

    def __init__(self, calls: int = 1 << 30) -> None:
        self.calls, self.pairs = calls, 0

    def score(self, queries: Any, documents: Any) -> Any:
        if not self.calls:
            os._exit(9)
        self.calls -= 1
        self.pairs += len(queries)
        pairs = zip(queries, documents, strict=True)
        sets = [(set(q.replace("q", "w").split()), set(d.split())) for q, d in pairs]
        return np.array([len(a & b) / len(a) for a, b in sets])


def expected() -> Any:
    scores = np.zeros(CANDIDATES.shape, np.float32)
    for row, column in zip(*np.nonzero(CANDIDATES >= 0), strict=True):
        pair = [QUERIES[row]], [DOCUMENTS[CANDIDATES[row, column]]]
        scores[row, column] = Overlap().score(*pair)[0]
    return scores


def test_annotate_resumes_after_a_kill_at_every_block(tmp_path: Path) -> None:
    path = tmp_path / "scores"
    np.testing.assert_array_equal(annotate(Overlap(), QUERIES, DOCUMENTS, CANDIDATES), expected())
    for calls in range(1, 7):
        child = in_child(
            lambda calls=calls: annotate(  # type: ignore[misc]
                Overlap(calls), QUERIES, DOCUMENTS, CANDIDATES, path, block=8
            )
        )
        assert exit_code_of(child) == 9
        with open(path, "ab") as file:
            file.write(b"half a block")  # as a kill in mid-write leaves it
        teacher = Overlap()
        scores = annotate(teacher, QUERIES, DOCUMENTS, CANDIDATES, path, block=8)
        np.testing.assert_array_equal(scores, expected())
        assert teacher.pairs == (CANDIDATES[8 * calls :] >= 0).sum()
        silent = Overlap(0)  # would end the process
        np.testing.assert_array_equal(
            annotate(silent, QUERIES, DOCUMENTS, CANDIDATES, path, block=8), expected()
        )
        path.unlink()


def test_annotate_rejects_torn_and_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "scores"
    annotate(Overlap(), QUERIES, DOCUMENTS, CANDIDATES, path, block=8)
    whole = path.read_bytes()
    for size in range(0, len(whole), 29):
        path.write_bytes(whole[:size])
        annotate(Overlap(), QUERIES, DOCUMENTS, CANDIDATES, path, block=8)
        assert path.read_bytes() == whole
    damaged = bytearray(whole)
    damaged[400] ^= 1
    path.write_bytes(damaged)
    annotate(Overlap(), QUERIES, DOCUMENTS, CANDIDATES, path, block=8)
    assert path.read_bytes() == whole
    with pytest.raises(ValueError, match="holds scores of other texts"):
        annotate(Overlap(), QUERIES, DOCUMENTS[::-1], CANDIDATES, path, block=8)
    with pytest.raises(ValueError, match="candidates: expected"):
        annotate(Overlap(), QUERIES, DOCUMENTS, CANDIDATES[:3])
    with pytest.raises(bigrain.Cancelled):
        annotate(Overlap(), QUERIES, DOCUMENTS, CANDIDATES, progress=lambda a, b: False)

    class Broken(Overlap):
        def score(self, queries: Any, documents: Any) -> Any:
            return np.full(len(queries), np.nan)

    with pytest.raises(ValueError, match="teacher: a score"):
        annotate(Broken(), QUERIES, DOCUMENTS, CANDIDATES)


def test_pseudo_labels_follow_the_teacher() -> None:
    lists = np.array([[9, 0, 1, 20, 30], [5, 6, 7, 8, -1], [2, 30, 40, 50, 51]])
    found = pseudo_label(QUERIES[:3], Overlap(), DOCUMENTS, lists, n=2)
    assert found.queries == [QUERIES[0], QUERIES[2]]  # the second has no candidate above .9
    assert found.positives.tolist() == [0, 2]
    assert found.negatives is not None
    assert found.negatives.tolist() == [[9, 20], [30, 40]]  # 1 shares a word: neither
    few = pseudo_label(QUERIES[:1], Overlap(), DOCUMENTS, [[0, 1, 44]], n=3)
    assert few.negatives is not None
    assert few.negatives.tolist() == [[44, -1, -1]]


def make_encoder() -> StaticEncoder:
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *WORDS])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    return StaticEncoder(tokenizer, 16)


def cross_entropy(q: Any, p: Any, n: Any, *, p_ids: Any, n_ids: Any) -> Any:
    scores = q @ p.T / 0.1
    if n is not None:
        own = torch.einsum("bd,bhd->bh", q, n) / 0.1
        scores = torch.cat([scores, own.masked_fill(n_ids < 0, -torch.inf)], 1)
    return torch.nn.functional.cross_entropy(scores, torch.arange(len(q)))


def listwise(q: Any, p: Any, n: Any, *, n_ids: Any, scores: Any) -> Any:
    student = torch.einsum("bd,bhd->bh", q, torch.cat([p[:, None], n], 1)) / 0.1
    return torch.nn.functional.cross_entropy(student, (scores / 0.2).softmax(1))


def mrr(encoder: StaticEncoder) -> float:
    scores = encoder.encode_query(QUERIES) @ encoder.encode_document(DOCUMENTS).T
    ranks = (scores > scores[np.arange(50), np.arange(50)][:, None]).sum(1) + 1
    return float((1 / ranks).mean())


def test_rocketqa_runs_its_three_stages() -> None:
    data = TrainingSet(QUERIES[:30], DOCUMENTS, np.arange(30))
    encoder = make_encoder()
    before = mrr(encoder)
    runs = rocketqa(
        encoder, Overlap(), data, QUERIES[30:], loss=cross_entropy, steps=(20, 20, 20),
        ranks=(0, 20), fill=40, batch_size=8, lr=0.02,
    )  # fmt: skip
    assert [run["steps"] for run in runs] == [20, 20, 20]
    assert before < 0.2
    assert mrr(encoder) > 0.5


def test_weak_annotation_learns_from_scores() -> None:
    rng = np.random.default_rng(3)
    negatives = rng.integers(0, 58, (50, 6))
    negatives[negatives == np.arange(50)[:, None]] = -1
    lists = TrainingSet(QUERIES, DOCUMENTS, np.arange(50), negatives)
    scored = score_set(Overlap(), lists)
    assert scored.scores is not None
    np.testing.assert_array_equal(scored.scores[:, 0], 1.0)
    encoder = make_encoder()
    before = mrr(encoder)
    few = replace(lists, queries=QUERIES[:16], positives=np.arange(16), negatives=negatives[:16])
    runs = weak_annotation(
        encoder, Overlap(), few, lists, loss=listwise, label_loss=cross_entropy, steps=(60, 10),
        batch_size=8, lr=0.02,
    )  # fmt: skip
    assert [run["steps"] for run in runs] == [60, 10]
    assert before < 0.2
    assert mrr(encoder) > 0.5
