# SPDX-License-Identifier: Apache-2.0
"""What all quantizers have in common: their verbs, and the words of their errors."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bigrain.quant import OPQ, PQ, Quantizer, RaBitQ, ScalarQuantizer

MAKERS: list[Callable[[], Any]] = [
    lambda: PQ(4),
    lambda: PQ(4, 4),
    lambda: OPQ(4, 4, n_iter=2),
    lambda: RaBitQ(1),
    lambda: RaBitQ(4),
    lambda: ScalarQuantizer(8),
    lambda: ScalarQuantizer(4),
]
each = pytest.mark.parametrize("make", MAKERS, ids=lambda make: repr(make()))


def sample(rows: int = 300, dim: int = 12) -> Any:
    return np.random.default_rng(5).standard_normal((rows, dim)).astype(np.float32)


@each
def test_the_verbs(make: Callable[[], Any]) -> None:
    x = sample()
    q = make()
    assert not q.is_fitted
    assert q.fit(x, threads=1, seed=3) is q
    assert q.is_fitted
    assert isinstance(q, Quantizer)
    codes = q.encode(x)
    assert codes.dtype == np.uint8
    assert codes.shape == (300, q.code_size)
    assert q.decode(codes).shape == (300, q.dim) == x.shape
    near = q.distance(x[:3], codes, "l2")
    assert near.shape == (3, 300)
    assert near.dtype == np.float32
    np.testing.assert_array_equal(q.distance(x[1], codes, "l2"), near[1])


@each
def test_threads_and_pickle_keep_the_bytes(make: Callable[[], Any]) -> None:
    x = sample()
    q, other = make().fit(x, threads=1), make().fit(x, threads=3)
    codes = q.encode(x, threads=1)
    np.testing.assert_array_equal(codes, other.encode(x, threads=3))
    copy = pickle.loads(pickle.dumps(q))
    np.testing.assert_array_equal(codes, copy.encode(x))
    np.testing.assert_array_equal(q.distance(x[:2], codes, "ip"), copy.distance(x[:2], codes, "ip"))


@each
def test_errors_have_the_same_words(make: Callable[[], Any]) -> None:
    x = sample()
    with pytest.raises(ValueError, match=r"not fitted; call fit\(x\) first"):
        make().encode(x)
    with pytest.raises(ValueError, match=r"x: expected at least .* rows?, .*, found 0"):
        make().fit(x[:0])
    with pytest.raises(ValueError, match="seed: expected 0 to"):
        make().fit(x, seed=-1)
    q = make().fit(x)
    codes = q.encode(x)
    with pytest.raises(ValueError, match="x: the quantizer has 12 dimensions"):
        q.encode(x[:, :5])
    with pytest.raises(ValueError, match="queries: the quantizer has 12 dimensions"):
        q.distance(x[0, :5], codes)
    with pytest.raises(TypeError, match="codes: expected uint8"):
        q.decode(codes.astype(np.int32))
    with pytest.raises(ValueError, match="codes: expected shape"):
        q.decode(codes[:, :-1])
    with pytest.raises(ValueError, match="metric: expected one of"):
        q.distance(x, codes, "dot")
    with pytest.raises(ValueError, match="threads: expected"):
        q.encode(x, threads=-1)
