# SPDX-License-Identifier: Apache-2.0
"""The refresher: deterministic in step, patient with children that die wherever they may."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tiny_encoder import TinyEncoder  # noqa: E402

from bigrain.train._negatives_file import file_of, write_negatives  # noqa: E402
from bigrain.train.data import TrainingSet  # noqa: E402
from bigrain.train.negatives import AnceRefresher, Negatives, find_negatives  # noqa: E402

WORDS = [f"w{i}" for i in range(30)]
PATIENCE = 300.0  # seconds for a child to end


@dataclass
class State:
    """What `fit` shows to callbacks."""

    encoder: Any
    data: TrainingSet
    step: int = 0
    lines: list[dict[str, Any]] = field(default_factory=list)

    def log(self, line: dict[str, Any]) -> None:
        self.lines.append({"step": self.step, **line})


def make_state(**options: Any) -> State:
    """60 documents, the last ten copies of the first; queries share words with their document."""
    rng = np.random.default_rng(1)
    documents = [" ".join(rng.choice(WORDS, 6)) for _ in range(50)]
    documents += documents[:10]
    positives = np.arange(20, dtype=np.int64)
    queries = [" ".join(documents[i].split()[:3]) for i in positives]
    return State(TinyEncoder(**options), TrainingSet(queries, documents, positives))


def go(refresher: AnceRefresher, state: State, steps: int) -> list[Any]:
    """Step, and return the negatives after every step."""
    seen = []
    for _ in range(steps):
        state.step += 1
        state.encoder.turn = state.step  # as if it learned
        refresher.on_step(state)
        seen.append(state.data.negatives)
    return seen


def finish(refresher: AnceRefresher) -> int:
    """Wait for the child; return its exit code."""
    child = refresher._child
    assert child is not None
    return child.wait(PATIENCE)


@pytest.mark.parametrize("exact", [False, True])
def test_sync_is_deterministic_and_resumes(exact: bool) -> None:
    options: Any = {"every": 3, "topk": 12, "sample": 4, "exact": exact, "seed": 5}
    runs = []
    for _ in range(2):
        state, refresher = make_state(), AnceRefresher(**options)
        refresher.on_start(state)
        runs.append([state.data.negatives, *go(refresher, state, 7)])
    np.testing.assert_array_equal(runs[0], runs[1])
    assert [line["refresh_version"] for line in state.lines] == [0, 3, 6]
    assert all(line["refresh_staleness"] == 0 for line in state.lines)
    assert {"refresh_encode", "refresh_build", "refresh_search"} <= set(state.lines[0])
    changed = [bool((a != b).any()) for a, b in zip(runs[0], runs[0][1:], strict=False)]
    assert changed == [False, False, True, False, False, True, False]
    # Restart after step 4, from a checkpoint that went through a file's types.
    state, refresher = make_state(), AnceRefresher(**options)
    refresher.on_start(state)
    go(refresher, state, 4)
    kept = refresher.state_dict()
    again, state.data = AnceRefresher(**options), make_state().data
    again.load_state_dict(kept)
    again.on_start(state)
    np.testing.assert_array_equal([state.data.negatives, *go(again, state, 3)], runs[0][4:])


def test_what_is_drawn() -> None:
    state = make_state()
    refresher = AnceRefresher(None, topk=12, sample=4)
    refresher.on_start(state)
    ids = state.data.negatives
    assert ids is not None
    assert ids.dtype == np.int64
    assert (ids >= 0).all()
    scores = (
        state.encoder.encode_query(state.data.queries),
        state.encoder.encode_document(state.data.documents),
    )
    scores = [s / np.linalg.norm(s, axis=1, keepdims=True) for s in scores]
    order = np.argsort(-scores[0] @ scores[1].T, axis=1)
    for row, negatives in enumerate(ids):
        assert len(set(negatives)) == 4
        assert set(negatives) <= set(order[row, :13])
        assert row not in negatives  # its positive
        assert row + 50 not in negatives  # the copy of its positive
    go(refresher, state, 3)
    np.testing.assert_array_equal(state.data.negatives, ids)  # every=None: only at the start
    later = AnceRefresher(2, at_start=False)
    state = make_state()
    later.on_start(state)
    assert state.data.negatives is None
    assert go(later, state, 2)[1] is not None


def test_async_is_sync_a_little_later(tmp_path: Path) -> None:
    options: Any = {"every": 2, "topk": 12, "sample": 4, "mode": "async"}
    state, refresher = make_state(), AnceRefresher(**options, folder=tmp_path)
    refresher.on_start(state)
    first = state.data.negatives
    go(refresher, state, 2)
    assert finish(refresher) == 0
    np.testing.assert_array_equal(state.data.negatives, first)  # nothing is taken in between
    assert (go(refresher, state, 1)[0] != first).any()
    assert [line["refresh_version"] for line in state.lines] == [0, 2]
    assert state.lines[-1]["refresh_staleness"] == 1
    texts = json.loads((tmp_path / "texts.json").read_text())
    expected = find_negatives(TinyEncoder(2), texts, refresher._options, 2)
    np.testing.assert_array_equal(state.data.negatives, expected.ids)
    refresher.on_end(state)
    # A restart continues with what the checkpoint holds, and drops what lies in its future.
    kept = refresher.state_dict()
    for version in (3, 9):
        write_negatives(file_of(tmp_path, version), expected)
    again, fresh = AnceRefresher(**options, folder=tmp_path), make_state()
    again.load_state_dict(kept)
    again.on_start(fresh)
    np.testing.assert_array_equal(fresh.data.negatives, expected.ids)
    assert [path.name for path in tmp_path.glob("*.bin")] == [file_of("", 2).name]


STAGES = ("load", "encode", "build", "search", "flush", "rename", "renamed")


@pytest.mark.parametrize("stage", STAGES)
def test_a_child_killed_at_each_stage(tmp_path: Path, stage: str) -> None:
    state = make_state(kill_at=stage)
    refresher = AnceRefresher(1, topk=12, mode="async", folder=tmp_path)
    refresher.on_start(state)
    first = state.data.negatives
    go(refresher, state, 1)
    assert finish(refresher) == -signal.SIGKILL
    state.encoder.kill_at = ""
    go(refresher, state, 1)
    assert {"step": 2, "refresh_failed": -9} in state.lines
    taken = state.lines[-1].get("refresh_version") == 1
    assert taken == (stage == "renamed")  # complete is complete, though its writer died
    assert taken or state.data.negatives is first
    assert finish(refresher) == 0  # the next child does what the first could not
    go(refresher, state, 1)
    assert state.lines[-1]["refresh_version"] == 2
    refresher.on_end(state)
    names = {path.name for path in tmp_path.glob("negatives-*")}
    assert file_of("", 2).name in names
    # What a child left half written goes at the next start.
    AnceRefresher(1, mode="async", folder=tmp_path).on_start(make_state())
    assert not list(tmp_path.glob("*.part"))


def test_torn_stale_and_foreign_files_are_passed_over(tmp_path: Path) -> None:
    state = make_state()
    refresher = AnceRefresher(None, topk=12, mode="async", folder=tmp_path)
    write_negatives(file_of(tmp_path, 1), Negatives(*other(20, 1), 1))  # of an earlier run
    refresher.on_start(state)
    first = state.data.negatives
    assert not file_of(tmp_path, 1).exists()
    write_negatives(file_of(tmp_path, 0), Negatives(*other(20, 1), 0))  # stale
    write_negatives(file_of(tmp_path, 1), Negatives(*other(19, 1), 1))  # of other queries
    write_negatives(file_of(tmp_path, 2), Negatives(*other(20, 999), 2))  # no such document
    write_negatives(file_of(tmp_path, 3), Negatives(*other(20, 30), 3))
    whole = file_of(tmp_path, 3).read_bytes()
    file_of(tmp_path, 3).write_bytes(whole[:-1])
    assert all(ids is first for ids in go(refresher, state, 4))
    file_of(tmp_path, 3).write_bytes(whole)
    assert (go(refresher, state, 1)[0] == 30).all()
    assert state.lines[-1]["refresh_staleness"] == 2


def other(rows: int, document: int) -> tuple[Any, Any]:
    return np.full((rows, 1), document, np.int64), np.arange(rows, dtype=np.int64)


def test_three_dead_children_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = make_state()
    refresher = AnceRefresher(1, topk=12, mode="async", folder=tmp_path)
    refresher.on_start(state)
    monkeypatch.setattr(sys, "executable", "false")  # the shell's command
    for _ in range(3):
        go(refresher, state, 1)
        assert finish(refresher) == 1
    with pytest.raises(RuntimeError, match=r"3 children in a row died \(1\)"):
        go(refresher, state, 1)


def test_an_orphan_writes_nothing(tmp_path: Path) -> None:
    state = make_state(pause=1.0)
    refresher = AnceRefresher(1, topk=12, mode="async", folder=tmp_path)
    refresher.on_start(state)
    job = {
        "encoder": ["tiny_encoder", "TinyEncoder"],
        "version": 1,
        "parent": 1 if os.getpid() != 1 else 2,  # not the process that starts it
        "options": refresher._options,
    }
    TinyEncoder().save(tmp_path / "checkpoint")
    (tmp_path / "job.json").write_text(json.dumps(job))
    done = subprocess.run(
        [sys.executable, "-m", "bigrain.train.negatives", str(tmp_path / "job.json")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "the trainer is gone" in done.stderr
    assert not list(tmp_path.glob("*.bin"))
    # The end of training does not wait for a child.
    go(refresher, state, 1)
    start = time.perf_counter()
    refresher.on_end(state)
    assert time.perf_counter() - start < 0.9
    assert not list(tmp_path.glob("*.bin"))


def test_bad_input(tmp_path: Path) -> None:
    for options, name in (
        ({"every": 0}, "every"),
        ({"topk": 3, "sample": 4}, "sample"),
        ({"mode": "later"}, "mode"),
        ({"mode": "async"}, "folder"),
        ({"folder": "x"}, "folder"),
    ):
        with pytest.raises(ValueError, match=f"^{name}: "):
            AnceRefresher(**options)  # type: ignore[arg-type]

    class Local(TinyEncoder):
        pass

    state = make_state()
    state.encoder = Local()
    with pytest.raises(ValueError, match="a class that a child process can import"):
        AnceRefresher(mode="async", folder=tmp_path).on_start(state)
    state = make_state()
    data = state.data
    scores = np.zeros((20, 1), np.float32)
    state.data = TrainingSet(data.queries, data.documents, data.positives, None, scores)
    with pytest.raises(ValueError, match="scores belong to negatives"):
        AnceRefresher().on_start(state)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_fit_trains_on_refreshed_negatives(tmp_path: Path, mode: Any) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    from bigrain.train.encoders import StaticEncoder
    from bigrain.train.losses import contrastive
    from bigrain.train.trainer import fit

    torch.set_num_threads(1)
    data = make_state().data
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *WORDS])}
    model = tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    seen: list[tuple[int, Any]] = []

    class Watch:
        def on_step(self, state: Any) -> None:
            seen.append((state.step, state.data.negatives.tolist()))
            child = refresher._child
            if child is not None and state.step % 4 == 0:
                child.wait(PATIENCE)

    def loss(q: Any, p: Any, n: Any, *, p_ids: Any, n_ids: Any) -> Any:
        return contrastive(q, p, n, p_ids=p_ids, n_ids=n_ids)

    options = {"index_options": {"threads": 1}, "search_options": {"threads": 1}}
    runs = []
    for turn in range(2 if mode == "sync" else 1):  # a child that loads torch takes seconds
        torch.manual_seed(0)
        folder = tmp_path / f"{mode}{turn}" if mode == "async" else None
        refresher = AnceRefresher(4, topk=10, sample=2, mode=mode, folder=folder, **options)
        runs.append(
            fit(
                StaticEncoder(tokenizer, 8),
                data,
                loss=loss,
                steps=5,
                batch_size=5,
                lr=0.1,
                callbacks=[refresher, Watch()],
                log=tmp_path / f"{mode}{turn}.jsonl",
            )["losses"]
        )
    assert runs[0] == runs[-1]
    lines = [json.loads(line) for line in (tmp_path / f"{mode}0.jsonl").read_text().splitlines()]
    versions = [line["refresh_version"] for line in lines if "refresh_version" in line]
    assert versions == [0, 4]
    changes = [b[0] for a, b in itertools.pairwise(seen[:5]) if a[1] != b[1]]
    assert changes == ([4] if mode == "sync" else [5])
