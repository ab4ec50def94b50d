# SPDX-License-Identifier: Apache-2.0
"""sentence-transformers with these losses, this refresher and this index; needs transformers.

`StLoss` is a loss for SentenceTransformerTrainer, `StEncoder` lets `fit`, the miners and `Index`
use a SentenceTransformer, and `AnceCallback` refreshes hard negatives while the Trainer trains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from bigrain._checks import require
from bigrain.eval.collections import StrPath
from bigrain.train.data import TrainingSet
from bigrain.train.encoders import Encoder, Features, Kind, Vectors
from bigrain.train.trainer import State, named_by

# Knuth's multiplier (MMIX): odd, so that no token is lost to the powers of 2^64.
_MULTIPLIER = 6364136223846793005


class StEncoder(Encoder):
    """A SentenceTransformer with the face of `bigrain.train.encoders`.

    Args:
        model: the SentenceTransformer; trained in place.
        metric: "cosine" or "ip"; None: "cosine" unless the model says that it compares by dot.
    """

    def __init__(self, model: Any, metric: str | None = None) -> None:
        super().__init__()
        self.model = model
        self.dim = int(model.get_embedding_dimension())
        self.metric = metric or ("ip" if model.similarity_fn_name == "dot" else "cosine")

    def tokenize(self, texts: Sequence[str], kind: Kind = "query") -> Features:
        """Return the model's features of texts, with its prompt for the kind if it has one."""
        features = self.model.preprocess(list(texts), prompt=self.model.prompts.get(kind))
        return {k: v for k, v in features.items() if isinstance(v, Tensor)}

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Return (n, dim) vectors; of unit length where the metric is "cosine"."""
        return self._finish(self.model(dict(features))["sentence_embedding"])

    def save(self, path: StrPath) -> None:
        """Write the model as sentence-transformers does."""
        self.model.save(str(path))

    @staticmethod
    def load(path: StrPath) -> StEncoder:
        """Open a sentence-transformers folder."""
        from sentence_transformers import SentenceTransformer

        return StEncoder(SentenceTransformer(str(path)))

    def _encode(self, texts: Sequence[str], kind: Kind, batch: int) -> Vectors:
        encode = self.model.encode_query if kind == "query" else self.model.encode_document
        unit, was = self.metric == "cosine", self.model.training
        found = encode(
            list(texts), batch_size=batch, show_progress_bar=False, normalize_embeddings=unit
        )
        self.model.train(was)
        return np.asarray(found, np.float32)


class StLoss(nn.Module):
    """Any loss that `fit` takes, for SentenceTransformerTrainer.

    Args:
        model: the SentenceTransformer that the trainer trains.
        loss: loss(q, p, n, ...) as for `fit`, such as `contrastive` or `on_scores(margin_mse)`.
        normalize: bring embeddings to unit length first, for temperatures of cosines.
        group: ranks that share columns.

    Columns of the data set: query, positive, negative_1 ... negative_n, and a label or score
    column for teachers' scores, (1 + n) numbers per row. Equal texts count as one document, and
    equal queries as one query, by hashes of their tokens.
    """

    def __init__(
        self, model: Any, loss: Callable[..., Tensor], *, normalize: bool = True, group: Any = None
    ) -> None:
        super().__init__()
        self.model, self.loss, self.normalize, self.group = model, loss, normalize, group
        self._named = named_by(loss)

    def forward(
        self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None = None
    ) -> Tensor:
        """Return the loss of one dict of features per column."""
        columns = list(sentence_features)
        embeddings = [self.model(column)["sentence_embedding"] for column in columns]
        return self.from_embeddings(embeddings, labels, [token_ids(column) for column in columns])

    def from_embeddings(
        self,
        embeddings: Sequence[Tensor],
        labels: Tensor | None = None,
        ids: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Return the loss of one (b, dim) tensor per column; `ids` (b,) int64 per column."""
        require(len(embeddings) >= 2, "columns", "query, positive, ...", len(embeddings))
        if self.normalize:
            embeddings = [nn.functional.normalize(e.float(), dim=-1) for e in embeddings]
        q, p, *others = embeddings
        n = torch.stack(others, 1) if others else None
        offered: dict[str, Any] = {"group": self.group, "rows": None, "scores": labels}
        if ids is not None:
            hard = torch.stack(list(ids[2:]), 1) if others else None
            offered |= {"q_ids": ids[0], "p_ids": ids[1], "n_ids": hard}
        return self.loss(q, p, n, **{k: v for k, v in offered.items() if k in self._named})


