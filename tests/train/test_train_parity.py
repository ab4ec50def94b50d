# SPDX-License-Identifier: Apache-2.0
"""Losses and scores equal those of sentence-transformers and pylate on the same tensors."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

torch = pytest.importorskip("torch")
st = pytest.importorskip("sentence_transformers")

from torch import Tensor, nn  # noqa: E402

from bigrain.train import losses, token_losses  # noqa: E402
from bigrain.train.gradcache import gradcache  # noqa: E402

reference = importlib.import_module("sentence_transformers.sentence_transformer.losses")
torch.set_num_threads(1)
H = 3
# The references scale by 1 / tau and normalise themselves.
TAU = 0.05


class Projection(nn.Module):
    """What a loss of sentence-transformers asks of a model: features to an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 4)

    def __getitem__(self, i: int) -> nn.Module:
        return self.linear

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sentence_embedding": self.linear(features["x"])}


def vectors(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def unit(x: Tensor) -> Tensor:
    return nn.functional.normalize(x, dim=-1)


def batch() -> tuple[Tensor, Tensor, Tensor]:
    return vectors(8, 6), vectors(8, 6, seed=1), vectors(8, H, 6, seed=2)


def of(loss: Any, columns: list[Tensor], labels: Tensor | None = None) -> float:
    value: float = loss.compute_loss_from_embeddings(columns, labels).item()
    return value


@pytest.mark.parametrize("count", [0, 1, H])
def test_contrastive_is_multiple_negatives_ranking(count: int) -> None:
    q, p, n = batch()
    expected = of(
        reference.MultipleNegativesRankingLoss(nn.Identity()), [q, p, *n[:, :count].unbind(1)]
    )
    found = losses.contrastive(unit(q), unit(p), unit(n[:, :count]), tau=TAU)
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_contrastive_is_the_symmetric_loss() -> None:
    q, p, _ = batch()
    loss = reference.MultipleNegativesRankingLoss(
        nn.Identity(),
        directions=("query_to_doc", "doc_to_query"),
        partition_mode="per_direction",
    )
    expected = of(loss, [q, p])
    found = losses.contrastive(unit(q), unit(p), tau=TAU, symmetric=True)
    assert found.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("count", [1, H])
def test_margin_mse_and_kl(count: int) -> None:
    q, p, n = batch()
    n, teacher = n[:, :count], vectors(8, 1 + count, seed=3)
    columns = [q, p, *n.unbind(1)]
    s_pos, s_neg = (q * p).sum(1), (n @ q[:, :, None]).squeeze(2)
    expected = of(reference.MarginMSELoss(nn.Identity()), columns, teacher)
    found = losses.margin_mse(s_pos, s_neg, teacher[:, 0], teacher[:, 1:])
    assert found.item() == pytest.approx(expected, rel=1e-6)
    student = torch.cat([s_pos[:, None], s_neg], 1)
    for tau in (1.0, 2.0):
        loss = reference.DistillKLDivLoss(nn.Identity(), temperature=tau)
        found = losses.kd_kl(student, teacher, tau, tau)
        assert found.item() == pytest.approx(of(loss, columns, teacher), rel=1e-6)


def test_triplet_hinge_of_distances() -> None:
    q, p, n = batch()
    loss = reference.TripletLoss(nn.Identity(), triplet_margin=0.5)
    s_pos, s_neg = -(q - p).norm(dim=1), -(q - n[:, 0]).norm(dim=1)
    found = losses.triplet_hinge(s_pos, s_neg[:, None], margin=0.5)
    # pairwise_distance adds 1e-6 to every difference
    assert found.item() == pytest.approx(of(loss, [q, p, n[:, 0]]), rel=1e-5)


@pytest.mark.parametrize("chunk", [1, 3, 8])
def test_gradcache_is_the_cached_loss(chunk: int) -> None:
    q, p, n = (x.double() for x in batch())
    model, twin = Projection().double(), Projection().double()
    twin.load_state_dict(model.state_dict())
    loss = reference.CachedMultipleNegativesRankingLoss(model, mini_batch_size=chunk)
    expected = loss([{"x": x} for x in (q, p, *n.unbind(1))], None)
    expected.backward()
    found = gradcache(
        lambda x: unit(twin({"x": x})["sentence_embedding"]),
        [q, p, n.flatten(0, 1)],
        lambda a, b, c: losses.contrastive(a, b, c.view(8, H, -1), tau=TAU),
        chunk,
    )
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    for ours, theirs in zip(twin.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12)


def test_flops_of_a_batch() -> None:
    sparse = pytest.importorskip("sentence_transformers.sparse_encoder.losses")
    w = vectors(5, 9).relu()
    expected = sparse.FlopsLoss(nn.Identity()).compute_loss_from_embeddings(w).item()
    assert token_losses.flops(w).item() == pytest.approx(expected, rel=1e-6)


def masked_tokens() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    q, d = vectors(3, 4, 6), vectors(5, 7, 6, seed=1)
    q_mask = torch.arange(4) < torch.tensor([[2], [4], [3]])
    d_mask = torch.arange(7) < torch.tensor([[7], [1], [3], [5], [6]])
    return q, d, q_mask, d_mask


def test_maxsim_is_that_of_sentence_transformers() -> None:
    similarity = importlib.import_module("sentence_transformers.util.similarity")
    q, d, q_mask, d_mask = masked_tokens()
    expected = similarity.maxsim(q, d, q_mask, d_mask)
    torch.testing.assert_close(
        token_losses.maxsim(q, d, q_mask, d_mask), expected, rtol=1e-6, atol=1e-6
    )


def test_maxsim_is_that_of_colbert() -> None:
    # ImportError too: pylate without one of its dependencies
    scores = pytest.importorskip("pylate.scores", exc_type=ImportError)
    q, d, q_mask, _ = masked_tokens()
    # no padded documents: pylate scores their padding 0, which is the best where all else is below
    expected = scores.colbert_scores(q, d, queries_mask=q_mask)
    torch.testing.assert_close(token_losses.maxsim(q, d, q_mask), expected, rtol=1e-6, atol=1e-6)
