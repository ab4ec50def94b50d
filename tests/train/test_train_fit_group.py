# SPDX-License-Identifier: Apache-2.0
"""fit over processes and in chunks gives what one process in one pass gives."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
tokenizers = pytest.importorskip("tokenizers")

from bigrain.train.data import TrainingSet  # noqa: E402
from bigrain.train.dist import spawn  # noqa: E402
from bigrain.train.encoders import StaticEncoder, TinyTransformer  # noqa: E402
from bigrain.train.losses import contrastive  # noqa: E402
from bigrain.train.samplers import Shuffled  # noqa: E402
from bigrain.train.trainer import fit  # noqa: E402

torch.set_num_threads(1)
STEPS = 6


def make_data() -> TrainingSet:
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(60)]
    documents = [" ".join(rng.choice(words, 6)) for _ in range(64)]
    queries = [" ".join(rng.choice(text.split(), 2)) for text in documents]
    rows = np.arange(64)
    negatives = np.stack([(rows + 5) % 64, np.where(rows % 3, (rows + 9) % 64, -1)], 1)
    return TrainingSet(queries, documents, rows, negatives)


def make_tokenizer() -> Any:
    vocabulary = {
        word: i for i, word in enumerate(["[PAD]", "[UNK]", *(f"w{i}" for i in range(60))])
    }
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return tokenizer


class Temperature(torch.nn.Module):
    """A loss with a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.tau = torch.nn.Parameter(torch.tensor(0.2))

    def forward(self, q: Any, p: Any, n: Any, *, p_ids: Any, n_ids: Any, group: Any = None) -> Any:
        return contrastive(q, p, n, tau=self.tau, p_ids=p_ids, n_ids=n_ids, group=group)


def train(
    batch: int, wrap: bool = False, log: str | None = None, kind: Any = StaticEncoder, **more: Any
) -> list[float]:
    """Losses, then the temperature and a sum over the weights."""
    torch.manual_seed(0)
    encoder: Any = kind(make_tokenizer(), 12)
    core, loss = encoder, Temperature()
    if torch.distributed.is_initialized():
        more["group"] = torch.distributed.group.WORLD
    if wrap:
        encoder = torch.nn.parallel.DistributedDataParallel(encoder)
    result = fit(
        encoder, make_data(), loss=loss, steps=STEPS, batch_size=batch, lr=0.01, log=log, **more
    )
    weights = core.words.weight.detach().double()
    return [*result["losses"], loss.tau.item(), weights.pow(2).sum().item()]


class Stop:
    def on_step(self, state: Any) -> None:
        if state.step == 5:
            raise KeyboardInterrupt


def ranks(log: str) -> list[list[float]]:
    files: dict[str, Any] = {"log": log, "checkpoint": log + ".at", "every": 2}
    try:
        train(8, callbacks=[Stop()], **files)
    except KeyboardInterrupt:
        return [train(8, **files), train(8, wrap=True)]
    raise AssertionError("not stopped")


def test_two_processes_equal_one(tmp_path: Path) -> None:
    expected = train(16)
    first, second = spawn(ranks, 2, str(tmp_path / "log"))
    for values in (*first, *second):
        np.testing.assert_allclose(values, expected, rtol=2e-5)
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    np.testing.assert_allclose([line["loss"] for line in lines], expected[:STEPS], rtol=2e-5)


@pytest.mark.parametrize("chunk", [1, 5, 64])
def test_chunks_equal_one_pass(chunk: int) -> None:
    np.testing.assert_allclose(train(16, chunk=chunk), train(16), rtol=1e-5)


class Uneven:
    """Five rows of sixteen for the first rank, the others for the second."""

    def __iter__(self) -> Any:
        rank = torch.distributed.get_rank()
        for rows in Shuffled(64, 16):
            yield np.split(rows, [5])[rank]


class Counted(StaticEncoder):
    calls = 0

    def forward(self, features: Any) -> Any:
        Counted.calls += 1
        return super().forward(features)


def wrapped_in_chunks() -> list[list[float]]:
    plain = train(8, wrap=True, chunk=3)
    uneven = train(8, wrap=True, chunk=3, sampler=Uneven(), kind=Counted)
    return [plain, uneven, [Counted.calls]]


def test_chunks_under_ddp_equal_one_process() -> None:
    expected = train(16)
    first, second = spawn(wrapped_in_chunks, 2)
    for plain, uneven, _ in (first, second):
        np.testing.assert_allclose(plain, expected, rtol=2e-5)
        np.testing.assert_allclose(uneven, expected, rtol=2e-5)
    assert first[2][0] < second[2][0]  # chunks of the smaller part


def test_chunks_replay_dropout() -> None:
    curves = []
    for chunk in (None, 100):
        torch.manual_seed(0)
        encoder = TinyTransformer(make_tokenizer(), 8, layers=1, heads=2)
        loss = functools.partial(contrastive, tau=0.1)
        result = fit(
            encoder, make_data(), loss=loss, steps=3, batch_size=8, lr=0.01, chunk=chunk, geometry=2
        )
        curves.append(result["losses"])
    np.testing.assert_allclose(curves[0][0], curves[1][0], rtol=1e-5)


def test_geometry_is_logged_when_asked(tmp_path: Path) -> None:
    train(16, log=str(tmp_path / "log"), geometry=3)
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [("align" in line, "uniform" in line) for line in lines] == [
        (True, True), (False, False), (False, False), (True, True), (False, False), (False, False)
    ]  # fmt: skip
    assert 0 < lines[0]["align"] < 4
    assert lines[0]["uniform"] < 0


def test_bfloat16_trains_to_about_the_same(tmp_path: Path) -> None:
    np.testing.assert_allclose(train(16, amp=True)[:3], train(16)[:3], rtol=0.02)
