# SPDX-License-Identifier: Apache-2.0
"""The rotation of OPQ: what it gains, its arrays in and out, and its arguments at their limits."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from bigrain import Cancelled, _core
from bigrain.quant import OPQ, PQ, Quantizer


def data(rows: int, dim: int, seed: int = 0) -> np.ndarray:
    """Rows whose variance lies in few directions, none of them an axis."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(99).normal(size=(dim, dim)) / (1 + np.arange(dim))[:, None]
    return (rng.normal(size=(rows, dim)) @ mix + 1).astype("f4")


def error(quantizer: Any, x: np.ndarray) -> float:
    return float(((quantizer.decode(quantizer.encode(x)) - x) ** 2).sum(axis=1).mean())


@pytest.fixture(scope="module", params=[(20, 5, 8, None), (20, 5, 4, None), (21, 4, 8, 14)])
def fitted(request: pytest.FixtureRequest) -> tuple[OPQ, np.ndarray]:
    dim, m, bits, d_out = request.param
    x = data(2000, dim)
    return OPQ(m, bits, d_out=d_out).fit(x), x


def test_the_rotation_pays(fitted: tuple[OPQ, np.ndarray]) -> None:
    opq, x = fitted
    assert error(opq, x) < 0.8 * error(PQ(opq.m, opq.bits).fit(x), x)
    gram = opq.rotation.T.astype("f8") @ opq.rotation
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)


def test_it_is_pq_of_rotated_vectors(fitted: tuple[OPQ, np.ndarray]) -> None:
    opq, x = fitted
    pq = PQ.from_codebooks(opq.codebooks, dim=opq.rotation.shape[1])
    codes = opq.encode(x)
    assert (pq.encode(x @ opq.rotation) == codes).mean() > 0.999
    np.testing.assert_allclose(opq.decode(codes), pq.decode(codes) @ opq.rotation.T, atol=1e-4)
    assert isinstance(opq, Quantizer)
    assert opq.dim == x.shape[1]


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
def test_distances_are_those_of_decoded_vectors(
    fitted: tuple[OPQ, np.ndarray], metric: Any
) -> None:
    opq, x = fitted
    codes, queries = opq.encode(x), data(5, opq.dim, 7).astype("f8")
    decoded = opq.decode(codes).astype("f8")
    found, products = opq.distance(queries, codes, metric), queries @ decoded.T
    bound = opq.distance_error(queries, metric)[:, None].astype("f8")
    norms = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(decoded, axis=1)
    expected = {
        "l2": ((queries[:, None] - decoded[None]) ** 2).sum(axis=2),
        "ip": -products,
        "cosine": 1 - products / norms,
    }[metric]
    bound = bound / norms if metric == "cosine" else bound
    assert (np.abs(found - expected) <= bound + 2e-5 * (1 + np.abs(expected).max())).all()
    np.testing.assert_array_equal(opq.distance(queries[2], codes, metric), found[2])


def test_arrays_make_the_same_quantizer(fitted: tuple[OPQ, np.ndarray]) -> None:
    opq, x = fitted
    for copy in (
        OPQ.from_arrays(opq.rotation, opq.codebooks),
        pickle.loads(pickle.dumps(opq)),
    ):
        assert copy.rotation.tobytes() == opq.rotation.tobytes()
        assert copy.codebooks.tobytes() == opq.codebooks.tobytes()
        np.testing.assert_array_equal(copy.encode(x), opq.encode(x))
    unfitted = pickle.loads(pickle.dumps(OPQ(3, d_out=7, n_iter=2)))
    assert not unfitted.is_fitted
    assert unfitted.fit(data(300, 8)).rotation.shape == (8, 7)


CHILD = """
import hashlib, numpy as np
from bigrain.quant import OPQ
x = (np.random.default_rng(0).normal(size=(900, 21)) @ np.random.default_rng(1).normal(
    size=(21, 21))).astype("f4")
for threads in (1, 3):
    opq = OPQ(5, d_out=19, n_iter=4).fit(x, threads=threads)
    codes = opq.encode(x, threads=threads)
    parts = (opq.rotation, opq.codebooks, codes, opq.decode(codes), opq.distance(x[:3], codes))
    print(hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest())
"""


def test_threads_and_instruction_sets_give_the_same_bytes() -> None:
    printed = [
        subprocess.run(
            [sys.executable, "-c", CHILD],
            env={**os.environ, "BIGRAIN_SIMD": isa},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for isa in _core.available_isas()
    ]
    assert len({line for lines in printed for line in lines.split()}) == 1, printed


@pytest.mark.parametrize(("dim", "m", "d_out"), [(1, 1, None), (2, 1, 1), (300, 7, 20)])
def test_extreme_shapes(dim: int, m: int, d_out: int | None) -> None:
    x = data(400, dim)
    opq = OPQ(m, 4, d_out=d_out, n_iter=3).fit(x)
    assert np.isfinite(opq.decode(opq.encode(x))).all()
    assert np.isfinite(opq.distance(x[0], opq.encode(x))).all()


def test_data_without_variance() -> None:
    for x in (np.zeros((256, 6)), np.full((256, 6), 3.5), np.eye(256, 6)):
        opq = OPQ(3, n_iter=5).fit(x)
        np.testing.assert_allclose(opq.decode(opq.encode(x)), x, atol=1e-4)
    flat = data(500, 6)
    flat[:, 2:] = 0  # directions without variance keep the rotation orthonormal
    assert error(OPQ(3, n_iter=5).fit(flat), flat) < 1e-2 * flat.var(axis=0).sum()


def test_other_types_are_their_float32_values() -> None:
    x = (20 * data(400, 6)).clip(-120, 120).astype("i1")
    opq, same = OPQ(3, 4, n_iter=2).fit(x), OPQ(3, 4, n_iter=2).fit(x.astype("f4"))
    assert opq.rotation.tobytes() == same.rotation.tobytes()
    np.testing.assert_array_equal(opq.encode(x), same.encode(x.astype("f4")))


def test_what_cannot_be_used_is_named() -> None:
    x = data(300, 8)
    fitted = OPQ(2, 4, n_iter=1).fit(x)
    books = fitted.codebooks
    cases: list[tuple[type[Exception], str, Any]] = [
        (ValueError, "at least 256 rows", lambda: OPQ(2).fit(x[:255])),
        (ValueError, "at least 9 dimensions", lambda: OPQ(9).fit(x)),
        (ValueError, "at least 9 dimensions", lambda: OPQ(2, d_out=9).fit(x)),
        (ValueError, "d_out: expected at least m = 4", lambda: OPQ(4, d_out=3)),
        (ValueError, "n_iter", lambda: OPQ(4, n_iter=-1)),
        (ValueError, "not fitted", lambda: OPQ(2).encode(x)),
        (ValueError, "not fitted", lambda: OPQ(2).rotation),
        (ValueError, "orthonormal", lambda: OPQ.from_arrays(2 * np.eye(8), books)),
        (ValueError, r"shape \(dim, d_out\)", lambda: OPQ.from_arrays(np.eye(7, 8), books)),
        (ValueError, "sub-vectors", lambda: OPQ.from_arrays(np.eye(9), books)),
        (TypeError, "float32", lambda: OPQ.from_arrays(np.eye(8, dtype=int), books)),
        (ValueError, "has 8 dimensions", lambda: fitted.encode(x[:, :7])),
        (Cancelled, "progress|cancel", lambda: OPQ(2).fit(x, progress=lambda *_: False)),
    ]
    for kind, words, call in cases:
        with pytest.raises(kind, match=words):
            call()
