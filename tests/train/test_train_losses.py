# SPDX-License-Identifier: Apache-2.0
"""Losses against loops over single numbers, their gradients, masks and narrow dtypes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402

from bigrain.train import losses  # noqa: E402

torch.set_num_threads(1)
SIZES = list(itertools.product((1, 3), (0, 1, 3)))


def randoms(*shapes: tuple[int, ...], seed: int = 0, dtype: Any = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes
    ]


def batch(b: int, H: int, d: int = 5, dtype: Any = torch.float64) -> list[Tensor]:
    return randoms((b, d), (b, d), (b, H, d), seed=b * 10 + H, dtype=dtype)


def product(x: Tensor, y: Tensor) -> float:
    return sum(float(a) * float(c) for a, c in zip(x, y, strict=True))


def softmax(values: list[float]) -> list[float]:
    top = max(values)
    powers = [math.exp(value - top) for value in values]
    return [power / sum(powers) for power in powers]


def average(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def naive_contrastive(
    q: Tensor,
    p: Tensor,
    n: Tensor,
    tau: float,
    hidden: Callable[[int, int, int], bool] = lambda i, j, h: False,
    log_q: Tensor | None = None,
) -> float:
    """Columns are (row, -1) for positives and (row, h) for hard negatives, in the written order."""
    places = [(j, -1) for j in range(len(p))]
    places += [(j, h) for j in range(len(n)) for h in range(n.shape[1])]
    total = []
    for i in range(len(q)):
        scores, label = [], -1
        for column, (j, h) in enumerate(places):
            if (j, h) != (i, -1) and hidden(i, j, h):
                continue
            if (j, h) == (i, -1):
                label = len(scores)
            bias = 0.0 if log_q is None else float(log_q[column])
            scores.append(product(q[i], p[j] if h < 0 else n[j, h]) / tau - bias)
        total.append(-math.log(softmax(scores)[label]))
    return average(total)


@pytest.mark.parametrize(("b", "H"), SIZES)
def test_contrastive_is_the_double_loop(b: int, H: int) -> None:
    q, p, n = batch(b, H)
    (log_q,) = randoms((b * (1 + H),))
    found = losses.contrastive(q, p, n, tau=0.7)
    assert float(found) == pytest.approx(naive_contrastive(q, p, n, 0.7), abs=1e-12)
    if H == 0:
        assert float(losses.contrastive(q, p, tau=0.7)) == float(found)
    found = losses.contrastive(q, p, n, tau=0.7, log_q=log_q)
    assert float(found) == pytest.approx(naive_contrastive(q, p, n, 0.7, log_q=log_q), abs=1e-12)
    for bias in (None, log_q):
        found = losses.contrastive(q, p, n, tau=0.7, negatives="own", log_q=bias)
        naive = naive_contrastive(q, p, n, 0.7, lambda i, j, h: i != j, bias)
        assert float(found) == pytest.approx(naive, abs=1e-12)
    found = losses.contrastive(q, p, n, tau=0.7, symmetric=True)
    back = naive_contrastive(p, q, n[:, :0], 0.7)
    naive = (naive_contrastive(q, p, n, 0.7) + back) / 2
    assert float(found) == pytest.approx(naive, abs=1e-12)


@pytest.mark.parametrize("H", [0, 1, 3])
def test_contrastive_leaves_out_equal_ids(H: int) -> None:
    q, p, n = batch(3, H)
    p_ids = torch.tensor([7, 8, 7])
    q_ids = torch.tensor([0, 1, 1])
    n_ids = torch.tensor([[8, -1, 7], [9, 8, 9], [-1, 7, 5]])[:, :H]
    naive = {
        "p_ids": lambda i, j, h: h < 0 and p_ids[i] == p_ids[j],
        "q_ids": lambda i, j, h: h < 0 and q_ids[i] == q_ids[j],
        "n_ids": lambda i, j, h: h >= 0 and n_ids[j, h] < 0,
    }
    given = {"p_ids": p_ids, "q_ids": q_ids, "n_ids": n_ids}
    for name in given:
        found = losses.contrastive(q, p, n, tau=0.7, **{name: given[name]})
        expected = naive_contrastive(q, p, n, 0.7, naive[name])
        assert float(found) == pytest.approx(expected, abs=1e-12)

    def all_of_them(i: int, j: int, h: int) -> bool:
        same = bool(h >= 0 and n_ids[j, h] == p_ids[i])
        return same or any(bool(rule(i, j, h)) for rule in naive.values())

    for own in (False, True):
        found = losses.contrastive(q, p, n, tau=0.7, negatives="own" if own else "all", **given)
        expected = naive_contrastive(
            q, p, n, 0.7, lambda i, j, h, own=own: (own and i != j) or all_of_them(i, j, h)
        )
        assert float(found) == pytest.approx(expected, abs=1e-12)
    back = naive_contrastive(
        p, q, n[:, :0], 0.7, lambda i, j, h: bool(p_ids[i] == p_ids[j] or q_ids[i] == q_ids[j])
    )
    found = losses.contrastive(q, p, n, tau=0.7, symmetric=True, **given)
    expected = (naive_contrastive(q, p, n, 0.7, all_of_them) + back) / 2
    assert float(found) == pytest.approx(expected, abs=1e-12)


def test_contrastive_with_all_columns_left_out_is_zero() -> None:
    q, p, n = (x.requires_grad_() for x in batch(3, 2))
    ids = torch.zeros(3, dtype=torch.int64)
    loss = losses.contrastive(q, p, n, p_ids=ids, n_ids=torch.full((3, 2), -1), symmetric=True)
    loss.backward()
    assert loss.item() == 0
    assert all(x.grad is not None and not x.grad.any() for x in (q, p, n))


def test_contrastive_draws_negatives() -> None:
    q, p, n = batch(3, 3)
    full = float(losses.contrastive(q, p, n))
    assert float(losses.contrastive(q, p, n, n_max=0)) == 0
    assert float(losses.contrastive(q, p, n, n_max=11)) == full
    assert float(losses.contrastive(q, p, n, n_max=10**6)) == full
    drawn = [
        float(losses.contrastive(q, p, n, n_max=4, generator=torch.Generator().manual_seed(seed)))
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert max(drawn) < full
    # equal scores: the loss says how many columns there are, padding never among them
    z = torch.zeros(3, 5)
    n_ids = torch.tensor([[-1, -1, 4]] * 3)
    for count, columns in ((1, 2), (4, 5), (5, 6), (8, 6)):
        loss = losses.contrastive(z, z, torch.zeros(3, 3, 5), n_ids=n_ids, n_max=count)
        assert float(loss) == pytest.approx(math.log(columns), abs=1e-6)


def test_contrastive_trains_its_temperature() -> None:
    q, p, n = batch(3, 2)
    tau = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    losses.contrastive(q, p, n, tau=tau, symmetric=True).backward()
    step = 1e-6
    ends = [losses.contrastive(q, p, n, tau=0.7 + e, symmetric=True) for e in (-step, step)]
    assert tau.grad.item() == pytest.approx((ends[1] - ends[0]).item() / (2 * step), rel=1e-7)


@pytest.mark.parametrize(("b", "H"), SIZES)
def test_losses_of_scores_are_the_double_loop(b: int, H: int) -> None:
    s, t, lex_s, lex_t = randoms((b,), (b, H), (b,), (b, H), seed=b + H)
    mask = torch.arange(b * H).view(b, H) % 3 != 1
    for keep in (None, mask):
        cells = [(i, h) for i in range(b) for h in range(H) if keep is None or keep[i, h]]
        gaps = [float(s[i] - t[i, h]) for i, h in cells]
        lexical = [float(lex_s[i] - lex_t[i, h]) for i, h in cells]
        clear = [max(0.0, 1 - 0.1 * x - g) for g, x in zip(gaps, lexical, strict=True)]
        squares = [(g - x) ** 2 for g, x in zip(gaps, lexical, strict=True)]
        pairs: list[tuple[Tensor, list[float]]] = [
            (losses.triplet_hinge(s, t, mask=keep), [max(0.0, 1 - g) for g in gaps]),
            (losses.clear_hinge(s, t, lex_s, lex_t, mask=keep), clear),
            (losses.margin_mse(s, t, lex_s, lex_t, mask=keep), squares),
        ]
        for found, values in pairs:
            assert float(found) == pytest.approx(average(values), abs=1e-12)
    if H == 1:
        flat = losses.margin_mse(s, t[:, 0], lex_s, lex_t[:, 0])
        assert float(flat) == float(losses.margin_mse(s, t, lex_s, lex_t))
    q, p, n = batch(b, H)
    values = [
        math.log1p(math.exp(product(q[i], n[i, h]) - product(q[i], p[i])))
        for i in range(b)
        for h in range(H)
    ]
    assert float(losses.ance_pair(q, p, n)) == pytest.approx(average(values), abs=1e-12)


@pytest.mark.parametrize("b", [1, 3])
def test_align_and_uniform_are_their_definitions(b: int) -> None:
    x, y = (torch.nn.functional.normalize(values) for values in randoms((b, 5), (b, 5)))
    for alpha in (1, 2):
        values = [math.dist(x[i].tolist(), y[i].tolist()) ** alpha for i in range(b)]
        assert float(losses.align(x, y, alpha)) == pytest.approx(average(values), abs=1e-12)
    pairs = [
        math.exp(-2 * math.dist(x[i].tolist(), x[j].tolist()) ** 2)
        for i in range(b)
        for j in range(i)
    ]
    expected = math.log(average(pairs)) if pairs else 0.0
    assert float(losses.uniform(x)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("b", "C"), [(1, 1), (1, 3), (3, 1), (3, 4)])
def test_list_losses_are_the_double_loop(b: int, C: int) -> None:
    s, t = randoms((b, C), (b, C), seed=C)
    mask = torch.ones(b, C, dtype=torch.bool)
    mask[0] = False
    mask[-1, 0] = C == 1
    for keep in (None, mask):
        divergences, crosses = [], []
        for i in range(b):
            kept = [c for c in range(C) if keep is None or keep[i, c]]
            if not kept:
                divergences.append(0.0)
                crosses.append(0.0)
                continue
            goal = softmax([float(t[i, c]) / 0.5 for c in kept])
            own = softmax([float(s[i, c]) / 2.0 for c in kept])
            divergences.append(sum(g * math.log(g / o) for g, o in zip(goal, own, strict=True)))
            goal, own = (softmax([float(x[i, c]) for c in kept]) for x in (t, s))
            crosses.append(-sum(g * math.log(o) for g, o in zip(goal, own, strict=True)))
        found = losses.kd_kl(s, t, 2.0, 0.5, keep)
        assert float(found) == pytest.approx(4 * average(divergences), abs=1e-12)
        found = losses.kd_kl(s, t, 2.0, 0.5, keep, rescale=False)
        assert float(found) == pytest.approx(average(divergences), abs=1e-12)
        assert float(losses.kd_listnet(s, t, keep)) == pytest.approx(average(crosses), abs=1e-12)
    gold = C - 1
    first = [-math.log(softmax(t[i].tolist())[gold]) for i in range(b)]
    expected = average(first) + float(losses.kd_kl(s, t))
    assert float(losses.joint_listwise(s, t, gold)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("b", [1, 3])
def test_kd_inbatch_is_the_double_loop(b: int) -> None:
    q, p, _ = batch(b, 0)
    (teacher,) = randoms((b, b))
    values = []
    for i in range(b):
        own = softmax([product(q[i], p[j]) for j in range(b)])
        goal = softmax([float(teacher[i, j]) / 0.25 for j in range(b)])
        divergence = sum(g * math.log(g / o) for g, o in zip(goal, own, strict=True))
        values.append(-0.1 * math.log(own[i]) + 0.9 * divergence)
    found = losses.kd_inbatch(q, p, teacher, 0.1, 0.25)
    assert float(found) == pytest.approx(average(values), abs=1e-12)


def test_weak_label_weighs_by_agreement() -> None:
    student, teacher = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([0.9, 0.2, 0.7])
    label = torch.tensor([1.0, 1.0, -1.0])
    weights = [0.9, 0.2, 1.0]
    error = torch.nn.functional.binary_cross_entropy_with_logits(student, teacher, reduction="none")
    expected = average([w * float(e) for w, e in zip(weights, error, strict=True)])
    assert float(losses.weak_label(student, teacher, label)) == pytest.approx(expected, abs=1e-6)
    found = losses.weak_label(student, teacher, label, lambda y, t: torch.ones(3), kind="mse")
    assert float(found) == pytest.approx(float((student - teacher).square().mean()), abs=1e-6)
    with pytest.raises(ValueError, match="kind: expected 'bce' or 'mse'"):
        losses.weak_label(student, teacher, label, kind="hinge")


def test_joint_adds_and_reports() -> None:
    x = torch.tensor([3.0, 4.0], requires_grad=True)
    unused = torch.tensor(1.0, requires_grad=True)
    terms = [x.square().sum(), x.sum()]
    total = losses.joint(terms, [0.5, 2.0])
    report = losses.joint_report(terms, [0.5, 2.0], [x, unused])
    total.backward()
    assert total.item() == 0.5 * 25 + 2 * 7
    assert x.grad is not None
    assert x.grad.tolist() == [5.0, 6.0]
    assert report[0] == {"value": 25.0, "weight": 0.5, "grad_norm": 5.0}
    assert report[1]["grad_norm"] == pytest.approx(2 * math.sqrt(2))
    with pytest.raises(ValueError, match="weights: expected one per term"):
        losses.joint(terms, [1.0])


def calls(b: int, H: int, dtype: Any) -> dict[str, tuple[Callable[..., Tensor], list[Tensor]]]:
    """Every loss with inputs that carry gradients."""
    q, p, n = batch(b, H, dtype=dtype)
    s_pos, s_neg, t_pos, t_neg = randoms((b,), (b, H), (b,), (b, H), dtype=dtype)
    s, t, square = randoms((b, H + 1), (b, H + 1), (b, b), seed=1, dtype=dtype)
    label = torch.arange(b).to(dtype) % 2
    ids = {"p_ids": torch.arange(b) % 2, "n_ids": torch.arange(b * H).view(b, H) - 1}
    return {
        "align": (losses.align, [q, p]),
        "uniform": (losses.uniform, [q]),
        "contrastive": (
            lambda *x: losses.contrastive(*x, tau=0.5, symmetric=True, **ids),
            [q, p, n],
        ),
        "own": (lambda *x: losses.contrastive(*x, tau=0.5, negatives="own", **ids), [q, p, n]),
        "ance_pair": (losses.ance_pair, [q, p, n]),
        "triplet_hinge": (losses.triplet_hinge, [s_pos, s_neg]),
        "clear_hinge": (losses.clear_hinge, [s_pos, s_neg, t_pos, t_neg]),
        "margin_mse": (losses.margin_mse, [s_pos, s_neg, t_pos, t_neg]),
        "kd_kl": (losses.kd_kl, [s, t]),
        "kd_listnet": (losses.kd_listnet, [s, t]),
        "kd_inbatch": (lambda *x: losses.kd_inbatch(*x, 0.1, 0.25), [q, p, square]),
        "joint_listwise": (losses.joint_listwise, [s, t]),
        "weak_label": (lambda x, y: losses.weak_label(x, y.sigmoid(), label), [s_pos, t_pos]),
    }


@pytest.mark.parametrize(("b", "H"), SIZES)
@pytest.mark.parametrize("name", list(calls(1, 1, torch.float64)))
def test_gradients_and_dtypes(name: str, b: int, H: int) -> None:
    function, inputs = calls(b, H, torch.float64)[name]
    exact = [x.requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(function, exact)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 0.15)):
        function, inputs = calls(b, H, dtype)[name]
        loss = function(*inputs)
        assert loss.dtype == torch.float32
        assert loss.ndim == 0
        assert torch.isfinite(loss)
        assert float(loss) == pytest.approx(function(*exact).item(), rel=tolerance, abs=tolerance)


def test_softmax_is_wide_under_autocast() -> None:
    q, p, n = batch(3, 2, dtype=torch.float32)
    plain = losses.contrastive(q, p, n)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert float(losses.contrastive(q, p, n)) == float(plain)


def test_bad_input_is_named() -> None:
    q, p, n = batch(3, 2)
    ids = torch.arange(2)
    for change, message in (
        ({"p": p[:2]}, r"p: expected shape \(3, 5\), found \(2, 5\)"),
        ({"n": n[:, :, :4]}, r"n: expected shape \(3, H, 5\), found \(3, 2, 4\)"),
        ({"p_ids": ids}, r"p_ids: expected shape \(3,\), found \(2,\)"),
        ({"n_ids": ids}, r"n_ids: expected shape \(3, 2\)"),
        ({"log_q": q[:, 0]}, r"log_q: expected shape \(9,\)"),
        ({"negatives": "none"}, "negatives: expected 'all' or 'own'"),
        ({"tau": 0.0}, "tau: expected a temperature above 0, found 0"),
        ({"n_max": -1}, "n_max: expected at least 0 negatives, found -1"),
    ):
        with pytest.raises(ValueError, match=message):
            losses.contrastive(**{"q": q, "p": p, "n": n, **change})
    with pytest.raises(ValueError, match=r"scores: expected \(b,\) for positives"):
        losses.triplet_hinge(q[:, 0], q[:2])
    with pytest.raises(ValueError, match=r"mask: expected shape \(3, 5\)"):
        losses.kd_listnet(q, p, torch.ones(3, 2, dtype=torch.bool))
