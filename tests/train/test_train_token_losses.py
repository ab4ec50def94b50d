# SPDX-License-Identifier: Apache-2.0
"""Token-level scores and losses against loops over tokens, their gradients and masks."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402

from bigrain.train import token_losses as tokens  # noqa: E402

torch.set_num_threads(1)


def texts(bq: int = 2, bd: int = 3, Lq: int = 3, Ld: int = 4, t: int = 2) -> dict[str, Tensor]:
    """Random tokens of five ids; the last document is all padding."""
    generator = torch.Generator().manual_seed(bq + bd)
    q_mask = torch.rand(bq, Lq, generator=generator) < 0.7
    d_mask = torch.rand(bd, Ld, generator=generator) < 0.7
    d_mask[-1] = False
    return {
        "q_tok": torch.randn(bq, Lq, t, generator=generator, dtype=torch.float64),
        "d_tok": torch.randn(bd, Ld, t, generator=generator, dtype=torch.float64),
        "q_ids": torch.randint(5, (bq, Lq), generator=generator),
        "d_ids": torch.randint(5, (bd, Ld), generator=generator),
        "q_mask": q_mask,
        "d_mask": d_mask,
    }


def naive(
    x: dict[str, Tensor], same_id: bool, floor: bool, weights: Tensor | None = None
) -> Tensor:
    scores = torch.zeros(len(x["q_tok"]), len(x["d_tok"]), dtype=torch.float64)
    for a, i in itertools.product(range(scores.shape[0]), range(x["q_tok"].shape[1])):
        if not x["q_mask"][a, i]:
            continue
        for b in range(scores.shape[1]):
            met = [
                (x["q_tok"][a, i] * x["d_tok"][b, j]).sum().item()
                for j in range(x["d_tok"].shape[1])
                if x["d_mask"][b, j] and (not same_id or x["q_ids"][a, i] == x["d_ids"][b, j])
            ]
            best = max(met, default=0.0)
            scores[a, b] += (max(best, 0.0) if floor else best) * (
                1.0 if weights is None else weights[a, i]
            )
    return scores


@pytest.mark.parametrize("rows", [1, 2, 100])
@pytest.mark.parametrize(("bq", "bd"), [(1, 1), (2, 3), (5, 2)])
def test_scores_are_loops_over_tokens(
    bq: int, bd: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = texts(bq, bd)
    monkeypatch.setattr(tokens, "BLOCK", rows * 3 * bd * 4)
    x["q_tok"].requires_grad_()
    x["d_tok"].requires_grad_()
    found = tokens.maxsim(x["q_tok"], x["d_tok"], x["q_mask"], x["d_mask"])
    torch.testing.assert_close(found, naive(x, False, False), rtol=0, atol=1e-12)
    assert not found[:, -1].any()
    cls_q, cls_d = torch.randn(bq, 3).double(), torch.randn(bd, 3).double()
    found = tokens.coil_scores(**x, cls_q=cls_q, cls_d=cls_d)
    expected = naive(x, True, True) + cls_q @ cls_d.T
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(
        lambda q, d: tokens.coil_scores(**{**x, "q_tok": q, "d_tok": d}), (x["q_tok"], x["d_tok"])
    )
    assert torch.autograd.gradcheck(
        lambda q, d: tokens.maxsim(q, d, x["q_mask"], x["d_mask"]), (x["q_tok"], x["d_tok"])
    )


def test_impacts_are_coil_of_width_one() -> None:
    x = texts(t=1)
    w_q, w_d = x["q_tok"][..., 0].abs(), x["d_tok"][..., 0].abs()
    masks = (x["q_mask"], x["d_mask"])
    found = tokens.impact_scores(w_q, x["q_ids"], w_d, x["d_ids"], masks)
    same = {**x, "q_tok": torch.ones_like(x["q_tok"]), "d_tok": w_d[..., None]}
    torch.testing.assert_close(found, naive(same, True, True, w_q), rtol=0, atol=1e-12)
    given = {**x, "q_tok": w_q[..., None], "d_tok": w_d[..., None]}
    torch.testing.assert_close(found, tokens.coil_scores(**given))
    assert torch.autograd.gradcheck(
        lambda q, d: tokens.impact_scores(q, x["q_ids"], d, x["d_ids"], masks),
        (w_q.requires_grad_(), w_d.requires_grad_()),
    )
    # a repeated query token counts twice, a repeated document token once
    ones, ids = torch.ones(1, 2), torch.zeros(1, 2, dtype=torch.int64)
    assert tokens.impact_scores(ones, ids, ones, ids).item() == 2


def test_coil_has_a_floor_even_where_every_token_matches() -> None:
    q, d, ids = torch.ones(1, 1, 1), -torch.ones(1, 1, 1), torch.zeros(1, 1, dtype=torch.int64)
    assert tokens.coil_scores(q, ids, d, ids, None, None).item() == 0
    assert tokens.maxsim(q, d).item() == -1


def test_texts_without_tokens_score_zero() -> None:
    x = texts(Ld=0)
    x["d_tok"].requires_grad_()
    assert tokens.maxsim(x["q_tok"], x["d_tok"]).tolist() == [[0.0] * 3] * 2
    assert tokens.coil_scores(**x).tolist() == [[0.0] * 3] * 2
    assert tokens.maxsim(texts(Lq=0)["q_tok"], texts()["d_tok"]).tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scores_are_wide(dtype: Any) -> None:
    x = texts()
    q, d = x["q_tok"].to(dtype), x["d_tok"].to(dtype)
    found = tokens.maxsim(q, d, x["q_mask"], x["d_mask"])
    assert found.dtype == torch.float32
    expected = naive({**x, "q_tok": q.double(), "d_tok": d.double()}, False, False)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    logits = torch.randn(2, 3, 5).to(dtype)
    assert tokens.splade_pool(logits, torch.ones(2, 3, dtype=torch.bool)).dtype == torch.float32


@pytest.mark.parametrize("b", [1, 3])
def test_term_recall_and_list_ce(b: int) -> None:
    pred, target = torch.randn(b, 4).double(), torch.rand(b, 4).double()
    mask = torch.arange(4 * b).view(b, 4) % 3 > 0
    kept = [(pred[i, j] - target[i, j]) ** 2 for i in range(b) for j in range(4) if mask[i, j]]
    assert tokens.term_recall(pred, target, mask).item() == pytest.approx(
        sum(float(x) for x in kept) / len(kept), abs=1e-12
    )
    assert tokens.term_recall(pred, target, torch.zeros_like(mask)).item() == 0
    labels = torch.arange(b)
    plain = torch.nn.functional.cross_entropy(pred, labels)
    assert tokens.list_ce(pred, labels).item() == pytest.approx(plain.item(), abs=1e-12)
    total = 0.0
    for i in range(b):
        if mask[i, i]:
            rest = [float(pred[i, j]) for j in range(4) if mask[i, j]]
            total += math.log(sum(math.exp(x) for x in rest)) - float(pred[i, i])
    scores = pred.clone().requires_grad_()
    loss = tokens.list_ce(scores, labels, mask)
    assert loss.item() == pytest.approx(total / b, abs=1e-12)
    assert torch.autograd.gradcheck(lambda x: tokens.list_ce(x, labels, mask), scores)
    none = tokens.list_ce(scores, labels, torch.zeros_like(mask))
    none.backward()
    assert none.item() == 0
    assert scores.grad is not None
    assert not scores.grad.any()
    assert torch.autograd.gradcheck(lambda x: tokens.term_recall(x, target, mask), scores)


@pytest.mark.parametrize("b", [1, 3])
def test_flops_and_splade_pool(b: int) -> None:
    w = torch.rand(b, 6, dtype=torch.float64) * (torch.rand(b, 6) < 0.5)
    expected = sum((sum(w[:, v].tolist()) / b) ** 2 for v in range(6))
    assert tokens.flops(w).item() == pytest.approx(expected, abs=1e-12)
    sparse = w.to_sparse_coo().requires_grad_()
    loss = tokens.flops(sparse)
    loss.backward()
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    assert torch.autograd.gradcheck(tokens.flops, w.clone().requires_grad_())
    logits = torch.randn(b, 5, 6).double().requires_grad_()
    mask = torch.arange(5 * b).view(b, 5) % 4 > 1
    mask[0] = False
    for chunk in (1, 2, 32):
        found = tokens.splade_pool(logits, mask, chunk)
        for i, v in itertools.product(range(b), range(6)):
            best = max(
                (math.log1p(max(logits[i, j, v].item(), 0.0)) for j in range(5) if mask[i, j]),
                default=0.0,
            )
            assert found[i, v].item() == pytest.approx(best, abs=1e-12)
        assert torch.autograd.gradcheck(lambda x, c=chunk: tokens.splade_pool(x, mask, c), logits)


def test_bad_input_is_named() -> None:
    x = texts()
    for change, message in (
        ({"d_tok": x["d_tok"][:, :, :1]}, r"d_tok: expected shape \(bd, Ld, 2\)"),
        ({"q_mask": x["d_mask"]}, r"q_mask: expected shape \(2, 3\), found \(3, 4\)"),
        ({"d_ids": x["q_ids"]}, r"d_ids: expected shape \(3, 4\)"),
        ({"cls_q": x["q_tok"][:, 0]}, "cls_q, cls_d: expected both or neither"),
    ):
        with pytest.raises(ValueError, match=message):
            tokens.coil_scores(**{**x, **change})
    with pytest.raises(ValueError, match=r"mask: expected shape \(2, 3\)"):
        tokens.splade_pool(x["q_tok"], x["d_mask"])
