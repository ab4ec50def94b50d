# SPDX-License-Identifier: Apache-2.0
"""Losses of dense retrieval and distillation: pure functions of tensors, to a scalar mean.

Symbols: b local rows, W ranks, B rows of all ranks, H hard negatives per query, N = B * (1 + H)
columns, C candidates per list, d width. With a `group` (bigrain.train.dist) a loss is that of this
rank's rows against the columns of all ranks, and its plain mean over ranks is the loss of the
whole batch. Scores and softmax are float32 at least, also under autocast.

Sources: align, uniform: Wang and Isola, ICML 2020. contrastive: DPR (Karpukhin et al., EMNLP 2020)
over the columns of all devices (RocketQA; MoPQ's DCS); log_q: sampling-bias correction (Yi et al.,
RecSys 2019). ance_pair: Xiong et al., ICLR 2021. clear_hinge: Gao et al., ECIR 2021. margin_mse:
Hofstätter et al., 2020. kd_inbatch: TCT-ColBERT (Lin et al., 2021). joint_listwise: RocketQAv2
(Ren et al., EMNLP 2021). weak_label: Li et al., WWW 2019, whose formula of the weights is not
public: the default here is a reconstruction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from bigrain._checks import check_shape, require, require_choice
from bigrain.train._tensors import dot, masked_softmax, mean, rows_dot, wide
from bigrain.train.dist import Group, GroupInfo, all_gather_padded, group_info


def align(x: Tensor, y: Tensor, alpha: float = 2.0) -> Tensor:
    """Mean of ||x - y||^alpha over positive pairs, (b, d) each, of unit length."""
    check_shape(y, "y", *x.shape)
    return mean((wide(x) - wide(y)).norm(dim=1).pow(alpha))


def uniform(x: Tensor, t: float = 2.0) -> Tensor:
    """Log of the mean of exp(-t ||x_i - x_j||^2) over pairs i < j of (b, d); 0 where b < 2."""
    check_shape(x, "x", "b", "d")
    if len(x) < 2:
        return wide(x).sum() * 0
    i, j = torch.triu_indices(len(x), len(x), 1, device=x.device)
    squares = wide(x).square().sum(1)
    exponents = -t * (squares[i] + squares[j] - 2 * dot(x, x)[i, j])
    return torch.logsumexp(exponents, 0) - torch.log(exponents.new_tensor(len(exponents)))


def contrastive(
    q: Tensor,
    p: Tensor,
    n: Tensor | None = None,
    *,
    tau: float | Tensor = 0.05,
    q_ids: Tensor | None = None,
    p_ids: Tensor | None = None,
    n_ids: Tensor | None = None,
    symmetric: bool = False,
    negatives: str = "all",
    n_max: int | None = None,
    log_q: Tensor | None = None,
    group: Group | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Cross entropy of each query's positive among the positives and negatives of all ranks.

    Args:
        q: (b, d) queries; p: (b, d), each query's positive; n: (b, H, d) hard negatives.
        tau: temperature, above 0; a 0-d tensor is trained.
        q_ids: (b,) int64. A column that is the positive of the same query is left out.
        p_ids: (b,) int64 of documents. A column of the same document is left out, except the
            query's own positive; hard negatives take part where `n_ids` names them.
        n_ids: (b, H) int64 of documents; below 0 marks padding, which is left out.
        symmetric: also each positive among all queries; the mean of both directions.
        negatives: "all", or "own" for the query's own hard negatives alone.
        n_max: keep so many of the negative columns, drawn anew for every query.
        log_q: (N,) logarithms of how likely a column is to be drawn, subtracted from its score.
        group: ranks that share columns; H is the same on all, b may differ. None: no sharing.
        generator: of the draws for `n_max`; on the device of q.

    Columns are the positives of rank 0, 1, ..., then the hard negatives by rank, row and h; the
    label of row i is the number of rows on the ranks before, plus i.

    Returns:
        A scalar: the mean over rows of -log softmax(q . k / tau - log_q) at the label.
    """
    H = _check_batch(q, p, n, tau)
    require_choice(negatives, "negatives", "all", "own")
    for name, ids, shape in (("q_ids", q_ids, ()), ("p_ids", p_ids, ()), ("n_ids", n_ids, (H,))):
        check_shape(ids, name, len(q), *shape)
    info = group_info(len(q), group, q.device)
    check_shape(log_q, "log_q", info.total * (1 + H))
    # With "own" others' columns are hidden: do not gather them.
    used = info if negatives == "all" else GroupInfo(0, (len(q),))
    logits, hidden, labels = _columns(q, p, n, (q_ids, p_ids, n_ids), used)
    if negatives == "own":
        hidden = hidden | (_owners(len(q), H, q.device) != labels[:, None])
        mine = _owners(info.total, H, q.device) - info.offset
        log_q = None if log_q is None else log_q[(mine >= 0) & (mine < len(q))]
    logits = logits / tau if log_q is None else logits / tau - wide(log_q)
    if n_max is not None:
        hidden = hidden | _not_drawn(hidden, labels, n_max, generator)
    loss = info.mean(_cross_entropy(logits, hidden, labels))
    if not symmetric:
        return loss
    back, hidden, labels = _columns(p, q, None, (p_ids, q_ids, None), info)
    return (loss + info.mean(_cross_entropy(back / tau, hidden, labels))) / 2


