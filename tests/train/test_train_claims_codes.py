# SPDX-License-Identifier: Apache-2.0
"""E-MCL and E-BI: every kind of arm runs on planted data, and verdicts are those of the rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bigrain_bench import datasets, fetch  # noqa: E402
from bigrain_claims import (  # noqa: E402
    claim,
    debian,
    e_bi,
    e_mcl,
    frozen,
    registry,
    teacher,
    texts,
    tier_s,
)

torch.set_num_threads(1)
DIM = 16


def planted() -> frozen.Frozen:
    """Queries see half of the coordinates, documents vary mostly in the others."""
    rng = np.random.default_rng(0)
    seen = np.arange(DIM) < 8
    documents = frozen.unit(rng.normal(size=(400, DIM)) * np.where(seen, 0.5, 1.0))
    queries = np.where(seen, documents, 0) + 0.05 * rng.normal(size=(400, DIM))
    rows = np.split(np.arange(400), [300, 350])
    return frozen.Frozen(documents, frozen.unit(queries), np.arange(400), *rows)


@pytest.fixture(autouse=True)
def _small(monkeypatch: Any) -> None:
    monkeypatch.setattr(e_mcl, "STEPS", 40)
    monkeypatch.setattr(e_mcl, "BATCH", 100)
    monkeypatch.setattr(e_mcl, "TEMPERATURE", 0.01)
    monkeypatch.setattr(e_bi, "WIDTHS", (10, 40))
    monkeypatch.setattr(e_bi, "STEPS", 3)
    monkeypatch.setattr(e_bi, "BATCH", 32)


def test_the_embeddings_may_be_given(tmp_path: Any, monkeypatch: Any) -> None:
    data = planted()
    np.savez(tmp_path / "e.npz", **vars(data))
    monkeypatch.setenv(frozen.VARIABLE, str(tmp_path / "e.npz"))
    frozen.load.cache_clear()
    loaded = frozen.load()
    frozen.load.cache_clear()
    np.testing.assert_allclose(loaded.documents, data.documents, atol=1e-6)
    with pytest.raises(ValueError, match="disjoint"):
        frozen.Frozen(data.documents, data.queries, data.positive, *[data.train] * 3)


def test_parts_share_neither_text_nor_answer() -> None:
    queries = ["a", "A .", "b", "b2", "c", *map(str, range(95))]
    relevant = [(0,), (1,), (2,), (2,), (3, 4), *((i,) for i in range(5, 100))]
    test, rest = np.array([0, 2]), np.setdiff1d(np.arange(100), [0, 2])
    judged = texts.Judged("x", [""] * 100, queries, relevant, rest[:90], rest[90:], test)
    train, dev, held = frozen.apart(judged, 60, 30)
    assert (len(train), len(dev), held.tolist()) == (60, 30, [0, 2])
    # 1 is 0's text, 3 has 2's answer.
    assert not np.isin([0, 1, 2, 3], np.concatenate([train, dev])).any()
    assert not np.isin(train, dev).any()


def test_descriptions_of_packages() -> None:
    long = " a description of eighty characters and more that says what the package does, at length"
    text = "\n\n".join(
        f"Package: {name}\nDescription-md5: 0\nDescription-en: {short}\n{rest}"
        for name, short, rest in [
            ("a", "does one thing", f"{long}\n .\n and\n  more"),
            ("b", "does one thing", long),
            ("c", "two words", f"{long}\n"),
            ("d", "too little said", " short"),
        ]
    )
    found = debian.parse(text)
    assert found == {
        f"{long} and more".strip(): {"does one thing": None},
        long.strip(): {"does one thing": None},
    }


def test_pretrained_vectors_are_those_of_the_documents(tmp_path: Any, monkeypatch: Any) -> None:
    names = [str(row) for row in range(100)]
    rows = frozen.unit(np.random.default_rng(0).normal(size=(100, 8)))
    known = dict(zip(names, rows, strict=True))
    monkeypatch.setattr(teacher, "vectors", lambda rows, *_: np.stack([known[r] for r in rows]))
    whole = (np.arange(60), np.arange(60, 80), np.arange(80, 100))
    judged = texts.Judged("x", names, names, [(row,) for row in range(100)], *whole)
    monkeypatch.setattr(texts, "judged", lambda name: judged)
    monkeypatch.delenv(datasets.MINILM_VARIABLE, raising=False)
    computed = frozen.pretrained()
    np.testing.assert_allclose(
        computed.queries[computed.test], computed.documents[computed.positive[computed.test]]
    )
    base = computed.documents
    np.savez(tmp_path / "e.npz", base=base.astype(np.float16), q=base[:3])
    monkeypatch.setenv(datasets.MINILM_VARIABLE, str(tmp_path / "e.npz"))
    np.testing.assert_allclose(frozen.pretrained().documents, base, atol=1e-3)
    np.savez(tmp_path / "e.npz", base=base[::-1], q=base[:3])
    with pytest.raises(fetch.FetchError, match="not all-MiniLM-L6-v2's of the 100 documents"):
        frozen.pretrained()


def test_arms_run_and_matching_pays_on_planted_data() -> None:
    data = planted()
    for name in ("PQ-8", "OPQ-8", "reconstruction-8", "MCL-8", "ListNet-8", "ListNet-unlabelled-8"):
        result = registry.run_arm(e_mcl, name, 0, "cpu", data)
        assert result.per_query["hit@10"].shape == (50,)
        assert 0 <= result.figures["r@10"] <= result.figures["r@100"] <= 1
    reached = {  # of the queries trained on: fifty others say little
        kind: e_mcl.run(f"{kind}-2", 0, "cpu", data, 1e-2, "train")["r@10"]
        for kind in ("OPQ", "MCL", "MCL-shuffled")
    }
    assert reached["MCL"] > max(reached["OPQ"], reached["MCL-shuffled"]) + 0.05, reached


def test_candidates_and_reads_of_a_code() -> None:
    data = planted()
    result = registry.run_arm(e_bi, "OPQ-8", 0, "cpu", data)
    figures = result.figures
    assert figures["final"][0] <= figures["final"][-1]
    # 1,000 candidates are all documents: nothing is lost.
    assert figures["final"][-1] == pytest.approx(figures["exact"])
    assert figures["reads"][0] < figures["reads"][1]
    assert figures["index"][1] > 0.5
    hits = e_bi._final(
        data.documents, data.queries[:5], np.arange(400)[None].repeat(5, 0), np.arange(5)
    )
    order = np.argsort(-data.queries[:5] @ data.documents.T, 1)[:, :10]
    assert hits[-1].tolist() == [i in order[i] for i in range(5)]


def test_the_second_tier(monkeypatch: Any) -> None:
    data, rng = planted(), np.random.default_rng(1)
    offsets = np.arange(0, 401 * 4, 4)
    tokens = tier_s.Tokens(rng.integers(0, 50, 1600).astype(np.int32), offsets)
    judged = texts.Judged(
        "planted", [""] * 400, [""] * 400, [(i,) for i in range(400)],
        data.train, data.dev, data.test,
    )  # fmt: skip
    first = tier_s.StaticBag(torch.randn(50, 8), dim=8, seed=0)
    collection = tier_s.Collection(judged, tokens, tokens)
    monkeypatch.setattr(frozen, "first_stage", lambda: (collection, first))
    monkeypatch.setattr(frozen, "second", lambda: data)
    for arm in e_bi.DENSE:
        result = registry.run_arm(e_bi, arm, 0, "cpu", data)
        assert result.per_query["rr@10"].shape == (50,)
        assert result.figures["mrr@10"] > 0


def test_needed_is_between_the_points() -> None:
    assert e_bi.needed([10, 100], [0.2, 0.4], 0.3) == pytest.approx(10**1.5)
    assert e_bi.needed([10, 100], [0.5, 0.6], 0.3) == 10
    assert e_bi.needed([10, 100], [0.1, 0.2], 0.3) == float("inf")


def hits(share: float, seed: int) -> Any:
    """A query is found if it is easy enough: the better arm finds all that the worse one does."""
    ease = np.random.default_rng(seed).permutation(400) / 400
    return (ease < share).astype(np.float64)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({}, "shown"),
        ({"MCL-16": 0.5, "ListNet-16": 0.5, "ListNet-unlabelled-16": 0.5}, "not shown"),
        ({"MCL-8": 0.5, "ListNet-16": 0.5, "ListNet-unlabelled-16": 0.5}, "not shown"),
        ({"MCL-shuffled-16": 0.6}, "void: the control passed"),
    ],
)
def test_verdicts_of_codes(change: dict[str, float], word: str) -> None:
    share = {
        arm: 0.6 if arm.rsplit("-", 1)[0] in e_mcl.TRAINED else 0.5 for arm in e_mcl.CLAIM.arms
    }
    share |= {"MCL-shuffled-8": 0.2, "MCL-shuffled-16": 0.2, **change}
    names = ("r@10", "r@100", "neighbours@10", "distortion", "exact r@10")
    runs = [
        claim.ArmResult(
            "E-MCL",
            arm,
            seed,
            {"score": "ip", **dict.fromkeys(names, share[arm])},
            {"hit@10": hits(share[arm], seed)},
        )
        for arm in e_mcl.CLAIM.arms
        for seed in range(3)
    ]
    verdict = e_mcl.judge(runs)
    assert verdict.word == word
    assert len(verdict.figures) == 14


@pytest.mark.parametrize(
    ("early", "reads", "walk", "shuffled", "word"),
    [
        (0.6, 0.8, 0.5, 0.2, "shown"),
        (0.45, 0.8, 0.5, 0.2, "not shown"),
        (0.6, 1.2, 0.5, 0.2, "not shown"),
        (0.6, 0.8, 0.4, 0.2, "not shown"),
        (0.6, 0.8, 0.5, 0.7, "void: the control passed"),
    ],
)
def test_verdicts_of_reads(
    early: float, reads: float, walk: float, shuffled: float, word: str
) -> None:
    starts = {"PQ": 0.3, "OPQ": 0.5, "MCL": early, "ListNet": 0.5, "MCL-shuffled": shuffled}
    runs = []
    for seed in range(3):
        for kind, start in starts.items():
            figures = {
                "final": np.linspace(start, 0.9, len(e_bi.CANDIDATES)).tolist(),
                "exact": 0.99 if kind == "PQ" else 0.9,  # which PQ does not reach
                "reads": [20 * (reads if kind == "MCL" else 1), 60],
                "index": [0.4, 0.9],
            }
            at = {"final@20": hits(start, seed)}
            runs.append(claim.ArmResult("E-BI", f"{kind}-8", seed, figures, at))
        for arm in e_bi.DENSE:
            mean = walk if arm == "dense-walk" else 0.4
            found = {"mrr@10": mean, "exhaustive mrr@10": mean}
            runs.append(claim.ArmResult("E-BI", arm, seed, found, {"rr@10": hits(mean, seed)}))
    verdict = e_bi.judge(runs)
    assert verdict.word == word
    assert len(verdict.figures) == 8
