# SPDX-License-Identifier: Apache-2.0
"""Product quantization against a NumPy reference, and its arguments at their limits."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigrain import Cancelled, _core
from bigrain.quant import PQ, Quantizer

ROWS = 700


def data(rows: int, dim: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(20, dim))
    return (centres[rng.integers(20, size=rows)] + 0.4 * rng.normal(size=(rows, dim))).astype("f4")


def starts(dim: int, m: int) -> list[int]:
    """Sub-vector i is coordinates starts[i] to starts[i + 1]: the reference of the layout."""
    return [sum(dim // m + (j < dim % m) for j in range(i)) for i in range(m + 1)]


def sub_codes(codes: np.ndarray, m: int, bits: int) -> np.ndarray:
    """One column per sub-vector."""
    if bits == 8:
        return codes
    return np.stack([codes & 15, codes >> 4], axis=2).reshape(len(codes), -1)[:, :m]


def reference_encode(pq: PQ, x: np.ndarray) -> np.ndarray:
    """The documented rule in float64; ties and rounding aside it gives the same codes."""
    edges, books = starts(pq.dim, pq.m), pq.codebooks.astype("f8")
    columns = []
    for i in range(pq.m):
        part = x[:, edges[i] : edges[i + 1]].astype("f8")
        book = books[i, :, : part.shape[1]]
        columns.append(((part[:, None] - book[None]) ** 2).sum(axis=2).argmin(axis=1))
    return np.stack(columns, axis=1)


def reference_decode(pq: PQ, codes: np.ndarray) -> np.ndarray:
    edges, subs = starts(pq.dim, pq.m), sub_codes(codes, pq.m, pq.bits)
    parts = [pq.codebooks[i, subs[:, i], : edges[i + 1] - edges[i]] for i in range(pq.m)]
    return np.concatenate(parts, axis=1)


def reference_distance(queries: np.ndarray, decoded: np.ndarray, metric: str) -> np.ndarray:
    queries, decoded = queries.astype("f8"), decoded.astype("f8")
    if metric == "l2":
        return ((queries[:, None] - decoded[None]) ** 2).sum(axis=2)
    products = queries @ decoded.T
    if metric == "ip":
        return -products
    norms = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(decoded, axis=1)
    return 1 - np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)


@pytest.fixture(scope="module", params=[(24, 6, 8), (24, 6, 4), (25, 7, 8), (25, 7, 4), (3, 3, 4)])
def fitted(request: pytest.FixtureRequest) -> tuple[PQ, np.ndarray]:
    dim, m, bits = request.param
    x = data(ROWS, dim)
    return PQ(m, bits).fit(x, threads=2), x


def test_encode_and_decode_follow_the_reference(fitted: tuple[PQ, np.ndarray]) -> None:
    pq, x = fitted
    codes = pq.encode(x)
    assert codes.dtype == np.uint8
    assert codes.shape == (ROWS, pq.code_size)
    assert (sub_codes(codes, pq.m, pq.bits) == reference_encode(pq, x)).mean() > 0.9999
    np.testing.assert_array_equal(pq.decode(codes), reference_decode(pq, codes))
    best = reference_decode(pq, pack(reference_encode(pq, x), pq.bits))
    errors = ((pq.decode(codes) - x) ** 2).sum(axis=1)
    np.testing.assert_allclose(errors, ((best - x) ** 2).sum(axis=1), rtol=1e-5, atol=1e-6)


def pack(subs: np.ndarray, bits: int) -> np.ndarray:
    if bits == 8:
        return subs.astype("u1")
    even = np.pad(subs, ((0, 0), (0, subs.shape[1] % 2)))
    return (even[:, ::2] | even[:, 1::2] << 4).astype("u1")


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
def test_distances_are_those_of_decoded_vectors(fitted: tuple[PQ, np.ndarray], metric: Any) -> None:
    pq, x = fitted
    codes, queries = pq.encode(x), data(4, pq.dim, 9)
    found = pq.distance(queries, codes, metric)
    expected = reference_distance(queries, pq.decode(codes), metric)
    bound = pq.distance_error(queries, metric)[:, None].astype("f8")
    assert (bound > 0).all() if pq.bits == 4 else (bound == 0).all()
    if metric == "cosine":
        bound = bound / (np.linalg.norm(queries, axis=1)[:, None] * norms_of(pq, codes))
    assert (np.abs(found - expected) <= bound + 1e-5 * (1 + np.abs(expected).max())).all()
    np.testing.assert_array_equal(pq.distance(queries[1], codes, metric), found[1])


def norms_of(pq: PQ, codes: np.ndarray) -> np.ndarray:
    return np.linalg.norm(pq.decode(codes).astype("f8"), axis=1)


def test_codebooks_make_the_same_quantizer(fitted: tuple[PQ, np.ndarray]) -> None:
    pq, x = fitted
    codes = pq.encode(x)
    for copy in (
        PQ.from_codebooks(pq.codebooks, dim=pq.dim),
        pickle.loads(pickle.dumps(pq)),
    ):
        assert copy.codebooks.tobytes() == pq.codebooks.tobytes()
        np.testing.assert_array_equal(copy.encode(x), codes)
        assert (copy.m, copy.bits, copy.dim, copy.is_fitted) == (pq.m, pq.bits, pq.dim, True)


def test_threads_and_seeds() -> None:
    x = data(5000, 12)
    books = [PQ(4).fit(x, threads=t, seed=3).codebooks.tobytes() for t in (1, 2, 5)]
    assert books[0] == books[1] == books[2]
    assert PQ(4).fit(x, seed=4).codebooks.tobytes() != books[0]


CHILD = """
import hashlib, numpy as np
from bigrain.quant import PQ
x = np.random.default_rng(0).normal(size=(3000, 21)).astype("f4") + 3
for bits in (4, 8):
    pq = PQ(5, bits).fit(x, threads=2)
    codes = pq.encode(x)
    print(hashlib.sha256(pq.codebooks.tobytes() + codes.tobytes()
          + pq.distance(x[:3], codes, "l2").tobytes()).hexdigest())
