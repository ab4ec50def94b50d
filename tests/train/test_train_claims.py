# SPDX-License-Identifier: Apache-2.0
"""The harness of claims: a toy claim through all of it, texts, Tier S, and every judge."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bigrain_bench import fetch  # noqa: E402
from bigrain_claims import __main__ as command  # noqa: E402
from bigrain_claims import claim, registry, report, store, texts, tier_s  # noqa: E402

torch.set_num_threads(1)


def toy(gain: float = 0.1, control_gain: float = 0.0) -> Any:
    """An experiment whose arms differ by what the caller says."""
    calls: list[tuple[str, int]] = []

    def run(arm: str, seed: int, device: str, data: Any) -> dict[str, Any]:
        calls.append((arm, seed))
        better = {"base": 0.0, "better": gain, "control": control_gain}[arm]
        rng = np.random.default_rng(seed)
        per_query = rng.random(50) + better
        return {"score": float(per_query.mean()), "per_query": {"score": per_query}}

    def judge(results: Sequence[claim.ArmResult]) -> claim.Verdict:
        base = claim.values(results, "base", "score")
        differences = {a: claim.values(results, a, "score") - base for a in ("better", "control")}
        rows = [
            claim.Row(a, "", claim.spread(d), bool(d.mean() > 0.05)) for a, d in differences.items()
        ]
        failed = not rows[1].holds
        return claim.Verdict(bool(rows[0].holds), failed, rows, "As planted.")

    def plot(results: Sequence[claim.ArmResult], axes: Any) -> None:
        arms = ["base", "better"]
        axes.bar(arms, [claim.values(results, arm, "score").mean() for arm in arms])

    planted = claim.Claim(
        *("E-TOY", "Better is better.", "1 | 2", "By .05.", "Must not be better."),
        arms=("base", "better", "control"),
        seeds=2,
    )
    parts = {"CLAIM": planted, "run": run, "judge": judge, "plot": plot, "load": lambda: None}
    return SimpleNamespace(**parts, calls=calls)


def test_a_toy_claim_through_the_whole_harness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = toy()
    monkeypatch.setattr(registry, "experiments", lambda: [experiment])
    arguments = ["--out", str(tmp_path / "out"), "--pages", str(tmp_path / "docs")]
    assert command.main(arguments) == 0
    assert "E-TOY: shown" in capsys.readouterr().out
    assert len(experiment.calls) == 6
    page = (tmp_path / "docs" / "claims.md").read_text()
    assert "**Verdict: shown.**" in page
    assert "1 \\| 2" not in page.split("## E-TOY")[1]  # only cells are escaped
    assert (tmp_path / "docs" / "images" / "claims-e-toy.png").stat().st_size > 1000
    # Nothing runs twice, another seed runs alone, and the page follows from the files.
    (tmp_path / "docs" / "claims.md").unlink()
    assert command.main([*arguments, "--seeds", "3"]) == 0
    assert experiment.calls[6:] == [(arm, 2) for arm in experiment.CLAIM.arms]
    assert command.main([*arguments, "--no-run"]) == 0
    again = json.loads((tmp_path / "docs" / "claims" / "e-toy" / "better.json").read_text())
    assert [run["seed"] for run in again["runs"]] == [0, 1, 2]
    assert {"commit", "cpu", "versions", "rule", "device"} <= set(again["runs"][0]["environment"])


@pytest.mark.parametrize(
    ("gain", "control", "word"),
    [(0.1, 0.0, "shown"), (0.0, 0.0, "not shown"), (0.1, 0.1, "void: the control passed")],
)
def test_verdicts(tmp_path: Path, gain: float, control: float, word: str) -> None:
    experiment = toy(gain, control)
    assert experiment.judge(command.run_missing(experiment, tmp_path, 2)).word == word


def test_a_failing_experiment_leaves_the_others_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, whole = toy(), toy()

    def raises() -> None:
        raise fetch.FetchError("no such data")

    broken.load = raises
    broken.CLAIM = claim.Claim(*("E-NO", "", "", "", ""), arms=("base",), seeds=1)
    monkeypatch.setattr(registry, "experiments", lambda: [broken, whole])
    assert command.main(["--out", str(tmp_path), "--pages", str(tmp_path)]) == 1
    assert "no such data" in capsys.readouterr().err
    assert "Without results here: E-NO" in (tmp_path / "claims.md").read_text()
    with pytest.raises(SystemExit, match="known are E-NO, E-TOY"):
        command.main(["--only", "E-GONE"])


def test_a_rule_that_changed_after_the_run_is_told(tmp_path: Path) -> None:
    experiment = toy()
    command.run_missing(experiment, tmp_path, 1)
    fields = {**vars(experiment.CLAIM), "rule": "By .01."}
    experiment.CLAIM = claim.Claim(**fields)
    page = report.publish([experiment], tmp_path, tmp_path / "docs").read_text()
    assert "have changed since these runs" in page
    assert "Planned were 2 seeds" in page


def test_values_per_query_come_back_to_four_digits() -> None:
    rng = np.random.default_rng(0)
    for array in (np.array([0.5, 0, 1 / 3, 1]), rng.random(1000), rng.integers(0, 2, 300) * 1.0):
        packed = json.loads(json.dumps(store.pack(array)))
        np.testing.assert_allclose(store.unpack(packed), array, atol=5e-5)


def write(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


@pytest.fixture
def collection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """1,200 documents of three words; each query is a document's first two words."""
    folder = tmp_path / "texts" / "planted"
    words = [f"{i % 10} {i // 10 % 10} {i // 100}" for i in range(1200)]
    documents = [{"_id": f"d{i}", "title": "", "text": text} for i, text in enumerate(words)]
    queries = [{"_id": f"q{i}", "text": " ".join(t.split()[:2])} for i, t in enumerate(words)]
    queries[0]["text"] = "only here"
    write(folder / "corpus.jsonl.gz", [json.dumps(row) for row in documents])
    write(folder / "queries.jsonl.gz", [json.dumps(row) for row in queries])
    rows = ["query-id\tcorpus-id\tscore", *(f"q{i}\td{i}\t1" for i in range(1200)), "q0\td1\t0"]
    write(folder / "qrels.tsv.gz", rows)
    monkeypatch.setenv(texts.VARIABLE, str(folder.parent))
    return "planted"