def _columns(
    q: Tensor, p: Tensor, n: Tensor | None, ids: Sequence[Tensor | None], info: GroupInfo
) -> tuple[Tensor, Tensor, Tensor]:
    """Return scores (b, N), which of them are left out, and the labels (b,)."""
    q_ids, p_ids, n_ids = ids
    labels = info.offset + torch.arange(len(q), device=q.device)
    hidden = _same(p_ids, info, labels) | _same(q_ids, info, labels)
    keys = all_gather_padded(p, info)
    if n is None:
        return dot(q, keys), hidden, labels
    hard = all_gather_padded(n, info).flatten(0, 1)
    aside = torch.zeros(len(q), len(hard), dtype=torch.bool, device=q.device)
    if n_ids is not None:
        columns = all_gather_padded(n_ids, info).flatten()
        aside |= columns < 0
        if p_ids is not None:
            aside |= p_ids[:, None] == columns
    return dot(q, torch.cat([keys, hard])), torch.cat([hidden, aside], 1), labels


def _owners(rows: int, H: int, device: torch.device) -> Tensor:
    """Return the row that each of rows * (1 + H) columns belongs to."""
    each = torch.arange(rows, device=device)
    return torch.cat([each, each.repeat_interleave(H)])


def _same(ids: Tensor | None, info: GroupInfo, labels: Tensor) -> Tensor:
    """Return (b, B): the column's id is the row's; never at the label."""
    if ids is None:
        return torch.zeros(len(labels), info.total, dtype=torch.bool, device=labels.device)
    same = ids[:, None] == all_gather_padded(ids, info)
    return same.scatter(1, labels[:, None], False)


def _not_drawn(
    hidden: Tensor, labels: Tensor, count: int, generator: torch.Generator | None
) -> Tensor:
    """Return the columns outside a random `count` of those in use and the label."""
    require(count >= 0, "n_max", "at least 0 negatives", count)
    keys = torch.rand(hidden.shape, generator=generator, device=hidden.device)
    keys = keys.masked_fill(hidden, -1.0).scatter(1, labels[:, None], 2.0)  # above all of rand's
    kept = keys.topk(min(count + 1, keys.shape[1]), dim=1).indices
    return torch.ones_like(hidden).scatter(1, kept, False)