def token_ids(features: Mapping[str, Tensor]) -> Tensor:
    """Return (n,) int64 at least 0, equal for equal texts, on every rank and for any padding.

    A polynomial hash of the tokens modulo 2^63; without `input_ids` every row is its own.
    """
    require("input_ids" in features, "features", "input_ids", list(features))
    tokens = (features["input_ids"] + 1) * features["attention_mask"]
    powers = torch.full_like(tokens[:1], _MULTIPLIER).cumprod(1)  # modulo 2^64
    return (tokens * powers).sum(1) & (2**63 - 1)


class LiveColumns:
    """A TrainingSet as columns of texts that follow its negatives; see `AnceCallback`.

    An item is `{query, positive, negative_1 ...[, score]}`: a data set for transformers' Trainer.
    `transform` turns a batch of rows into columns, for `datasets`:
    `Dataset.from_dict({"row": range(n)}).with_transform(columns.transform)`.
    """

    def __init__(self, data: TrainingSet) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {name: values[0] for name, values in self.transform({"row": [row]}).items()}

    def transform(self, batch: Mapping[str, Sequence[int]]) -> dict[str, list[Any]]:
        """Return columns of the rows that `batch["row"]` names."""
        data, rows = self.data, list(batch["row"])
        columns: dict[str, list[Any]] = {
            "query": [data.queries[row] for row in rows],
            "positive": [data.documents[data.positives[row]] for row in rows],
        }
        if data.negatives is not None:
            # Padding repeats the positive, which equal ids take out of its own row.
            own, hard = data.positives[rows, None], data.negatives[rows]
            hard = np.where(hard < 0, own, hard)
            for place, column in enumerate(hard.T, 1):
                columns[f"negative_{place}"] = [data.documents[i] for i in column]
        if data.scores is not None:
            columns["score"] = data.scores[rows].tolist()
        return columns


class AnceCallback(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Runs an AnceRefresher inside transformers' or sentence-transformers' Trainer.

    Args:
        refresher: as for `fit`.
        encoder: of the model that is trained: `StEncoder(model)`, or one of `encoders`.
        columns: whose negatives are replaced; the Trainer's data set is made of it. A Trainer
            loads one batch ahead, which has the negatives from before a refresh.

    Negatives are kept with the Trainer's checkpoints and taken up from there.
    """

    def __init__(self, refresher: Any, encoder: Any, columns: LiveColumns) -> None:
        self.refresher, self.columns = refresher, columns
        self.state = State(encoder, columns.data, None, 0)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take the first negatives, or those of the checkpoint that training goes on from."""
        kept = Path(args.output_dir) / f"checkpoint-{state.global_step}" / "negatives.pt"
        if state.global_step and kept.is_file():
            self.refresher.load_state_dict(torch.load(kept, weights_only=False))
        self._run("on_start", state)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Refresh when it is time."""
        self._run("on_step", state)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Put the negatives into the checkpoint."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and folder.is_dir():
            torch.save(self.refresher.state_dict(), folder / "negatives.pt")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop what still runs."""
        self._run("on_end", state)

    def _run(self, method: str, state: Any) -> None:
        self.state.step, self.state.steps = state.global_step, state.max_steps
        getattr(self.refresher, method)(self.state)
        self.columns.data = self.state.data
