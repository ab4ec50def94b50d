# SPDX-License-Identifier: Apache-2.0
"""Train by a recipe: `python -m bigrain.train recipe.toml`; prints one JSON object.

[data]                      # a BEIR folder, or JSON lines
texts = "texts/scifact"     # or: jsonl = "pairs.jsonl", corpus = "corpus.jsonl"
split = "train"
[encoder]
kind = "hf"                 # "static" and "tiny" need name for its tokenizer.json
name = "models/minilm"      # further keys are the class's own
[loss]
name = "contrastive"        # of bigrain.train.losses; further keys are its own
tau = 0.05
[negatives]                 # optional: of AnceRefresher
every = 200
[fit]                       # of bigrain.train.trainer.fit
steps = 1000
batch_size = 64
lr = 2e-5
[out]
folder = "out"              # encoder, checkpoint and log
"""

from __future__ import annotations

import argparse
import functools
import inspect
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bigrain._checks import require_choice
from bigrain.eval.collections import read_beir
from bigrain.train import encoders, losses
from bigrain.train.data import TrainingSet
from bigrain.train.negatives import AnceRefresher
from bigrain.train.trainer import fit, on_scores

SECTIONS = ("data", "encoder", "loss", "negatives", "fit", "out")
ENCODERS: dict[str, Any] = {
    "static": encoders.StaticEncoder.from_pretrained,
    "tiny": encoders.TinyTransformer,
    "hf": encoders.HFEncoder,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser("python -m bigrain.train", description="Train by a recipe.")
    parser.add_argument("recipe", type=Path)
    path = parser.parse_args(arguments).recipe
    if sys.version_info < (3, 11):
        parser.error("recipes need Python 3.11 or newer; call bigrain.train.trainer.fit instead")
    else:
        import tomllib

        print(json.dumps(run(tomllib.loads(path.read_text(encoding="utf-8")))))
    return 0


def run(recipe: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Train as a recipe's sections say and save the encoder; return its folder and the loss."""
    unknown, missing = set(recipe) - set(SECTIONS), set(SECTIONS) - {"negatives"} - set(recipe)
    if unknown or missing:
        raise ValueError(f"recipe: unknown sections {sorted(unknown)}, missing {sorted(missing)}")
    folder = Path(recipe["out"]["folder"])
    source = recipe["data"]
    if "texts" in source:
        data = TrainingSet.from_collection(read_beir(source["texts"], source.get("split")))
    else:
        data = TrainingSet.from_jsonl(source["jsonl"], source.get("corpus"))
    encoder = _encoder(**recipe["encoder"])
    callbacks = [AnceRefresher(**recipe["negatives"])] if "negatives" in recipe else []
    options = {"loss": _loss(**recipe["loss"]), "callbacks": callbacks, **recipe["fit"]}
    options |= {"checkpoint": folder / "checkpoint.pt", "log": folder / "log.jsonl"}
    result = fit(encoder, data, **options)
    encoder.save(folder / "encoder")
    return {"encoder": str(folder / "encoder"), "loss": result["loss"], "steps": result["steps"]}


def _encoder(kind: str, name: str, **settings: Any) -> Any:
    require_choice(kind, "encoder: kind", *ENCODERS)
    return ENCODERS[kind](name, **settings)


def _loss(name: str, **options: Any) -> Callable[..., Any]:
    loss = getattr(losses, name, None)
    if name.startswith("_") or not inspect.isfunction(loss):
        raise ValueError(f"loss: {name!r} is not a function of bigrain.train.losses")
    if {"student", "s_pos"} & set(inspect.signature(loss).parameters):
        return on_scores(loss, **options)
    return functools.partial(loss, **options)


if __name__ == "__main__":
    sys.exit(main())
