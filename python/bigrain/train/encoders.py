# SPDX-License-Identifier: Apache-2.0
"""Texts to vectors: a table of words, a small transformer, any Hugging Face model.

All share one face: `tokenize(texts, kind)` gives tensors, `forward(features)` vectors with
gradients, `encode_query` and `encode_document` numpy arrays, `save` and `load` a folder whose
header holds the metric, the dimension and the tokenizer's hash, since vectors of another metric or
vocabulary are wrong without any error. Tokenizers and backbones are Hugging Face's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bigrain._checks import require, require_choice
from bigrain.eval.collections import StrPath

Features: TypeAlias = dict[str, Tensor]
Vectors: TypeAlias = npt.NDArray[np.float32]
Kind: TypeAlias = Literal["query", "document"]

# Of MS MARCO's queries and passages in DPR-like training: research code agrees on about these.
QUERY_TOKENS, DOCUMENT_TOKENS = 32, 128
# Token ids are remembered, since training meets each text many times; about 100 bytes apiece.
MEMO = 1_000_000


class Encoder(nn.Module):
    """Numpy arrays out of what a subclass makes of texts by `tokenize` and `forward`.

    Attributes:
        dim: of the vectors; metric: "cosine" (of unit length) or "ip".
        amp: encode_query and encode_document compute in bfloat16; off unless set.
    """

    dim: int
    metric: str
    amp = False

    def tokenize(self, texts: Sequence[str], kind: Kind = "query") -> Features:
        """Return what `forward` takes."""
        raise NotImplementedError

    def encode_query(self, texts: Sequence[str], batch_size: int = 256) -> Vectors:
        """Return (n, dim) float32, without gradients or dropout."""
        return self._encode(texts, "query", batch_size)

    def encode_document(self, texts: Sequence[str], batch_size: int = 256) -> Vectors:
        """Return (n, dim) float32, without gradients or dropout."""
        return self._encode(texts, "document", batch_size)

    def _encode(self, texts: Sequence[str], kind: Kind, batch: int) -> Vectors:
        if isinstance(texts, str):
            raise TypeError("texts: expected a sequence of strings, found one string; pass [text]")
        out = np.empty((len(texts), self.dim), np.float32)
        # By length, so that little is padding; characters stand in for tokens.
        order = np.argsort([len(text) for text in texts], kind="stable")
        device, was = next(self.parameters()).device, self.training
        try:
            self.eval()
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=self.amp):
                for start in range(0, len(order), batch):
                    rows = order[start : start + batch]
                    features = self.tokenize([texts[i] for i in rows], kind)
                    vectors = self({name: value.to(device) for name, value in features.items()})
                    out[rows] = vectors.float().cpu().numpy()
        finally:
            self.train(was)
        return out

    def _finish(self, vectors: Tensor) -> Tensor:
        return nn.functional.normalize(vectors, dim=-1) if self.metric == "cosine" else vectors


class TextEncoder(Encoder):
    """What the encoders here share; see the module.

    Args:
        tokenizer: a `tokenizers.Tokenizer`, or the path of a `tokenizer.json` or its folder.
        dim: of the vectors.
        metric: "cosine" for unit vectors, else "ip".
        max_tokens: longest query and document; what is longer is cut.
        prompts: put in front of texts, by kind.
        special: whether the tokenizer adds its special tokens, as [CLS].
    """

    def __init__(
        self,
        tokenizer: Any,
        dim: int,
        metric: str = "cosine",
        *,
        max_tokens: tuple[int, int] = (QUERY_TOKENS, DOCUMENT_TOKENS),
        prompts: Mapping[str, str] | None = None,
        special: bool = True,
    ) -> None:
        super().__init__()
        require_choice(metric, "metric", "cosine", "ip")
        self.tokenizer = _open_tokenizer(tokenizer)
        self.dim, self.metric = dim, metric
        self.max_tokens = {"query": max_tokens[0], "document": max_tokens[1]}
        self.prompts = {"query": "", "document": "", **(prompts or {})}
        self._config: dict[str, Any] = {}  # what a class takes besides
        self._special = special
        self._pad, self._unknown = _special_ids(self.tokenizer)
        self._memo: dict[tuple[str, str], npt.NDArray[np.int32]] = {}

    def tokenize(self, texts: Sequence[str], kind: Kind = "query") -> Features:
        """Return `input_ids` and `attention_mask`, (n, L) int64, L the longest text's tokens."""
        rows = self._ids(texts, kind)
        lengths = np.array([len(row) for row in rows], np.int64)
        mask = np.arange(lengths.max(initial=1)) < lengths[:, None]
        ids = np.full(mask.shape, self._pad, np.int64)
        if len(rows):
            ids[mask] = np.concatenate(rows)
        features = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
        return {name: torch.from_numpy(array) for name, array in features.items()}

    def save(self, path: StrPath) -> None:
        """Write the folder `path`: header, tokenizer and weights."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        self._save_weights(folder)
        self.tokenizer.save(str(folder / "tokenizer.json"))
        settings: dict[str, Any] = {"metric": self.metric, "prompts": self.prompts}
        settings["max_tokens"] = list(self.max_tokens.values())
        header = {
            "class": type(self).__name__,
            "dim": self.dim,
            "metric": self.metric,
            "tokenizer_sha256": _hash(self.tokenizer),
            "config": settings | self._config,
        }
        (folder / "bigrain_encoder.json").write_text(json.dumps(header, indent=1) + "\n")

    @staticmethod
    def load(path: StrPath) -> TextEncoder:
        """Open what `save` wrote, whichever class it was.

        Raises:
            ValueError: the folder's tokenizer is not the one that the encoder was saved with, or
                the class is unknown.
        """
        folder = Path(path)
        header = json.loads((folder / "bigrain_encoder.json").read_text())
        tokenizer = _open_tokenizer(folder)
        found, wanted = _hash(tokenizer), header["tokenizer_sha256"]
        expected = f"the tokenizer with hash {wanted[:12]}"
        advice = "the weights belong to another vocabulary"
        require(found == wanted, str(folder), expected, found[:12], advice)
        classes = {c.__name__: c for c in (StaticEncoder, TinyTransformer, HFEncoder)}
        name = header["class"]
        if name not in classes:
            raise ValueError(f"{folder}: class {name!r}, expected {list(classes)}")
        source = folder if name == "HFEncoder" else tokenizer
        encoder = classes[name](source, **header["config"])
        if name != "HFEncoder":  # which has opened its own
            encoder.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
        return encoder

    def _save_weights(self, folder: Path) -> None:
        torch.save(self.state_dict(), folder / "weights.pt")

    def _ids(self, texts: Sequence[str], kind: Kind) -> list[npt.NDArray[np.int32]]:
        new = [text for text in dict.fromkeys(texts) if (kind, text) not in self._memo]
        if len(self._memo) + len(new) > MEMO:
            self._memo, new = {}, list(dict.fromkeys(texts))
        if new:
            self.tokenizer.enable_truncation(self.max_tokens[kind])
            prompted = [self.prompts[kind] + text for text in new]
            done = self.tokenizer.encode_batch_fast(prompted, add_special_tokens=self._special)
            for text, encoding in zip(new, done, strict=True):
                self._memo[kind, text] = np.array(encoding.ids or [self._unknown], np.int32)
        return [self._memo[kind, text] for text in texts]


class StaticEncoder(TextEncoder):
    """Mean of a table's word vectors, a linear layer, unit length: a step takes milliseconds.

    Args:
        tokenizer: as for every encoder.
        dim: of the table and of the vectors.
        table: (V, dim) first values; None draws them from N(0, 1/dim).
        metric, max_tokens, prompts: as for every encoder.
    """

    def __init__(
        self, tokenizer: Any, dim: int = 128, *, table: Tensor | None = None, **settings: Any
    ) -> None:
        super().__init__(tokenizer, dim, special=False, **settings)
        self._config["dim"] = dim
        rows = max(self.tokenizer.get_vocab_size(), self._pad + 1)
        self.words = nn.EmbeddingBag(rows, dim, mode="mean", padding_idx=self._pad)
        self.out = nn.Linear(dim, dim)
        with torch.no_grad():
            if table is None:
                table = torch.zeros(rows, dim).normal_(std=dim**-0.5)
            self.words.weight[: len(table)] = table
            self.words.weight[self._pad] = 0
            nn.init.eye_(self.out.weight)
            self.out.bias.zero_()

    @classmethod
    def from_pretrained(cls, folder: StrPath, dim: int = 128, **settings: Any) -> StaticEncoder:
        """Start from a transformer's word embeddings: centred, cut to `dim` principal components.

        Each row is scaled by log(1 + its place in the vocabulary): vocabularies are ordered by
        frequency, and frequent words say little (SIF of Arora et al., ICLR 2017, with the rank in
        place of the frequency).
        """
        from safetensors import safe_open

        with safe_open(str(Path(folder) / "model.safetensors"), "pt") as file:
            ends = ("word_embeddings.weight", "embed_tokens.weight", "wte.weight")
            names = [name for name in list(file.keys()) if name.endswith(ends)]
            require(len(names) == 1, str(folder), f"one tensor named *{ends}", names)
            table = file.get_tensor(names[0]).float()
        require(1 <= dim <= table.shape[1], "dim", f"1 to {table.shape[1]}", dim)
        table = table - table.mean(0)
        axes = torch.linalg.eigh(table.T @ table)[1].flip(1)[:, :dim]
        weights = torch.log1p(torch.arange(len(table), dtype=torch.float32))[:, None]
        return cls(folder, dim, table=table @ axes * weights / weights.mean(), **settings)

    def forward(self, features: Features) -> Tensor:
        """Return (n, dim) vectors of (n, L) `input_ids`."""
        return self._finish(self.out(self.words(features["input_ids"])))


class TinyTransformer(TextEncoder):
    """A transformer small enough to train from nothing on a CPU; mean of the last layer's tokens.

    Args:
        tokenizer: as for every encoder.
        dim: width of layers and vectors.
        layers, heads, dropout: of the stack; four times `dim` inside.
        metric, max_tokens, prompts: as for every encoder.
    """

    def __init__(
        self,
        tokenizer: Any,
        dim: int = 128,
        *,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        **settings: Any,
    ) -> None:
        super().__init__(tokenizer, dim, **settings)
        self._config |= {"dim": dim, "layers": layers, "heads": heads, "dropout": dropout}
        rows = max(self.tokenizer.get_vocab_size(), self._pad + 1)
        self.words = nn.Embedding(rows, dim, padding_idx=self._pad)
        self.places = nn.Embedding(max(self.max_tokens.values()), dim)
        layer = nn.TransformerEncoderLayer(
            dim, heads, 4 * dim, dropout, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(
            layer, layers, nn.LayerNorm(dim), enable_nested_tensor=False
        )

    def forward(self, features: Features) -> Tensor:
        """Return (n, dim) vectors of (n, L) `input_ids` and `attention_mask`."""
        ids, mask = features["input_ids"], features["attention_mask"]
        x = self.words(ids) + self.places.weight[: ids.shape[1]]
        x = self.layers(x, src_key_padding_mask=mask == 0)
        return self._finish(pool(x, mask, "mean"))


class HFEncoder(TextEncoder):
    """Any encoder that `transformers.AutoModel` opens, sentence-transformers folders included.

    Args:
        name: folder, or a name that transformers knows.
        pooling: "mean" or "cls"; None takes what a sentence-transformers folder says, else "mean".
        metric: "cosine" normalises the vectors, "ip" leaves them.
        max_tokens, prompts: as for every encoder.
    """

    def __init__(self, name: StrPath, *, pooling: str | None = None, **settings: Any) -> None:
        from transformers import AutoModel, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(str(name))
        if not hasattr(tokenizer, "backend_tokenizer"):
            raise ValueError(f"name: {name} has no fast tokenizer, which is needed here")
        model = AutoModel.from_pretrained(str(name))
        super().__init__(tokenizer.backend_tokenizer, model.config.hidden_size, **settings)
        self.model, self._full_tokenizer = model, tokenizer
        said = Path(name) / "1_Pooling" / "config.json"
        if pooling is None and said.is_file():
            first = json.loads(said.read_text()).get("pooling_mode_cls_token")
            pooling = "cls" if first else "mean"
        self.pooling = self._config["pooling"] = pooling or "mean"

    def forward(self, features: Features) -> Tensor:
        """Return (n, dim) vectors of (n, L) `input_ids` and `attention_mask`."""
        mask = features["attention_mask"]
        hidden = self.model(input_ids=features["input_ids"], attention_mask=mask)
        return self._finish(pool(hidden.last_hidden_state, mask, self.pooling))

    def _save_weights(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
        self._full_tokenizer.save_pretrained(folder)


def pool(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Return (n, d) of (n, L, d) token vectors: the first token's, or the mean under the mask."""
    require_choice(pooling, "pooling", "mean", "cls")
    if pooling == "cls":
        return hidden[:, 0]
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


def _open_tokenizer(value: Any) -> Any:
    if not isinstance(value, str | Path):
        # A copy: truncation and padding are set below, and the caller's object is not ours.
        return type(value).from_str(value.to_str())
    from tokenizers import Tokenizer

    path = Path(value)
    return Tokenizer.from_file(str(path / "tokenizer.json" if path.is_dir() else path))


def _special_ids(tokenizer: Any) -> tuple[int, int]:
    """Return the ids of padding (one past the vocabulary if it has none) and of unknown words."""
    padding = (tokenizer.padding or {}).get("pad_id")
    tokenizer.no_padding()
    pads = [padding, *map(tokenizer.token_to_id, ("[PAD]", "<pad>")), tokenizer.get_vocab_size()]
    unknown = [*map(tokenizer.token_to_id, ("[UNK]", "<unk>")), 0]
    first, second = (next(i for i in ids if i is not None) for ids in (pads, unknown))
    return first, second


def _hash(tokenizer: Any) -> str:
    """SHA-256 of all that decides ids: everything but truncation and padding, which vary here."""
    parts = json.loads(tokenizer.to_str()) | {"truncation": None, "padding": None}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
