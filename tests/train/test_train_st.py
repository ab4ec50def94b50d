# SPDX-License-Identifier: Apache-2.0
"""sentence-transformers and transformers drive our losses and the refresher; recipes."""

from __future__ import annotations

import functools
import json
import re
import runpy
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

from bigrain.train import __main__ as command  # noqa: E402
from bigrain.train import losses  # noqa: E402
from bigrain.train.data import TrainingSet  # noqa: E402
from bigrain.train.encoders import TextEncoder  # noqa: E402
from bigrain.train.negatives import AnceRefresher  # noqa: E402
from bigrain.train.st import AnceCallback, LiveColumns, StEncoder, StLoss, token_ids  # noqa: E402
from bigrain.train.trainer import fit, on_scores  # noqa: E402

torch.set_num_threads(1)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(60))]


def make_data(n: int = 32, negatives: int = 1) -> TrainingSet:
    rng = np.random.default_rng(0)
    documents = [" ".join(rng.choice(WORDS[4:], 6)) for _ in range(n)]
    queries = [" ".join(rng.choice(text.split(), 3)) for text in documents]
    rows = np.arange(n)
    hard = (rows[:, None] + np.arange(1, 1 + negatives)) % n if negatives else None
    return TrainingSet(queries, documents, rows, hard)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT and its tokenizer."""
    path = tmp_path_factory.mktemp("bert")
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=32,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(path)
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", model_max_length=32,
    ).save_pretrained(path)  # fmt: skip
    return path


@pytest.fixture
def model(folder: Path) -> Any:
    """A SentenceTransformer with mean pooling."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sentence_transformers = pytest.importorskip("sentence_transformers")
        return sentence_transformers.SentenceTransformer(str(folder), device="cpu")


def test_wrapped_model_encodes_trains_and_saves(model: Any, tmp_path: Path) -> None:
    encoder, data = StEncoder(model), make_data()
    assert (encoder.dim, encoder.metric) == (16, "cosine")
    encoder.eval()
    expected = encoder(encoder.tokenize(data.documents, "document")).detach()
    np.testing.assert_allclose(encoder.encode_document(data.documents), expected, atol=1e-5)
    loss = functools.partial(losses.contrastive, tau=0.1)
    result = fit(encoder, data, loss=loss, steps=25, batch_size=8, lr=0.01)
    assert result["loss"] < 0.7 * result["losses"][0]
    encoder.save(tmp_path / "st")
    again = StEncoder.load(tmp_path / "st")
    assert (
        np.abs(again.encode_query(data.queries) - encoder.encode_query(data.queries)).max() < 1e-5
    )


def test_loss_equals_sentence_transformers_own(model: Any) -> None:
    from sentence_transformers.sentence_transformer import losses as theirs

    data = make_data(8)
    assert data.negatives is not None
    texts = [data.queries, data.documents, [data.documents[i] for i in data.negatives[:, 0]]]
    model.eval()
    features = [model.preprocess(column) for column in texts]
    ours = StLoss(model, functools.partial(losses.contrastive, tau=0.05))
    embeddings = [model(dict(column))["sentence_embedding"] for column in features]
    reference = theirs.MultipleNegativesRankingLoss(model, scale=20)
    # Documents come twice, as positive and as negative: only without ids are they the same.
    own, expected = ours.from_embeddings(embeddings), reference(features, None)
    assert own.item() == pytest.approx(expected.item(), rel=1e-5)
    assert ours(features).item() < own.item()
    labels = torch.rand(8, 2)
    margin = StLoss(model, on_scores(losses.margin_mse), normalize=False)
    assert margin(features, labels).item() == pytest.approx(
        theirs.MarginMSELoss(model)(features, labels).item(), rel=1e-5
    )


