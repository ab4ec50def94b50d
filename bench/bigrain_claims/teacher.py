# SPDX-License-Identifier: Apache-2.0
"""The teacher of distillation and denoising: all-MiniLM-L6-v2, whose vectors are kept on disk.

It is a dual encoder and no cross-encoder as in the papers: the strongest judge that comes without
a model hub. Its cosine becomes a probability by two numbers, fitted on training labels.
"""

from __future__ import annotations

import hashlib
import os
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from bigrain_bench import fetch
from bigrain_claims import tier_s

F32 = NDArray[np.float32]
# As many pieces as Tier S reads; a text takes about 20 ms of one core.
TOKENS = (tier_s.QUERY_TOKENS, tier_s.DOCUMENT_TOKENS)


def vectors(
    texts: list[str], kind: Literal["query", "document"], tokens: tuple[int, int] = TOKENS
) -> F32:
    """Unit vectors, (n, 384) float32, kept in the cache by content.

    `tokens` are the most pieces of a query and of a document that are read.
    """
    folder = tier_s.model_folder()
    weights = fetch.sha256(folder / "model.safetensors")
    digest = hashlib.sha256(f"{weights}\n{tokens}\n{kind}".encode())
    for text in texts:
        digest.update(text.encode() + b"\0")
    kept = fetch.cache_dir() / f"minilm-{digest.hexdigest()[:24]}.npy"
    if not kept.exists():
        from bigrain.train.encoders import HFEncoder

        encoder = HFEncoder(folder, max_tokens=tokens)
        encode = encoder.encode_query if kind == "query" else encoder.encode_document
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(f".{os.getpid()}.npy")
        np.save(partial, encode(texts, batch_size=64))
        partial.replace(kept)
    return cast(F32, np.load(kept, allow_pickle=False))


def fit_probability(relevant: F32, others: F32, steps: int = 50) -> tuple[float, float]:
    """Slope and offset of a logistic curve over scores, (n,) each, by Newton's method."""
    x = np.concatenate([relevant, others]).astype(np.float64)
    y = np.repeat([1.0, 0.0], [len(relevant), len(others)])
    features = np.stack([x, np.ones_like(x)], 1)
    w = np.zeros(2)
    for _ in range(steps):
        p = 1 / (1 + np.exp(-features @ w))
        curvature = (features * (p * (1 - p))[:, None]).T @ features + 1e-6 * np.eye(2)
        w = w + np.linalg.solve(curvature, features.T @ (y - p))
    return float(w[0]), float(w[1])
