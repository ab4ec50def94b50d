# SPDX-License-Identifier: Apache-2.0
"""The training loop: it learns, logs, and goes on after a kill with the same losses."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
tokenizers = pytest.importorskip("tokenizers")

import bigrain  # noqa: E402
from bigrain.train.data import TrainingSet  # noqa: E402
from bigrain.train.encoders import StaticEncoder, TinyTransformer  # noqa: E402
from bigrain.train.samplers import Shuffled  # noqa: E402
from bigrain.train.trainer import State, fit  # noqa: E402

torch.set_num_threads(1)

WORDS = [f"w{i}" for i in range(200)]


def make_tokenizer() -> Any:
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *WORDS])}
    model = tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return tokenizer


def make_data(n: int = 120, negatives: int = 0) -> TrainingSet:
    """Queries share two of their document's eight words."""
    rng = np.random.default_rng(0)
    documents = [" ".join(rng.choice(WORDS, 8, replace=False)) for _ in range(n)]
    queries = [
        " ".join(rng.choice(text.split(), 2)) + f" w{rng.integers(200)}" for text in documents
    ]
    rows = np.arange(n)
    hard = (rows[:, None] + rng.integers(1, n, (n, negatives))) % n if negatives else None
    return TrainingSet(queries, documents, rows, hard)


def in_batch(q: Any, p: Any, n: Any, **_: Any) -> Any:
    columns = p if n is None else torch.cat([p, n.flatten(0, 1)])
    return torch.nn.functional.cross_entropy(q @ columns.T / 0.1, torch.arange(len(q)))


def make_encoder(seed: int = 0) -> StaticEncoder:
    torch.manual_seed(seed)
    return StaticEncoder(make_tokenizer(), 16)


def train(encoder: Any, data: TrainingSet, **more: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"loss": in_batch, "steps": 30, "batch_size": 16, "lr": 0.02}
    return fit(encoder, data, **(settings | more))


def mrr(encoder: Any, data: TrainingSet) -> float:
    scores = encoder.encode_query(data.queries) @ encoder.encode_document(data.documents).T
    own = scores[np.arange(len(data)), data.positives][:, None]
    return float((1 / (1 + (scores > own).sum(1))).mean())


@pytest.mark.parametrize("negatives", [0, 2])
def test_training_lowers_the_loss_and_raises_the_rank(negatives: int) -> None:
    data, encoder = make_data(negatives=negatives), make_encoder()
    before = mrr(encoder, data)
    result = train(encoder, data, steps=60)
    assert result["loss"] < 0.5 * result["losses"][0]
    assert mrr(encoder, data) > before + 0.05
    assert len(result["losses"]) == result["steps"] == 60


def test_same_seed_same_losses_and_the_callers_random_state_is_left_alone() -> None:
    data = make_data()
    curves = []
    for seed in (0, 0, 1):
        torch.manual_seed(3)
        encoder = TinyTransformer(make_tokenizer(), 16)  # with dropout
        torch.manual_seed(5)
        curves.append(train(encoder, data, seed=seed, steps=5)["losses"])
        after = torch.rand(1)
        torch.manual_seed(5)
        assert after == torch.rand(1)
    assert curves[0] == curves[1] != curves[2]