def test_token_ids_are_equal_for_equal_texts_whatever_the_padding() -> None:
    ids = torch.tensor([[5, 6, 0], [5, 6, 7], [6, 5, 0], [5, 6, 0]])
    mask = (ids > 0).long()
    found = token_ids({"input_ids": ids, "attention_mask": mask})
    assert found[0] == found[3]
    assert len(set(found.tolist())) == 3
    assert (found >= 0).all()
    wide = torch.nn.functional.pad(ids, (0, 40)), torch.nn.functional.pad(mask, (0, 40))
    torch.testing.assert_close(token_ids({"input_ids": wide[0], "attention_mask": wide[1]}), found)


def test_scores_of_a_teacher_reach_the_losses() -> None:
    torch.manual_seed(0)
    q, p, n = torch.randn(3, 4), torch.randn(3, 4), torch.randn(3, 2, 4)
    student = torch.cat([(q * p).sum(1, keepdim=True), torch.einsum("bd,bhd->bh", q, n)], 1)
    teacher, n_ids = torch.randn(3, 3), torch.tensor([[1, 2], [3, -1], [4, 5]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 1]]).bool()
    found = on_scores(losses.kd_kl, tau_s=2.0)(q, p, n, n_ids=n_ids, scores=teacher)
    torch.testing.assert_close(found, losses.kd_kl(student, teacher, tau_s=2.0, mask=mask))
    found = on_scores(losses.triplet_hinge)(q, p, n)
    torch.testing.assert_close(found, losses.triplet_hinge(student[:, 0], student[:, 1:]))
    found = on_scores(losses.margin_mse)(q, p, n, scores=teacher)
    expected = losses.margin_mse(student[:, 0], student[:, 1:], teacher[:, 0], teacher[:, 1:])
    torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match="a teacher's scores"):
        on_scores(losses.kd_listnet)(q, p, n)


def trainer_state(step: int) -> Any:
    return types.SimpleNamespace(global_step=step, max_steps=9, is_world_process_zero=True)


def test_callback_refreshes_columns_and_keeps_them_with_checkpoints(
    model: Any, tmp_path: Path
) -> None:
    data, args = make_data(negatives=0), types.SimpleNamespace(output_dir=str(tmp_path))

    def make() -> AnceCallback:
        refresher = AnceRefresher(3, topk=8, exact=True)
        return AnceCallback(refresher, StEncoder(model), LiveColumns(data))

    callback = make()
    assert list(callback.columns[0]) == ["query", "positive"]
    callback.on_train_begin(args, trainer_state(0), None)
    first = callback.columns.data.negatives
    for step in (1, 2, 3):
        callback.on_step_end(args, trainer_state(step), None)
    second = callback.columns.data.negatives
    assert first is not None
    assert second is not None
    assert (first != second).any()
    rows = callback.columns.transform({"row": [4, 2]})
    assert rows["negative_1"] == [data.documents[second[4, 0]], data.documents[second[2, 0]]]
    (tmp_path / "checkpoint-3").mkdir()
    callback.on_save(args, trainer_state(3), None)
    again = make()
    again.on_train_begin(args, trainer_state(3), None)
    np.testing.assert_array_equal(again.columns.data.negatives, second)


