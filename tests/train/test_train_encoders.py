# SPDX-License-Identifier: Apache-2.0
"""Encoders: tokens, vectors, saving; a Hugging Face model made on the spot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
tokenizers = pytest.importorskip("tokenizers")

from bigrain.train import encoders  # noqa: E402

torch.set_num_threads(1)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(40))]
TEXTS = ["w1 w2 w3", "", "w9", "w2 w2 unknown w5 w30 w31"]


def make_tokenizer(words: list[str] = WORDS) -> Any:
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("bert")
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=32,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=make_tokenizer(), pad_token="[PAD]", unk_token="[UNK]",
        cls_token="[CLS]", sep_token="[SEP]",
    )  # fmt: skip
    fast.save_pretrained(folder)
    return folder


def make_encoders() -> list[encoders.TextEncoder]:
    torch.manual_seed(0)
    return [
        encoders.StaticEncoder(make_tokenizer(), 8),
        encoders.StaticEncoder(make_tokenizer(), 8, metric="ip", prompts={"query": "w7 "}),
        encoders.TinyTransformer(make_tokenizer(), 16, max_tokens=(4, 6)),
    ]


def test_tokens_are_padded_cut_and_prompted() -> None:
    static, prompted, tiny = make_encoders()
    features = static.tokenize(TEXTS)
    assert features["input_ids"].tolist()[:3] == [
        [5, 6, 7, 0, 0, 0], [1, 0, 0, 0, 0, 0], [13, 0, 0, 0, 0, 0]
    ]  # fmt: skip
    assert features["attention_mask"].sum(1).tolist() == [3, 1, 1, 6]
    assert prompted.tokenize(["w1"])["input_ids"].tolist() == [[11, 5]]
    assert prompted.tokenize(["w1"], "document")["input_ids"].tolist() == [[5]]
    assert tiny.tokenize(TEXTS[3:])["input_ids"].tolist() == [[2, 6, 6, 3]]
    assert tiny.tokenize(TEXTS[3:], "document")["input_ids"].shape == (1, 6)
    assert tiny.tokenize([])["input_ids"].shape == (0, 1)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_vectors_do_not_depend_on_the_batch_and_survive_saving(which: int, tmp_path: Path) -> None:
    encoder = make_encoders()[which]
    encoder.train()
    vectors = encoder.encode_document(TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (4, encoder.dim)
    assert encoder.training
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(encoder.encode_document(TEXTS, 1), vectors, atol=1e-6)
    if encoder.metric == "cosine":
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    encoder.save(tmp_path / "e")
    again = encoders.TextEncoder.load(tmp_path / "e")
    assert type(again) is type(encoder)
    assert (again.metric, again.max_tokens, again.prompts) == (
        encoder.metric, encoder.max_tokens, encoder.prompts
    )  # fmt: skip
    np.testing.assert_array_equal(again.encode_query(TEXTS), encoder.encode_query(TEXTS))


def test_static_vectors_are_means_of_words() -> None:
    encoder = encoders.StaticEncoder(make_tokenizer(), 8, metric="ip")
    table = encoder.words.weight.detach().numpy()
    expected = table[[5, 6, 7]].mean(0)
    np.testing.assert_allclose(encoder.encode_query(TEXTS)[0], expected, atol=1e-6)


def test_another_vocabulary_is_refused(tmp_path: Path) -> None:
    make_encoders()[0].save(tmp_path)
    make_tokenizer([*WORDS[:-2], "other", "words"]).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match="belong to another vocabulary"):
        encoders.TextEncoder.load(tmp_path)
    make_encoders()[0].save(tmp_path)
    header = json.loads((tmp_path / "bigrain_encoder.json").read_text())
    (tmp_path / "bigrain_encoder.json").write_text(json.dumps(header | {"class": "Other"}))
    with pytest.raises(ValueError, match="class 'Other', expected"):
        encoders.TextEncoder.load(tmp_path)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="metric: expected 'cosine' or 'ip'"):
        encoders.StaticEncoder(make_tokenizer(), 8, metric="l2")
    with pytest.raises(TypeError, match="texts: expected a sequence"):
        make_encoders()[0].encode_query("one text")
    with pytest.raises(ValueError, match="pooling"):
        encoders.pool(torch.zeros(1, 2, 3), torch.ones(1, 2), "max")


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_hugging_face_model(bert: Path, tmp_path: Path, pooling: str) -> None:
    encoder = encoders.HFEncoder(bert, pooling=pooling, max_tokens=(8, 8))
    assert (encoder.dim, encoder.metric) == (16, "cosine")
    encoder.eval()
    features = encoder.tokenize(TEXTS)
    assert features["input_ids"][0].tolist() == [2, 5, 6, 7, 3, 0, 0, 0]
    hidden = encoder.model(**features).last_hidden_state[0].detach()
    raw = hidden[:5].mean(0) if pooling == "mean" else hidden[0]
    vectors = encoder.encode_query(TEXTS)
    np.testing.assert_allclose(vectors[0], raw / raw.norm(), atol=1e-6)
    encoder.save(tmp_path)
    again = encoders.TextEncoder.load(tmp_path)
    assert isinstance(again, encoders.HFEncoder)
    assert again.pooling == pooling
    np.testing.assert_allclose(again.encode_query(TEXTS), vectors, atol=1e-6)


def test_pooling_of_a_sentence_transformers_folder(bert: Path, tmp_path: Path) -> None:
    encoders.HFEncoder(bert).save(tmp_path)
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    assert encoders.HFEncoder(tmp_path).pooling == "cls"
    assert encoders.HFEncoder(bert).pooling == "mean"


def test_static_from_a_transformers_word_embeddings(bert: Path) -> None:
    encoder = encoders.StaticEncoder.from_pretrained(bert, 6)
    assert encoder.words.weight.shape == (len(WORDS), 6)
    model = encoders.HFEncoder(bert).model
    table = model.embeddings.word_embeddings.weight.detach()
    table = table - table.mean(0)
    ours = encoder.words.weight.detach()[1:]
    # Principal axes keep lengths as far as six of sixteen can, times the weight of the rank.
    weights = torch.log1p(torch.arange(len(WORDS)))
    lengths = table.norm(dim=1) * weights / weights.mean()
    assert (ours.norm(dim=1) <= lengths[1:] + 1e-5).all()
    assert encoder.encode_query(TEXTS).shape == (4, 6)
    with pytest.raises(ValueError, match="dim: expected 1 to 16, found 17"):
        encoders.StaticEncoder.from_pretrained(bert, 17)
