# SPDX-License-Identifier: Apache-2.0
"""Teachers, and the recipes that train a small encoder on what they say.

`rocketqa`: Qu et al., NAACL 2021, section 4.4. Same steps and thresholds; whether a later stage
starts from the earlier one's encoder, the paper leaves open: here it does.
`weak_annotation`: Li et al., WWW 2019, known to us from notes only, so this is a reconstruction:
annotators score labelled and unlabelled pairs, the encoder learns from the scored unlabelled, then
is tuned on the scored labelled ones. Their weights of label and score are not public: the two
losses are arguments.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

import bigrain
from bigrain._checks import check_shape
from bigrain._progress import Progress, reporting
from bigrain.eval.collections import duplicate_groups
from bigrain.train._mining import Scorer, known_positives, mine
from bigrain.train.data import TrainingSet
from bigrain.train.trainer import fit

Floats = npt.NDArray[np.float32]

BLOCK = 256  # lists scored between two writes: a cross-encoder's seconds
# RocketQA: ranks of hard negatives, ranks that fill up, negatives per positive.
RANKS, FILL, NEGATIVES = (0, 50), 1000, 4


class Teacher(Protocol):
    """Whatever scores pairs: a cross-encoder, a larger dual encoder, a language model."""

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> Any:
        """Return (n,) scores of n pairs, higher for more relevant."""


def pair_scorer(teacher: Teacher, queries: Sequence[str], documents: Sequence[str]) -> Scorer:
    """Let `mine(denoise=...)` ask a teacher about rows of queries and documents."""

    def score(rows: Any, ids: Any) -> Any:
        return teacher.score([queries[r] for r in rows], [documents[i] for i in ids])

    return score


def annotate(
    teacher: Teacher,
    queries: Sequence[str],
    documents: Sequence[str],
    candidates: Any,
    path: Any = None,
    *,
    block: int = BLOCK,
    progress: Progress = None,
) -> Floats:
    """Score lists of candidates; (n, C) float32, 0 where a candidate is -1.

    Args:
        teacher: scores pairs.
        queries: n texts.
        documents: texts.
        candidates: (n, C) int64 rows of documents, -1 pads.
        path: keeps the scores: a call that was interrupted, even killed, goes on where it was, and
            one that had ended reads them.
        block: lists between two writes.
        progress: None, True for a bar, or a callable (done, total); False from it cancels.

    Raises:
        ValueError: `path` holds scores of other texts or candidates, or a score is not finite.
        Cancelled: `progress` returned False; what is written stays.
    """
    lists = np.ascontiguousarray(candidates, np.int64)
    check_shape(lists, "candidates", len(queries), "C")
    scores = np.zeros(lists.shape, np.float32)
    scorer = pair_scorer(teacher, queries, documents)
    kept = io.BytesIO() if path is None else open(path, "a+b")  # noqa: SIM115
    with kept as file, reporting(progress, "annotate", "lists") as report:
        done = _resume(file, scores, _digest(queries, documents, lists, block), block)
        for start in range(done, len(lists), block):
            rows, columns = np.nonzero(lists[start : start + block] >= 0)
            rows += start
            if len(rows):
                scores[rows, columns] = scorer(rows, lists[rows, columns])
            part = scores[start : start + block]
            end = start + len(part)
            if not np.isfinite(part).all():
                raise ValueError(f"teacher: a score of rows {start} to {end} is NaN or infinite")
            file.write(part.tobytes() + zlib.crc32(part.tobytes()).to_bytes(4, "little"))
            file.flush()
            if report is not None and not report(end, len(lists)):
                raise bigrain.Cancelled("annotate: cancelled by progress")
    return scores


def _digest(queries: Any, documents: Any, lists: Any, block: int) -> bytes:
    crc = zlib.crc32(lists.tobytes(), block)
    for text in (*queries, *documents):
        crc = zlib.crc32(text.encode() + b"\0", crc)
    return b"bgr-scr\n" + crc.to_bytes(8, "little")


def _resume(file: Any, scores: Floats, digest: bytes, block: int) -> int:
    """Fill in whole blocks that a file holds, each before its CRC-32; cut off what is torn."""
    file.seek(0)
    head, done = file.read(len(digest)), 0
    if not digest.startswith(head):
        others = "other texts, candidates or blocks"
        raise ValueError(f"path: {file.name} holds scores of {others}; choose another")
    if head != digest:
        file.truncate(0)
        file.write(digest)
    while done < len(scores):
        part = scores[done : done + block]
        raw = file.read(part.nbytes + 4)
        if len(raw) < part.nbytes + 4 or zlib.crc32(raw[:-4]).to_bytes(4, "little") != raw[-4:]:
            file.seek(-len(raw), 1)
            break
        part[:] = np.frombuffer(raw[:-4], np.float32).reshape(part.shape)
        done += len(part)
    file.truncate()
    return done


def score_set(teacher: Teacher, data: TrainingSet, path: Any = None) -> TrainingSet:
    """Give a training set the teacher's `scores` of its positives and negatives."""
    lists = data.positives[:, None]
    if data.negatives is not None:
        lists = np.concatenate([lists, data.negatives], axis=1)
    return replace(data, scores=annotate(teacher, data.queries, data.documents, lists, path))