def test_trainer_of_sentence_transformers_refreshes(model: Any, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import (
            SentenceTransformerTrainer,
            SentenceTransformerTrainingArguments,
        )

        data = make_data(negatives=0)
        columns = LiveColumns(data)
        refresher = AnceRefresher(2, topk=8, exact=True)
        callback = AnceCallback(refresher, StEncoder(model), columns)
        callback.on_train_begin(types.SimpleNamespace(output_dir="-"), trainer_state(0), None)
        dataset = datasets.Dataset.from_dict({"row": list(range(len(data)))})
        arguments = SentenceTransformerTrainingArguments(
            str(tmp_path), max_steps=6, per_device_train_batch_size=8, report_to=[],
            learning_rate=0.01, use_cpu=True, disable_tqdm=True, save_strategy="no",
        )  # fmt: skip
        loss = StLoss(model, functools.partial(losses.contrastive, tau=0.1))
        trainer = SentenceTransformerTrainer(
            model, arguments, dataset.with_transform(columns.transform), loss=loss,
            callbacks=[callback],
        )  # fmt: skip
        trainer.train()
    assert callback.refresher.state_dict()["version"] == 6
    assert columns.data.negatives is not None


def test_a_recipe_trains_and_saves(folder: Path, tmp_path: Path, capsys: Any) -> None:
    if sys.version_info < (3, 11):
        pytest.skip("recipes need tomllib")
    data = make_data(negatives=0)
    rows = [
        {"query": q, "positive": data.documents[p]}
        for q, p in zip(data.queries, data.positives, strict=True)
    ]
    (tmp_path / "pairs").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'[data]\njsonl = "{tmp_path}/pairs"\n[encoder]\nkind = "static"\nname = "{folder}"\n'
        'dim = 8\n[loss]\nname = "contrastive"\ntau = 0.1\n[negatives]\nevery = 4\ntopk = 5\n'
        'exact = true\n[fit]\nsteps = 6\nbatch_size = 8\nlr = 0.01\n'
        f'[out]\nfolder = "{tmp_path}/out"\n'
    )  # fmt: skip
    assert command.main([str(recipe)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["steps"] == 6
    assert TextEncoder.load(printed["encoder"]).dim == 8
    assert len((tmp_path / "out" / "log.jsonl").read_text().splitlines()) == 6
    with pytest.raises(ValueError, match=r"unknown sections \['fits'\], missing \['fit'\]"):
        command.run({"data": {}, "encoder": {}, "loss": {}, "fits": {}, "out": {}})
    for name in ("_gap", "Tensor", "none"):
        with pytest.raises(ValueError, match="is not a function of"):
            command._loss(name)


def test_the_guides_example_runs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    guide = Path(__file__).parents[2] / "docs" / "training.md"
    found = re.search(r"```python\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    code = found[1].replace("steps=1000", "steps=4").replace("batch_size=64", "batch_size=8")
    data, texts = make_data(negatives=0), tmp_path / "texts" / "scifact"
    texts.mkdir(parents=True)
    for name, column in (("corpus", data.documents), ("queries", data.queries)):
        lines = [json.dumps({"_id": str(i), "text": text}) for i, text in enumerate(column)]
        (texts / f"{name}.jsonl").write_text("\n".join(lines))
    for name in ("train", "test"):
        (texts / f"qrels-{name}.tsv").write_text("".join(f"{i}\t{i}\t1\n" for i in range(32)))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "all-MiniLM-L6-v2").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(guide), "exec"), {})
    assert "'recall@100': 1.0" in capsys.readouterr().out
    assert TextEncoder.load("out/encoder").dim == 16


def test_the_worked_example_runs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    path = Path(__file__).parents[2] / "examples" / "finetune_minilm.py"
    data = make_data(400, negatives=0)
    queries = [f"{query} w{i % 60}" for i, query in enumerate(data.queries)]
    for name, column in (("corpus", data.documents), ("queries", queries)):
        lines = [json.dumps({"_id": str(i), "text": text}) for i, text in enumerate(column)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    for name, rows in (("qrels", range(300)), ("qrels-test", range(300, 400))):
        (tmp_path / f"{name}.tsv").write_text("".join(f"{i}\t{i}\t1\n" for i in rows))
    options = ["--documents", "380", "--pairs", "260", "--steps", "4", "--batch", "8"]
    options += ["--refresh", "3", "--topk", "9", "--bytes", "2"]
    places = ["--texts", str(tmp_path), "--model", str(folder), "--work", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [str(path), *places, *options])
    runpy.run_path(str(path), run_name="__main__")
    printed = capsys.readouterr().out
    assert "380 documents, 260 pairs, 100 held out" in printed
    assert printed.count("ndcg@10: ") == 2
    assert (tmp_path / "out" / "index.bigrain").exists()