def read_log(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class Spy:
    """A callback that keeps state, changes negatives and logs."""

    def __init__(self, until: int | None = None) -> None:
        self.seen: list[str] = []
        self.until = until

    def on_start(self, state: State) -> None:
        self.seen.append(f"start {state.step}")

    def on_step(self, state: State) -> None:
        self.seen.append(str(state.step))
        state.log({"seen": len(self.seen)})
        if state.step % 4 == 0:
            rows = (state.data.positives[:, None] + state.step) % len(state.data.documents)
            state.data = dataclasses.replace(state.data, negatives=rows)
        if state.step == self.until:
            raise KeyboardInterrupt

    def on_end(self, state: State) -> None:
        self.seen.append("end")

    def state_dict(self) -> dict[str, Any]:
        return {"seen": list(self.seen)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen = state["seen"]


def test_resume_restores_sampler_callbacks_negatives_and_log(tmp_path: Path) -> None:
    data, spy = make_data(negatives=1), Spy()
    whole = train(make_encoder(), data, callbacks=[spy], log=tmp_path / "whole")
    files: dict[str, Any] = {"checkpoint": tmp_path / "at", "log": tmp_path / "log", "every": 5}
    with pytest.raises(KeyboardInterrupt):
        train(make_encoder(), data, callbacks=[Spy(18)], **files)
    (tmp_path / "at.17.part").write_bytes(b"half")  # as a kill in mid-write leaves it
    later = Spy()
    resumed = train(make_encoder(1), data, callbacks=[later], **files)
    assert resumed["losses"] == whole["losses"]
    assert later.seen == [*spy.seen[:16], "start 15", *spy.seen[16:]]
    assert not list(tmp_path.glob("*.part"))
    lines = [read_log(tmp_path / name) for name in ("whole", "log")]
    for line in (*lines[0], *lines[1]):
        assert line.pop("seconds") >= 0
    assert [line.pop("seen") for line in lines[0]] == list(range(2, 32))
    assert [line.pop("seen") for line in lines[1]][15:] == list(range(18, 33))
    assert lines[0] == lines[1]
    again = train(make_encoder(), data, callbacks=[Spy()], **files)
    assert again["losses"] == whole["losses"]  # nothing left to do
    with pytest.raises(ValueError, match="is of a run with"):
        train(make_encoder(), data, lr=0.03, **files)
    assert train(make_encoder(), data, resume=False, steps=3, **files)["steps"] == 3


CHILD = """
    import sys, time
    sys.path.insert(0, {folder!r})
    from test_train_fit import *

    class Slow:
        def on_step(self, state):
            time.sleep(0.2)

    train_tiny([Slow()], checkpoint={at!r}, log={log!r})
"""


def train_tiny(callbacks: Any = (), **files: Any) -> list[float]:
    torch.manual_seed(3)
    encoder = TinyTransformer(make_tokenizer(), 16)  # with dropout
    losses = train(encoder, make_data(), callbacks=callbacks, every=3, **files)["losses"]
    assert isinstance(losses, list)
    return losses


def test_resume_after_sigkill_gives_the_same_curve(tmp_path: Path) -> None:
    at, log = str(tmp_path / "at"), str(tmp_path / "log")
    code = textwrap.dedent(CHILD.format(folder=str(Path(__file__).parent), at=at, log=log))
    with subprocess.Popen([sys.executable, "-c", code]) as child:
        deadline = time.monotonic() + 60
        while not Path(at).exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.3)  # past the checkpoint, so that steps are lost
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    done = len(Path(log).read_text().splitlines())
    assert 3 <= done < 30
    whole = train_tiny()
    assert len(whole) == 30
    assert train_tiny(checkpoint=at, log=log) == whole
    assert [line["loss"] for line in read_log(Path(log))] == whole


def test_batches_cover_an_epoch_in_slices_per_rank() -> None:
    alone = iter(Shuffled(20, 6, seed=1))
    ranks = [iter(Shuffled(20, 3, seed=1, rank=rank, world=2)) for rank in (0, 1)]
    epoch = [next(alone) for _ in range(3)]
    assert len(np.unique(np.concatenate(epoch))) == 18
    for batch in [*epoch, next(alone)]:
        np.testing.assert_array_equal(batch, np.concatenate([next(r) for r in ranks]))


def test_progress_is_told_and_may_cancel(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    train(make_encoder(), make_data(), steps=3, progress=lambda *at: seen.append(at))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(bigrain.Cancelled, match="after step 4"):
        train(make_encoder(), make_data(), progress=lambda done, _: done < 4)


def test_bad_arguments_say_what_to_do() -> None:
    data = make_data(negatives=2)
    for bad, message in [
        ({"steps": 0}, "steps: expected 1"),
        ({"batch_size": 200}, "batch_size: expected 1 to 120"),
        ({"lr": 0.0}, "lr"),
        ({"warmup": 1.0}, "warmup"),
        ({"loss": lambda q, p, n: (q * float("nan")).sum()}, "lower lr"),
        ({"sampler": []}, "sampler: yielded no batch"),
    ]:
        with pytest.raises(ValueError, match=message):
            train(make_encoder(), data, **bad)
    padded = TrainingSet(data.queries, data.documents, data.positives, np.full((120, 1), -1))
    with pytest.raises(ValueError, match="must take n_ids"):
        train(make_encoder(), padded, loss=lambda q, p, n: (q * p).sum())


def test_losses_get_what_they_name_and_their_parameters_are_trained() -> None:
    class Learned(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(1.0))

        def forward(self, q: Any, p: Any, n: Any, *, q_ids: Any, n_ids: Any, scores: Any) -> Any:
            assert q.shape == p.shape == (16, 16)
            assert n.shape == (16, 2, 16)
            assert n_ids.shape == (16, 2)
            assert q_ids.dtype == torch.int64
            assert scores is None
            return in_batch(q * self.scale, p, n)

    loss = Learned()
    train(make_encoder(), make_data(negatives=2), loss=loss)
    assert loss.scale.item() != 1
