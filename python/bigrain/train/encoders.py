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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bigrain.eval.collections import StrPath

Features: TypeAlias = dict[str, Tensor]
Kind: TypeAlias = Literal["query", "document"]

# Of MS MARCO's queries and passages in DPR-like training: research code agrees on about these.
QUERY_TOKENS, DOCUMENT_TOKENS = 32, 128
# Token ids are remembered, since training meets each text many times; about 100 bytes apiece.
MEMO = 1_000_000


class TextEncoder(nn.Module):
    """What encoders share; see the module.

    Args:
        tokenizer: a `tokenizers.Tokenizer`, or the path of a `tokenizer.json` or its folder.
        dim: of the vectors.
        metric: "cosine" for unit vectors, else "ip".
        max_tokens: longest query and document; what is longer is cut.
        prompts: put in front of texts, by kind.
        special: whether the tokenizer adds its special tokens, as [CLS].

    Attributes:
        amp: encode_query and encode_document compute in bfloat16; off unless set.
    """

    amp = False

    def __init__(
        self,
        tokenizer: Any,
        dim: int,
        metric: str,
        *,
        max_tokens: tuple[int, int] = (QUERY_TOKENS, DOCUMENT_TOKENS),
        prompts: Mapping[str, str] | None = None,
        special: bool = True,
    ) -> None:
        super().__init__()
        if metric not in {"cosine", "ip"}:
            raise ValueError(f"metric: expected 'cosine' or 'ip', found {metric!r}")
        self.tokenizer = _open_tokenizer(tokenizer)
        self.dim, self.metric = dim, metric
        self.max_tokens = {"query": max_tokens[0], "document": max_tokens[1]}
        self.prompts = {"query": "", "document": "", **(prompts or {})}
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
        return {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask.astype(np.int64)),
        }

    def encode_query(self, texts: Sequence[str], batch_size: int = 256) -> npt.NDArray[np.float32]:
        """Return (n, dim) float32, without gradients or dropout."""
        return self._encode(texts, "query", batch_size)

    def encode_document(
        self, texts: Sequence[str], batch_size: int = 256
    ) -> npt.NDArray[np.float32]:
        """Return (n, dim) float32, without gradients or dropout."""
        return self._encode(texts, "document", batch_size)

    def save(self, path: StrPath) -> None:
        """Write the folder `path`: header, tokenizer and weights."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save(str(folder / "tokenizer.json"))
        self._save_weights(folder)
        header = {
            "class": type(self).__name__,
            "dim": self.dim,
            "metric": self.metric,
            "tokenizer_sha256": _hash(self.tokenizer),
            "max_tokens": list(self.max_tokens.values()),
            "prompts": self.prompts,
            "config": self._config(),
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
        if (found := _hash(tokenizer)) != header["tokenizer_sha256"]:
            raise ValueError(
                f"{folder}: expected the tokenizer with hash {header['tokenizer_sha256'][:12]}, "
                f"found {found[:12]}; the weights belong to another vocabulary"
            )
        classes = {c.__name__: c for c in (StaticEncoder, TinyTransformer, HFEncoder)}
        if header["class"] not in classes:
            raise ValueError(f"{folder}: class {header['class']!r}, expected {list(classes)}")
        encoder = classes[header["class"]](
            folder if header["class"] == "HFEncoder" else tokenizer,
            max_tokens=tuple(header["max_tokens"]),
            prompts=header["prompts"],
            **header["config"],
        )
        encoder._load_weights(folder)
        return encoder

    def _config(self) -> dict[str, Any]:
        return {"dim": self.dim, "metric": self.metric}

    def _save_weights(self, folder: Path) -> None:
        torch.save(self.state_dict(), folder / "weights.pt")

    def _load_weights(self, folder: Path) -> None:
        self.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))

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

    def _encode(self, texts: Sequence[str], kind: Kind, batch: int) -> npt.NDArray[np.float32]:
        if isinstance(texts, str):
            raise TypeError("texts: expected a sequence of strings, found one string; pass [text]")
        out = np.empty((len(texts), self.dim), np.float32)
        # By length, so that little is padding; characters stand in for tokens.
        order = np.argsort([len(text) for text in texts], kind="stable")
        device = next(self.parameters()).device
        cast = torch.autocast(device.type, torch.bfloat16, enabled=self.amp)
        with evaluating(self), torch.no_grad(), cast:
            for start in range(0, len(order), batch):
                rows = order[start : start + batch]
                features = self.tokenize([texts[i] for i in rows], kind)
                vectors = self({name: value.to(device) for name, value in features.items()})
                out[rows] = vectors.float().cpu().numpy()
        return out

    def _finish(self, vectors: Tensor) -> Tensor:
        return nn.functional.normalize(vectors, dim=-1) if self.metric == "cosine" else vectors


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
        super().__init__(
            tokenizer, dim, settings.pop("metric", "cosine"), special=False, **settings
        )
        rows = max(self.tokenizer.get_vocab_size(), self._pad + 1)
        first = torch.zeros(rows, dim) if table is None else table
        self.words = nn.EmbeddingBag(rows, dim, mode="mean", padding_idx=self._pad)
        self.out = nn.Linear(dim, dim)
        with torch.no_grad():
            if table is None:
                first.normal_(std=dim**-0.5)
            self.words.weight[: len(first)] = first
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
            if len(names) != 1:
                raise ValueError(f"{folder}: expected one tensor named *{ends}, found {names}")
            table = file.get_tensor(names[0]).float()
        if not 1 <= dim <= table.shape[1]:
            raise ValueError(f"dim: expected 1 to {table.shape[1]}, found {dim}")
        table = table - table.mean(0)
        axes = torch.linalg.eigh(table.T @ table)[1].flip(1)[:, :dim]
        weights = torch.log1p(torch.arange(len(table), dtype=torch.float32))[:, None]
        return cls(folder, dim, table=table @ axes * weights / weights.mean(), **settings)

    def forward(self, features: Features) -> Tensor:
        """Return (n, dim) vectors of (n, L) `input_ids`."""
        vectors: Tensor = self.out(self.words(features["input_ids"]))
        return self._finish(vectors)


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
        metric: str = "cosine",
        **settings: Any,
    ) -> None:
        super().__init__(tokenizer, dim, metric, **settings)
        self._shape = {"layers": layers, "heads": heads, "dropout": dropout}
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

    def _config(self) -> dict[str, Any]:
        return super()._config() | self._shape


class HFEncoder(TextEncoder):
    """Any encoder that `transformers.AutoModel` opens, sentence-transformers folders included.

    Args:
        name: folder, or a name that transformers knows.
        pooling: "mean" or "cls"; None takes what a sentence-transformers folder says, else "mean".
        metric: "cosine" normalises the vectors, "ip" leaves them.
        max_tokens, prompts: as for every encoder.
    """

    def __init__(
        self,
        name: StrPath,
        *,
        pooling: str | None = None,
        metric: str = "cosine",
        **settings: Any,
    ) -> None:
        from transformers import AutoModel, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(str(name))
        if not hasattr(tokenizer, "backend_tokenizer"):
            raise ValueError(f"name: {name} has no fast tokenizer, which is needed here")
        model = AutoModel.from_pretrained(str(name))
        super().__init__(tokenizer.backend_tokenizer, model.config.hidden_size, metric, **settings)
        self.model, self._full_tokenizer = model, tokenizer
        said = Path(name) / "1_Pooling" / "config.json"
        if pooling is None and said.is_file():
            pooling = (
                "cls" if json.loads(said.read_text()).get("pooling_mode_cls_token") else "mean"
            )
        self.pooling = pooling or "mean"

    def forward(self, features: Features) -> Tensor:
        """Return (n, dim) vectors of (n, L) `input_ids` and `attention_mask`."""
        mask = features["attention_mask"]
        hidden = self.model(input_ids=features["input_ids"], attention_mask=mask)
        return self._finish(pool(hidden.last_hidden_state, mask, self.pooling))

    def _config(self) -> dict[str, Any]:
        return {"metric": self.metric, "pooling": self.pooling}

    def _save_weights(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
        self._full_tokenizer.save_pretrained(folder)
        self.tokenizer.save(str(folder / "tokenizer.json"))

    def _load_weights(self, folder: Path) -> None:
        """Nothing: the constructor opened them."""


def pool(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Return (n, d) of (n, L, d) token vectors: the first token's, or the mean under the mask."""
    if pooling == "cls":
        return hidden[:, 0]
    if pooling != "mean":
        raise ValueError(f"pooling: expected 'mean' or 'cls', found {pooling!r}")
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Switch a module to evaluation, and back to what it was."""
    was = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was)


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
    names = [tokenizer.token_to_id(name) for name in ("[PAD]", "<pad>")]
    found = [id_ for id_ in (padding, *names) if id_ is not None]
    unknown = [tokenizer.token_to_id(name) for name in ("[UNK]", "<unk>")]
    return (
        found[0] if found else tokenizer.get_vocab_size(),
        next((id_ for id_ in unknown if id_ is not None), 0),
    )


def _hash(tokenizer: Any) -> str:
    """SHA-256 of all that decides ids: everything but truncation and padding, which vary here."""
    parts = json.loads(tokenizer.to_str()) | {"truncation": None, "padding": None}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