def pseudo_label(
    queries: Sequence[str],
    scorer: Teacher,
    documents: Sequence[str],
    candidates: Any,
    *,
    pos: float = 0.9,
    neg: float = 0.1,
    n: int = NEGATIVES,
    path: Any = None,
) -> TrainingSet:
    """Label queries by a teacher's scores in 0 to 1 (RocketQA, step 4).

    The best candidate is the positive if it scores above `pos`; queries without are left out. The
    first `n` that score below `neg` are negatives.

    Args:
        queries: texts.
        scorer: a teacher.
        documents: texts.
        candidates: (queries, C) int64 rows of documents, nearest first, -1 pads.
        pos, neg: thresholds.
        n: negatives per query, padded with -1.
        path: as for `annotate`.
    """
    lists = np.asarray(candidates, np.int64)
    scores = annotate(scorer, queries, documents, lists, path)
    best = np.where(lists >= 0, scores, -np.inf).argmax(axis=1)
    rows = np.flatnonzero(np.take_along_axis(scores, best[:, None], 1)[:, 0] > pos)
    low = (lists[rows] >= 0) & (scores[rows] < neg)
    order = np.argsort(~low, axis=1, kind="stable")[:, :n]
    kept = np.take_along_axis(low, order, 1)
    negatives = np.where(kept, np.take_along_axis(lists[rows], order, 1), -1)
    positives = lists[rows, best[rows]]
    return TrainingSet([queries[r] for r in rows.tolist()], list(documents), positives, negatives)


def weak_annotation(
    encoder: Any, teacher: Teacher, labelled: TrainingSet, unlabelled: TrainingSet, *,
    loss: Any, label_loss: Any, steps: tuple[int, int], **options: Any,
) -> list[dict[str, Any]]:  # fmt: skip
    """Train on a teacher's scores of unlabelled lists, then tune on scored labels.

    Args:
        encoder: what is trained, in place.
        teacher: the annotator.
        labelled: its positives are labels.
        unlabelled: its positives and negatives are candidates of each query, in any order.
        loss, label_loss: of `fit`, for the two stages; both may take `scores`.
        steps: of the two stages.
        **options: of `fit`.
    """
    stages = ((unlabelled, loss, steps[0]), (labelled, label_loss, steps[1]))
    return [
        fit(encoder, score_set(teacher, data), loss=stage, steps=count, **options)
        for data, stage, count in stages
    ]


def rocketqa(
    encoder: Any, teacher: Teacher, data: TrainingSet, unlabelled: Sequence[str], *,
    loss: Any, steps: tuple[int, int, int], pos: float = 0.9, neg: float = 0.1,
    ranks: tuple[int, int] = RANKS, fill: int = FILL, n: int = NEGATIVES, **options: Any,
) -> list[dict[str, Any]]:  # fmt: skip
    """Train with in-batch negatives, then denoised hard ones, then pseudo-labels as well.

    Args:
        encoder: what is trained, in place.
        teacher: scores in 0 to 1.
        data: labelled rows; their negatives are replaced.
        unlabelled: queries for pseudo-labels.
        loss: of `fit`; takes n_ids, since rows may have fewer than n negatives. Cross-batch
            negatives are those of a loss and a `fit` with a `group`.
        steps: of the three stages.
        pos, neg: thresholds of the teacher's scores.
        ranks, fill, n: as range, fill and n of `mine`.
        **options: of `fit`.
    """
    data = replace(data, negatives=None, scores=None)
    runs = [fit(encoder, data, loss=loss, steps=steps[0], **options)]
    vectors = encoder.encode_document(data.documents)
    index = bigrain.Index.build(vectors, metric=encoder.metric)
    asked, known = encoder.encode_query(data.queries), known_positives(data.queries, data.positives)
    judged: Any = {"denoise": pair_scorer(teacher, data.queries, data.documents), "max_neg": neg}
    judged["duplicates"] = duplicate_groups(data.documents)
    mined = mine(index, asked, known, range=ranks, fill=fill, n=n, **judged)
    data = replace(data, negatives=mined.ids)
    runs.append(fit(encoder, data, loss=loss, steps=steps[1], **options))
    found = index.search(encoder.encode_query(unlabelled), ranks[1]).ids
    more = pseudo_label(unlabelled, teacher, data.documents, found, pos=pos, neg=neg, n=n)
    positives = np.concatenate([data.positives, more.positives])
    negatives = np.concatenate([mined.ids, more.negatives])
    merged = TrainingSet(data.queries + more.queries, data.documents, positives, negatives)
    runs.append(fit(encoder, merged, loss=loss, steps=steps[2], **options))
    return runs
