# SPDX-License-Identifier: Apache-2.0
"""LearnedPQ: the engine's arithmetic, its gradients, its losses and what `fit` does to recall."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bigrain.quant import OPQ  # noqa: E402
from bigrain.train.losses import contrastive  # noqa: E402
from bigrain.train.quantize import LearnedPQ, MatchingLoss, distill_vq, mcl, recon  # noqa: E402

DIM, M = 18, 4  # sub-vectors of 5, 5, 4 and 4 coordinates


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def unit(rows: Any) -> Any:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def data() -> Any:
    """Queries see eight directions of their documents, the documents vary mostly in the others."""
    rng = np.random.default_rng(0)
    documents = rng.normal(size=(900, DIM)) * np.where(np.arange(DIM) < 8, 0.5, 1.0)
    queries = np.where(np.arange(DIM) < 8, documents, 0) + 0.1 * rng.normal(size=(900, DIM))
    return unit(queries), unit(documents), np.stack([np.arange(900)] * 2, 1)


@pytest.fixture(scope="module")
def start(data: Any) -> Any:
    return LearnedPQ(DIM, M).initialise(data[1], threads=1).export()


def double(start: Any) -> Any:
    pq = LearnedPQ.from_arrays(**start, temperature=0.1).double()
    with torch.no_grad():  # away from the start, where the rotation's gradient is special
        pq.skew.copy_(torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(1)) * 0.1)
    return pq


def hit_at_10(scores: Any) -> float:
    own = scores[np.arange(len(scores)), np.arange(len(scores))][:, None]
    return float(((scores > own).sum(1) < 10).mean())


@pytest.mark.parametrize("d_out", [DIM, 12])
def test_codes_scores_and_decode_are_the_engines(data: Any, d_out: int) -> None:
    queries, documents, pairs = data
    pq = LearnedPQ(DIM, M, d_out=d_out).fit(queries, documents, pairs, steps=5, threads=1)
    arrays = pq.export(documents, threads=1)
    opq = OPQ.from_arrays(arrays["rotation"], arrays["codebooks"])
    np.testing.assert_array_equal(opq.rotation, arrays["rotation"])
    np.testing.assert_array_equal(opq.codebooks, arrays["codebooks"])
    with torch.no_grad():
        found, codes, log_p = pq(torch.from_numpy(documents))
        scores = torch.from_numpy(queries[:50]) @ found.T
    differ = (codes.numpy() != arrays["codes"]).any(1)
    assert differ.mean() < 0.01
    # Where they differ, two codewords are equally far but for rounding.
    loss = [((documents - opq.decode(c)) ** 2).sum(1) for c in (codes.numpy(), arrays["codes"])]
    np.testing.assert_allclose(loss[0], loss[1], atol=1e-6)
    np.testing.assert_allclose(found.numpy(), opq.decode(codes.numpy()), atol=1e-6)
    np.testing.assert_allclose(
        opq.distance(queries[:50], codes.numpy(), "ip"), -scores.numpy(), atol=1e-6
    )
    assert log_p.shape == codes.shape == (900, M)
    assert codes.dtype == torch.uint8


def test_export_round_trips_bit_by_bit(data: Any, start: Any) -> None:
    pq = LearnedPQ.from_arrays(**start)
    with torch.no_grad():
        pq.skew.normal_(std=0.1, generator=torch.Generator().manual_seed(2))
    arrays = pq.export()
    wide = arrays["rotation"].astype(np.float64)
    np.testing.assert_allclose(wide.T @ wide, np.eye(DIM), atol=3e-7)
    np.testing.assert_allclose(arrays["rotation"], pq.rotation().detach().numpy(), atol=2e-6)
    again = LearnedPQ.from_arrays(**arrays)
    for copy in (again, pq.fold(), pickle.loads(pickle.dumps(again))):
        for name, array in copy.export().items():
            np.testing.assert_array_equal(array, arrays[name])
        np.testing.assert_array_equal(copy.rotation().detach().numpy(), arrays["rotation"])
    other = LearnedPQ(DIM, M)
    other.load_state_dict(again.state_dict())
    np.testing.assert_array_equal(other.export()["codebooks"], arrays["codebooks"])


def test_the_gradient_is_straight_through(start: Any) -> None:
    pq = double(start)
    x = torch.randn(7, DIM, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(7, DIM, dtype=torch.float64)
    books = pq.codebooks
    parts = torch.zeros(7, M, 5, dtype=torch.float64)
    real = [slice(0, 5), slice(5, 10), slice(10, 14), slice(14, 18)]
    rotated = x @ pq.rotation()
    parts = torch.stack(
        [torch.nn.functional.pad(rotated[:, s], (0, 5 - (s.stop - s.start))) for s in real], 1
    )
    p = torch.softmax(-((parts[:, :, None] - books) ** 2).sum(-1) / 0.1, -1)
    hard = torch.nn.functional.one_hot(p.argmax(-1), 256).double()
    e = (hard - p).detach() + p
    # The softmax's way to a codeword that is only averaged is left out (see `forward`).
    out = torch.einsum("nmk,mks->nms", hard, books) - torch.einsum(
        "nmk,mks->nms", hard - e, books.detach()
    )
    joined = torch.cat([out[:, i, : s.stop - s.start] for i, s in enumerate(real)], 1)
    expected = ((joined @ pq.rotation().T) * weights).sum()
    parameters = [x, pq.codebooks, pq.skew]
    wanted = torch.autograd.grad(expected, parameters)
    found = torch.autograd.grad((pq(x)[0] * weights).sum(), parameters)
    for one, two in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, two)
        assert two.abs().max() > 0


def test_gradcheck_of_the_losses(start: Any) -> None:
    """Codes are given: between two of them nothing has a derivative."""
    pq = double(start)
    gen = torch.Generator().manual_seed(3)
    q, k = (torch.randn(3, DIM, dtype=torch.float64, generator=gen) for _ in range(2))
    codes = pq(k)[1]
    pairs = torch.tensor([[0, 1], [1, 2], [2, 0]])
    centroids = torch.randn(2, DIM, dtype=torch.float64, generator=gen)

    def losses(q: Any, k: Any, turn: Any, shift: Any, centroids: Any) -> Any:
        moved = {
            "skew": pq.skew + turn * torch.ones(DIM, DIM).triu(1),
            "codebooks": pq.codebooks + shift[:, None],
        }
        call = lambda x, codes=None: torch.func.functional_call(pq, moved, (x, codes))  # noqa: E731
        return torch.stack(
            [
                mcl(q, k, call, tau=0.5, w_dense=0.3, w_like=0.2, eps=0.1, codes=codes),
                distill_vq(q, k, call, pairs, centroids, tau=0.5, codes=codes),
                recon(call, k, codes),
            ]
        )

    turn, shift = torch.zeros(1).double(), torch.zeros(M, 5).double()
    inputs = [x.clone().requires_grad_() for x in (q, k, turn, shift, centroids)]
    assert torch.autograd.gradcheck(losses, inputs)


def test_losses_are_their_definitions(start: Any) -> None:
    pq = LearnedPQ.from_arrays(**start)
    gen = torch.Generator().manual_seed(4)
    q, k = torch.randn(5, DIM, generator=gen), torch.randn(5, DIM, generator=gen)
    n = torch.randn(5, 2, DIM, generator=gen)
    ids = torch.tensor([3, 4, 3, 5, 6])
    hard = pq(n.reshape(10, DIM))[0].reshape(n.shape)
    made, _, log_p = pq(k)
    wanted = contrastive(q, made, hard, tau=0.5, p_ids=ids)
    wanted += 0.3 * contrastive(q, k, n, tau=0.5, p_ids=ids)
    wanted += -0.2 * log_p.sum(1).mean() + 0.1 * ((k - made) ** 2).sum(1).mean()
    options = {"tau": 0.5, "w_dense": 0.3, "w_like": 0.2, "eps": 0.1}
    torch.testing.assert_close(mcl(q, k, pq, n, p_ids=ids, **options), wanted)
    torch.testing.assert_close(MatchingLoss(pq, **options)(q, k, n, p_ids=ids), wanted)
    cand = torch.tensor([[0, 1, 2]] * 5)
    goal = torch.softmax((q @ k.T)[:, :3] / 2, 1)
    wanted = -(goal * torch.log_softmax((q @ made.T)[:, :3] / 2, 1)).sum(1).mean()
    torch.testing.assert_close(distill_vq(q, k, pq, cand, tau=2.0), wanted)
    torch.testing.assert_close(recon(pq, k), ((k - made) ** 2).sum(1).mean())


def test_losses_fall_and_matching_raises_recall(data: Any, start: Any) -> None:
    queries, documents, pairs = data
    q, d = torch.from_numpy(queries), torch.from_numpy(documents)
    everything = torch.arange(900).expand(900, -1)
    reached, apart = {}, {}
    for loss in ("mcl", "listnet", "recon"):
        given = pairs if loss == "mcl" else None
        pq = LearnedPQ.from_arrays(**start, temperature=0.01)
        pq.fit(queries, documents, given, loss=loss, steps=60, lr=3e-3, threads=1)
        with torch.no_grad():
            reached[loss] = hit_at_10((q @ pq(d)[0].T).numpy())
            apart[loss] = distill_vq(q, d, pq, everything, tau=0.05).item()
        if loss != "recon":  # whose start is its optimum
            assert np.mean(pq.history[-10:]) < np.mean(pq.history[:10])
    assert reached["mcl"] > reached["recon"] + 0.2, reached
    assert apart["listnet"] < apart["recon"] - 0.02, apart


def test_one_seed_is_one_result(data: Any, start: Any) -> None:
    def run(seed: int) -> Any:
        return LearnedPQ.from_arrays(**start).fit(*data, steps=5, seed=seed, threads=1).export()

    one, two, other = run(1), run(1), run(2)
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
        assert not np.array_equal(one[name], other[name])


def test_frozen_codes_stay_and_lists_may_be_given(data: Any, start: Any) -> None:
    queries, documents, _ = data
    pq = LearnedPQ.from_arrays(**start)
    codes = pq(torch.from_numpy(documents))[1].numpy()
    near = np.argsort(-queries @ documents.T, 1)[:, :20]
    pq.fit(queries, documents, loss="listnet", candidates=near, freeze_codes=True, steps=10)
    exported = pq.export()
    np.testing.assert_array_equal(exported["codes"], codes)
    assert not np.array_equal(exported["codebooks"], start["codebooks"])
    given = LearnedPQ.from_arrays(**start).fit(
        queries, documents, loss="listnet", candidates=near, steps=3, threads=1
    )
    found = LearnedPQ.from_arrays(**start).fit(
        queries, documents, loss="listnet", candidates=20, steps=3, threads=1
    )
    np.testing.assert_allclose(given.history, found.history, rtol=1e-4)


def test_an_encoder_trains_with_it(data: Any, start: Any) -> None:
    queries, documents, _ = (torch.from_numpy(x) for x in data)
    pq, encoder = LearnedPQ.from_arrays(**start), torch.nn.Linear(DIM, DIM)
    loss = MatchingLoss(pq, tau=0.05, w_like=0.0)
    optimizer = torch.optim.Adam([*encoder.parameters(), *loss.parameters()], 1e-2)
    values = []
    for _ in range(20):
        q, k = (torch.nn.functional.normalize(encoder(x[:200])) for x in (queries, documents))
        value = loss(q, k, p_ids=torch.arange(200))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0] - 0.5
    assert not np.array_equal(pq.export()["rotation"], start["rotation"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "mse"}, "loss: expected 'mcl'"),
        ({"pairs": None}, "pairs: 'mcl' needs them"),
        ({"pairs": np.array([[0, 900]])}, "pairs.*: expected rows 0 to"),
        ({"pairs": np.array([[-1, 3]])}, "pairs.*: expected rows 0 to"),
        ({"pairs": np.arange(9)}, r"pairs: expected shape \(n, 2\)"),
        ({"q_emb": np.zeros((5, 3))}, "q_emb: expected shape"),
        ({"d_emb": np.full((300, DIM), np.nan)}, "d_emb"),
        ({"steps": 0}, "steps"),
        ({"batch_size": 901}, "batch_size"),
        (
            {"loss": "listnet", "candidates": np.zeros((3, 4), int)},
            r"candidates: expected shape \(900, c\)",
        ),
    ],
)
def test_bad_input(data: Any, start: Any, arguments: Any, message: str) -> None:
    given = {"q_emb": data[0], "d_emb": data[1], "pairs": data[2], **arguments}
    with pytest.raises(ValueError, match=message):
        LearnedPQ.from_arrays(**start).fit(**given)


def test_bad_construction(start: Any) -> None:
    with pytest.raises(ValueError, match="m"):
        LearnedPQ(4, 5)
    with pytest.raises(ValueError, match="temperature: expected a number above 0"):
        LearnedPQ(4, 2, temperature=0)
    with pytest.raises(ValueError, match="not fitted"):
        LearnedPQ(4, 2).export()
    with pytest.raises(ValueError, match="orthonormal"):
        LearnedPQ.from_arrays(start["rotation"] * 2, start["codebooks"])
    with pytest.raises(ValueError, match="codebooks: expected 256"):
        LearnedPQ.from_arrays(start["rotation"], start["codebooks"][:, :16])
    with pytest.raises(TypeError, match="pairs: expected int64"):
        LearnedPQ(DIM, M).fit(np.ones((300, DIM)), np.ones((300, DIM)), np.ones((3, 2)))
    with pytest.raises(ValueError, match="dimensions"):
        LearnedPQ(DIM, M).initialise(np.ones((300, DIM + 1), np.float32))