"""


def test_every_instruction_set_gives_the_same_bytes() -> None:
    printed = {
        isa: subprocess.run(
            [sys.executable, "-c", CHILD],
            env={**os.environ, "BIGRAIN_SIMD": isa},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for isa in _core.available_isas()
    }
    assert len(set(printed.values())) == 1, printed


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "uint8"])
def test_other_types_are_their_float32_values(dtype: str) -> None:
    x = (10 * data(400, 6)).astype(dtype)
    pq, same = PQ(3, 4).fit(x), PQ(3, 4).fit(x.astype("f4"))
    assert pq.codebooks.tobytes() == same.codebooks.tobytes()
    np.testing.assert_array_equal(pq.encode(x), same.encode(x.astype("f4")))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("dim", "m"), [(1, 1), (2, 1), (4096, 3), (4096, 512), (300, 300)])
def test_extreme_shapes(dim: int, m: int, bits: int) -> None:
    x = data(300, dim)
    pq = PQ(m, bits).fit(x)
    codes = pq.encode(x)
    assert codes.shape == (300, pq.code_size)
    np.testing.assert_allclose(pq.decode(codes), reference_decode(pq, codes), atol=1e-6)
    assert np.isfinite(pq.distance(x[0], codes)).all()


@pytest.mark.parametrize("bits", [4, 8])
def test_few_distinct_rows_lose_nothing(bits: int) -> None:
    for distinct in (1, 2, 16):
        x = np.repeat(data(distinct, 10, 5), -(-256 // distinct), axis=0)
        pq = PQ(3, bits).fit(x)
        np.testing.assert_allclose(pq.decode(pq.encode(x)), x, atol=1e-5)
    zeros = np.zeros((256, 10), np.float32)
    assert not PQ(3, bits).fit(zeros).decode(PQ(3, bits).fit(zeros).encode(zeros)).any()


@settings(max_examples=40, deadline=None)
@given(
    dim=st.integers(1, 40),
    parts=st.floats(0, 1),
    bits=st.sampled_from([4, 8]),
    scale=st.sampled_from([1e-20, 1e-3, 1.0, 1e4, 1e15]),
    offset=st.sampled_from([0.0, 1.0, -1e3]),
    seed=st.integers(0, 99),
)
def test_any_shape_and_scale(
    dim: int, parts: float, bits: int, scale: float, offset: float, seed: int
) -> None:
    m = max(1, round(parts * dim))
    x = ((data(290, dim, seed) + offset) * scale).astype("f4")
    pq = PQ(m, bits, iterations=3).fit(x, seed=seed)
    codes = pq.encode(x)
    np.testing.assert_array_equal(pq.decode(codes), reference_decode(pq, codes))
    spread = ((x - x.mean(axis=0)) ** 2).sum() / scale**2
    assert ((pq.decode(codes) - x) ** 2).sum() / scale**2 <= spread * 1.001 + 1e-6 * dim * (
        1 + offset**2
    )


def test_what_cannot_be_used_is_named() -> None:
    x = data(300, 8)
    fitted = PQ(2, 4).fit(x)
    bad = x.copy()
    bad[7, 3] = np.nan
    cases: list[tuple[type[Exception], str, Any]] = [
        (ValueError, "row 7 contains NaN", lambda: PQ(2).fit(bad)),
        (ValueError, "row 7 contains NaN", lambda: fitted.encode(bad)),
        (ValueError, "at least 256 rows", lambda: PQ(2).fit(x[:255])),
        (ValueError, "at least 16 rows", lambda: PQ(2, 4).fit(x[:15])),
        (ValueError, "at least m = 9 dimensions", lambda: PQ(9).fit(x)),
        (ValueError, "bits: expected 4 or 8", lambda: PQ(2, 5)),
        (ValueError, "m: expected", lambda: PQ(0)),
        (TypeError, "m: expected an integer", lambda: PQ(2.5)),  # type: ignore[arg-type]
        (ValueError, "not fitted", lambda: PQ(2).encode(x)),
        (ValueError, "not fitted", lambda: PQ(2).dim),
        (ValueError, "has 8 dimensions", lambda: fitted.encode(x[:, :7])),
        (ValueError, "has 8 dimensions", lambda: fitted.distance(x[:, :7], fitted.encode(x))),
        (ValueError, r"shape \(n, 1\)", lambda: fitted.decode(np.zeros((3, 2), np.uint8))),
        (TypeError, "expected uint8", lambda: fitted.decode(np.zeros((3, 1), np.int64))),
        (ValueError, "metric", lambda: fitted.distance(x, fitted.encode(x), "l1")),
        (ValueError, "2-D", lambda: PQ(2).fit(x[0])),
        (ValueError, "codebooks: expected shape", lambda: PQ.from_codebooks(np.zeros((2, 17, 4)))),
        (TypeError, "float32", lambda: PQ.from_codebooks(np.zeros((2, 16, 4), int))),
        (ValueError, "NaN", lambda: PQ.from_codebooks(np.full((2, 16, 4), np.nan))),
        (ValueError, "sub-vectors", lambda: PQ.from_codebooks(np.zeros((2, 16, 4)), dim=9)),
        (Cancelled, "progress|cancel", lambda: PQ(2).fit(x, progress=lambda *_: False)),
    ]
    for kind, words, call in cases:
        with pytest.raises(kind, match=words):
            call()
    assert not PQ(2).is_fitted
    assert isinstance(fitted, Quantizer)


def test_empty_inputs() -> None:
    pq = PQ(2, 4).fit(data(300, 8))
    nothing = np.empty((0, 8), np.float32)
    codes = pq.encode(nothing)
    assert codes.shape == (0, 1)
    assert pq.decode(codes).shape == (0, 8)
    assert pq.distance(nothing, pq.encode(data(3, 8))).shape == (0, 3)
    assert pq.distance(data(2, 8), codes).shape == (2, 0)


def test_progress_ends_at_its_total() -> None:
    seen: list[tuple[int, int]] = []
    PQ(3).fit(data(3000, 9), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] > 0


def test_pickle_of_the_unfitted() -> None:
    copy = pickle.loads(pickle.dumps(PQ(3, 4, iterations=7)))
    assert repr(copy) == "PQ(m=3, bits=4, not fitted)"
    digest = hashlib.sha256(copy.fit(data(300, 9)).codebooks.tobytes()).hexdigest()
    assert (
        digest
        == hashlib.sha256(PQ(3, 4, iterations=7).fit(data(300, 9)).codebooks.tobytes()).hexdigest()
    )