def test_judged_text_is_split_cut_and_free_of_leaks(collection: str) -> None:
    whole = texts.judged(collection)
    assert len(whole.documents) == 1200
    held = {whole.queries[row] for row in np.concatenate([whole.dev, whole.test])}
    assert len(held) > 50  # each text is twelve queries
    assert not held & {whole.queries[row] for row in whole.train}
    small = texts.judged(collection, documents=400, dev=30, test=50)
    assert (len(small.documents), len(small.dev), len(small.test)) == (400, 30, 50)
    for row in small.test:
        first = small.queries[row].split()[0]
        assert first == "only" or small.documents[small.positive[row]].split()[0] == first
    again = texts.judged(collection, documents=400, dev=30, test=50)
    assert again.documents == small.documents
    with pytest.raises(fetch.FetchError, match="holds no folder gone"):
        texts.judged("gone")


def planted_collection(words: int = 40, documents: int = 400) -> tier_s.Collection:
    """Query piece w + 500 means document piece w: only training can tell."""
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, words, 6) for _ in range(documents)]
    asked = [row[:4] + 500 for row in rows]
    names = [str(i) for i in range(documents)]
    split = np.array_split(np.arange(documents), [300, 350])
    judged = texts.Judged("planted", names, names, [(i,) for i in range(documents)], *split)

    def tokens(lists: Sequence[Any]) -> tier_s.Tokens:
        offsets = np.cumsum([0, *map(len, lists)], dtype=np.int64)
        return tier_s.Tokens(np.concatenate(lists).astype(np.int32), offsets)

    return tier_s.Collection(judged, tokens(rows), tokens(asked))


def in_batch(q: Any, p: Any, n: Any, *, p_ids: Any, n_ids: Any, rows: Any) -> Any:
    columns = p if n is None else torch.cat([p, n.flatten(0, 1)])
    assert n is None or (n_ids.shape == n.shape[:2] and len(rows) == len(q))
    return torch.nn.functional.cross_entropy(q @ columns.T / 0.1, torch.arange(len(q)))


def test_tier_s_learns_and_repeats_itself() -> None:
    data = planted_collection()
    table = torch.randn(600, 32, generator=torch.Generator().manual_seed(0))
    seen: list[int] = []
    negatives = np.zeros((300, 1), np.int64)

    def hook(step: int, encoder: tier_s.StaticBag) -> Any:
        seen.append(step)
        return negatives if step == 10 else None

    def once(negative: Any = None, hook: Any = None) -> tuple[list[float], float]:
        encoder = tier_s.StaticBag(table, 16, seed=1)
        settings: dict[str, Any] = {"steps": 40, "batch_size": 50, "lr": 0.03, "seed": 2}
        losses = tier_s.train(encoder, data, in_batch, negatives=negative, hook=hook, **settings)
        return losses, tier_s.evaluate(encoder, data)["mrr@10"]

    before = tier_s.evaluate(tier_s.StaticBag(table, 16, seed=1), data)["mrr@10"]
    losses, after = once()
    assert once() == (losses, after)
    assert after > 0.3 > before + 0.1
    assert losses[-1] < losses[0]
    assert once(negatives, hook)[0][0] != losses[0]
    assert seen == list(range(1, 41))


def test_ranks_are_exact_and_ties_go_by_row() -> None:
    documents = np.array([[1, 0], [1, 0], [0, 1], [0.5, 0]], np.float32)
    queries = np.array([[1, 0], [1, 0], [0, 1], [1, 0]], np.float32)
    found = tier_s.ranks(queries, documents, [(1,), (3, 2), (2,), (0, 1)], chunk=3)
    assert found.tolist() == [2, 3, 1, 1]
    bag = planted_collection().documents
    ids, starts = bag.bag(np.array([3, 0]))
    assert starts.tolist() == [0, 6]
    assert ids.tolist() == [*bag.ids[18:24].tolist(), *bag.ids[:6].tolist()]
    with pytest.raises(ValueError, match="size: expected 1 to 300"):
        next(tier_s.batches(300, 301, 0))