def ance_pair(q: Tensor, p: Tensor, n: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of softplus(q . n - q . p): -log of p's share of the pair, for each hard negative.

    Args:
        q: (b, d); p: (b, d); n: (b, H, d).
        mask: (b, H) bool, False where a negative is padding.
    """
    _check_batch(q, p, n)
    scores = rows_dot(q, torch.cat([p[:, None], n], 1))
    return mean(functional.softplus(scores[:, 1:] - scores[:, :1]), mask)


def triplet_hinge(
    s_pos: Tensor, s_neg: Tensor, margin: float = 1.0, mask: Tensor | None = None
) -> Tensor:
    """Mean of relu(margin - s_pos + s_neg), scores (b,) and (b, H); `mask` (b, H): in use."""
    return mean(functional.relu(margin - _gap(s_pos, s_neg)), mask)


def clear_hinge(
    s_pos: Tensor,
    s_neg: Tensor,
    lex_pos: Tensor,
    lex_neg: Tensor,
    xi: float = 1.0,
    lam: float = 0.1,
    mask: Tensor | None = None,
) -> Tensor:
    """Mean of relu(xi - lam (lex_pos - lex_neg) - s_pos + s_neg): the residual margin of CLEAR.

    Where the lexical scores already part positive from negative, embeddings have less to do.

    Args:
        s_pos: (b,) scores of embeddings; s_neg: (b,) or (b, H); lex_pos, lex_neg: lexical ones.
        xi: margin; lam: weight of the lexical scores; the defaults are the paper's.
        mask: as `s_neg`, bool, False for padding.
    """
    residual = xi - lam * _gap(lex_pos, lex_neg)
    return mean(functional.relu(residual - _gap(s_pos, s_neg)), mask)


def margin_mse(
    s_pos: Tensor, s_neg: Tensor, t_pos: Tensor, t_neg: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Mean of ((s_pos - s_neg) - (t_pos - t_neg))^2 of student and teacher, (b,) and (b, H)."""
    return mean((_gap(s_pos, s_neg) - _gap(t_pos, t_neg)).square(), mask)


def kd_kl(
    student: Tensor,
    teacher: Tensor,
    tau_s: float = 1.0,
    tau_t: float = 1.0,
    mask: Tensor | None = None,
    *,
    rescale: bool = True,
) -> Tensor:
    """Mean over lists of KL(softmax(teacher / tau_t) || softmax(student / tau_s)).

    Args:
        student: (b, C) scores; teacher: (b, C) scores; both carry gradients.
        tau_s: temperature of the student; tau_t: of the teacher.
        mask: (b, C) bool, False for padding; a list without candidates counts as 0.
        rescale: times tau_s^2, which keeps gradients of one size (Hinton et al., 2015).
    """
    goal, log_goal = _softmax(teacher, tau_t, mask)
    _, log_student = _softmax(student, tau_s, mask)
    loss = mean((goal * (log_goal - log_student)).sum(1))
    return loss * tau_s**2 if rescale else loss


def kd_listnet(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean over lists of -sum softmax(teacher) log softmax(student), (b, C); `mask` as kd_kl's."""
    goal, _ = _softmax(teacher, 1.0, mask)
    return mean(-(goal * _softmax(student, 1.0, mask)[1]).sum(1))


def kd_inbatch(
    q: Tensor, p: Tensor, teacher: Tensor, gamma: float, tau: float, group: Group | None = None
) -> Tensor:
    """gamma CE(own positive) + (1 - gamma) KL(softmax(teacher / tau) || softmax(q . P)).

    Args:
        q: (b, d); p: (b, d).
        teacher: (b, B) scores of local queries with the positives of all ranks, by rank.
        gamma: weight of the labels; tau: temperature of the teacher's scores.
    """
    _check_batch(q, p, None, tau)
    info = group_info(len(q), group, q.device)
    check_shape(teacher, "teacher", len(q), info.total)
    log_p = torch.log_softmax(dot(q, all_gather_padded(p, info)), 1)
    labels = info.offset + torch.arange(len(q), device=q.device)
    goal, log_goal = _softmax(teacher, tau, None)
    divergence = (goal * (log_goal - log_p)).sum(1)
    own = functional.nll_loss(log_p, labels, reduction="none")
    return info.mean(gamma * own + (1 - gamma) * divergence)


def joint_listwise(dual: Tensor, cross: Tensor, gold: int = 0) -> Tensor:
    """CE(cross, gold) + KL(softmax(cross) || softmax(dual)): both encoders are trained.

    Args:
        dual: (b, C) scores of the dual encoder; cross: (b, C) of the cross-encoder.
        gold: the column of the positive.
    """
    check_shape(dual, "dual", *cross.shape)
    labels = torch.full((len(cross),), gold, dtype=torch.int64, device=cross.device)
    own = mean(functional.cross_entropy(wide(cross), labels, reduction="none"))
    return own + kd_kl(dual, cross)


def confirmed(label: Tensor, teacher: Tensor) -> Tensor:
    """Weigh a teacher's score by how far the label confirms it; 1 without a label. Our own choice.

    Args:
        label: (b,) in [0, 1], below 0 where there is none; teacher: (b,) in [0, 1].
    """
    return torch.where(label < 0, 1.0, 1 - (label - teacher).abs())


def weak_label(
    student: Tensor,
    teacher: Tensor,
    label: Tensor,
    weight_fn: Callable[[Tensor, Tensor], Tensor] = confirmed,
    *,
    kind: str = "bce",
) -> Tensor:
    """Mean of weight_fn(label, teacher) times the error of `student` against the teacher's score.

    Args:
        student: (b,) logits for "bce", scores for "mse".
        teacher: (b,) the annotator's scores, in [0, 1] for "bce": the targets.
        label: (b,) as `weight_fn` reads it.
        weight_fn: (label, teacher) -> (b,) weights.
        kind: "bce" or "mse".
    """
    check_shape(student, "student", "b")
    check_shape(teacher, "teacher", len(student))
    check_shape(label, "label", len(student))
    score, goal = wide(student), wide(teacher)
    require_choice(kind, "kind", "bce", "mse")
    if kind == "bce":
        error = functional.binary_cross_entropy_with_logits(score, goal, reduction="none")
    else:
        error = (score - goal).square()
    return mean(weight_fn(wide(label), goal) * error)


def joint(terms: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Weighted sum of 0-d terms; `joint_report` says what each contributes."""
    fine = terms and len(terms) == len(weights)
    require(fine, "weights", f"one per term ({len(terms)})", len(weights))
    return torch.stack([weight * term for term, weight in zip(terms, weights, strict=True)]).sum()


def joint_report(
    terms: Sequence[Tensor], weights: Sequence[float], parameters: Iterable[Tensor]
) -> list[dict[str, float]]:
    """Value and weighted gradient norm of each term of `joint`, before its backward pass.

    Returns:
        A dict per term: "value", "weight", "grad_norm" of weight * term over `parameters`.
    """
    wanted = [parameter for parameter in parameters if parameter.requires_grad]
    report = []
    for term, weight in zip(terms, weights, strict=True):
        grads = torch.autograd.grad(weight * term, wanted, retain_graph=True, allow_unused=True)
        squares = sum(float(grad.double().square().sum()) for grad in grads if grad is not None)
        report.append({"value": float(term.detach()), "weight": weight, "grad_norm": squares**0.5})
    return report


def _gap(first: Tensor, second: Tensor) -> Tensor:
    """first - second, (b,) and (b,) or (b, H)."""
    if first.ndim < second.ndim:
        first = first[:, None]
    fine = first.ndim == second.ndim and len(first) == len(second)
    expected = "(b,) for positives and (b,) or (b, H) for negatives"
    require(fine, "scores", expected, f"{tuple(first.shape)} and {tuple(second.shape)}")
    return wide(first) - wide(second)


def _softmax(scores: Tensor, tau: float, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Softmax over lists and its logarithm, both 0 where there is no candidate."""
    check_shape(scores, "scores", "b", "C")
    check_shape(mask, "mask", *scores.shape)
    return masked_softmax(wide(scores) / tau, mask)


def _cross_entropy(logits: Tensor, hidden: Tensor, labels: Tensor) -> Tensor:
    shown = logits.masked_fill(hidden, -torch.inf)
    return functional.cross_entropy(shown, labels, reduction="none")


def _check_batch(q: Tensor, p: Tensor, n: Tensor | None, tau: float | Tensor = 1.0) -> int:
    """Check embeddings and temperature; return H."""
    check_shape(q, "q", "b", "d")
    check_shape(p, "p", *q.shape)
    check_shape(n, "n", len(q), "H", q.shape[1])
    require(isinstance(tau, Tensor) or tau > 0, "tau", "a temperature above 0", tau)
    return 0 if n is None else n.shape[1]
