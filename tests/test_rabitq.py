# SPDX-License-Identifier: Apache-2.0
"""RaBitQ and the scalar quantizer: references in NumPy, bounds, arrays and pickles, errors."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import METRICS, make_vectors, oracle_distances
from hypothesis import given
from hypothesis import strategies as st

import bigrain
from bigrain.quant import RaBitQ, ScalarQuantizer

F64 = npt.NDArray[np.float64]
ALL = [RaBitQ(bits) for bits in range(1, 9)] + [ScalarQuantizer(bits) for bits in (4, 8)]
SOME = [RaBitQ(1), RaBitQ(4), ScalarQuantizer(4), ScalarQuantizer(8)]


def flip(x: F64, signs: npt.NDArray[np.uint8]) -> F64:
    bits = np.unpackbits(signs, bitorder="little")[: x.shape[1]]
    return np.where(bits == 1, -x, x)


def hadamard(x: F64) -> F64:
    size, step = x.shape[1], 1
    while step < size:
        x = x.reshape(len(x), -1, 2, step)
        x = np.stack([x[:, :, 0] + x[:, :, 1], x[:, :, 0] - x[:, :, 1]], axis=2)
        x, step = x.reshape(len(x), size), 2 * step
    return x / np.sqrt(size)


def butterfly(x: F64) -> F64:
    half, x = x.shape[1] // 2, x.copy()
    low, high = x[:, :half].copy(), x[:, x.shape[1] - half :].copy()
    x[:, :half] = (low + high) / np.sqrt(2)
    x[:, x.shape[1] - half :] = (low - high) / np.sqrt(2)
    return x


def rotate_back(x: F64, signs: npt.NDArray[np.uint8]) -> F64:
    """Undo the four rounds of the rotation, in double precision."""
    dim = x.shape[1]
    block = 1 << (dim.bit_length() - 1)
    for number, row in reversed(list(enumerate(signs.reshape(4, -1)))):
        if block != dim:
            x = butterfly(x)
        start = 0 if number % 2 == 0 else dim - block
        x = x.copy()
        x[:, start : start + block] = hadamard(x[:, start : start + block])
        x = flip(x, row)
    return x


def floats(codes: npt.NDArray[np.uint8], start: int, count: int) -> F64:
    part = np.ascontiguousarray(codes[:, start : start + 4 * count])
    return part.view(np.float32).astype(np.float64)


def open_rabitq(codes: npt.NDArray[np.uint8], dim: int, bits: int) -> tuple[F64, F64, F64]:
    """Grid points, squared norms and scales of records."""
    plane = (dim + 7) // 8
    starts = [0] + [plane + 12 + i * plane for i in range(bits - 1)]
    grid: F64 = np.full((len(codes), dim), -(2**bits - 1) / 2)
    for place, start in enumerate(starts):
        unpacked = np.unpackbits(codes[:, start : start + plane], axis=1, bitorder="little")
        grid += unpacked[:, :dim] * 2.0 ** (bits - 1 - place)
    norm, scale, _ = floats(codes, plane, 3).T
    if bits > 1:
        scale = floats(codes, codes.shape[1] - 8, 2)[:, 0]
    return grid, norm, scale


def open_scalar(codes: npt.NDArray[np.uint8], dim: int, bits: int) -> F64:
    scale = floats(codes, codes.shape[1] - 8, 2)[:, :1]
    if bits == 8:
        return scale * codes[:, :dim].view(np.int8)
    lines = codes.reshape(len(codes), -1, 64)
    nibbles = np.stack([lines & 15, lines >> 4], axis=2).astype(np.float64)
    body = nibbles[:, :-1].reshape(len(codes), -1)
    last = nibbles[:, -1, :, :56].reshape(len(codes), -1)
    return scale * (2 * np.concatenate([body, last], axis=1)[:, :dim] - 15)


def reference_decode(q: Any, codes: npt.NDArray[np.uint8]) -> F64:
    if isinstance(q, RaBitQ):
        grid, norm, scale = open_rabitq(codes, q.dim, q.bits)
        product = np.divide(norm, scale, out=np.zeros_like(norm), where=scale > 0)
        rows = grid * (product / (grid**2).sum(axis=1))[:, None]
    else:
        rows = open_scalar(codes, q.dim, q.bits)
    return rotate_back(rows, q.signs) + q.centre


def fresh(q: Any) -> Any:
    return type(q)(q.bits)


@pytest.mark.parametrize("quantizer", ALL, ids=repr)
@pytest.mark.parametrize("dim", [1, 2, 3, 8, 17, 56, 57, 100, 112, 113, 130, 784])
def test_decode_equals_the_reference(quantizer: Any, dim: int) -> None:
    x = make_vectors(60, dim) + np.float32(0.5)
    q = fresh(quantizer).fit(x, seed=dim)
    codes = q.encode(x)
    assert codes.shape == (60, q.code_size)
    assert codes.dtype == np.uint8
    back = q.decode(codes)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    assert (np.abs(back - reference_decode(q, codes)) <= 1e-6 * length).all()


@pytest.mark.parametrize("bits", range(1, 9))
def test_rabitq_distances_equal_their_formula(bits: int) -> None:
    x, asked = make_vectors(200, 50) + np.float32(1), make_vectors(7, 50, seed=1)
    q = RaBitQ(bits).fit(x)
    codes = q.encode(x)
    grid, norm, scale = open_rabitq(codes, 50, bits)
    rows = rotate_back(grid * scale[:, None], q.signs)  # unbiased for inner products with x - c
    centred = asked.astype(np.float64) - q.centre
    l2 = (centred**2).sum(axis=1)[:, None] + norm - 2 * centred @ rows.T
    np.testing.assert_allclose(q.distance(asked, codes), np.maximum(l2, 0), rtol=1e-5, atol=1e-4)
    ip = -(asked @ rows.T + (asked @ q.centre)[:, None])
    np.testing.assert_allclose(q.distance(asked, codes, "ip"), ip, rtol=1e-5, atol=1e-4)
    length = np.sqrt((q.centre**2).sum() + 2 * rows @ q.centre + norm)
    cosine = 1 + ip / np.linalg.norm(asked, axis=1)[:, None] / length
    np.testing.assert_allclose(q.distance(asked, codes, "cosine"), cosine, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("metric", METRICS)
def test_scalar_distances_are_those_of_the_decoded_vectors(bits: int, metric: str) -> None:
    x, asked = make_vectors(300, 70) + np.float32(0.3), make_vectors(20, 70, seed=1)
    q = ScalarQuantizer(bits).fit(x)
    codes = q.encode(x)
    truth = oracle_distances(q.decode(codes), asked, metric)
    got = q.distance(asked, codes, metric)  # type: ignore[arg-type]
    # The query's own 8 bits: a few thousandths of a length.
    assert np.abs(got - truth).max() < 0.01 * np.abs(truth).max()


@pytest.mark.parametrize("dim", [64, 300])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_bounds_hold_at_their_rate(metric: Any, bits: int, dim: int) -> None:
    rng = np.random.default_rng(5)
    x = (rng.standard_normal((1500, dim)) * rng.gamma(2, 1, (1500, 1)) + 0.3).astype(np.float32)
    asked = (x[:8] + 0.5 * rng.standard_normal((8, dim))).astype(np.float32)
    truth = oracle_distances(x, asked, metric)
    for epsilon, least, most in ((1.0, 0.62, 0.74), (1.9, 0.925, 0.965), (3.0, 0.99, 1.0)):
        inside = []
        for seed in range(3):
            q = RaBitQ(bits).fit(x, seed=seed)
            found = q.distance_bounds(asked, codes := q.encode(x), metric, epsilon=epsilon)
            np.testing.assert_array_equal(found.estimate, q.distance(asked, codes, metric))
            assert (found.lower <= found.estimate).all()
            assert (found.estimate <= found.upper).all()
            inside.append((found.lower <= truth) & (truth <= found.upper))
        assert least < np.mean(inside) <= most


def test_the_first_bytes_are_one_bit_records() -> None:
    x = make_vectors(100, 77)
    q = RaBitQ(6).fit(x)
    first = q.first_bit()
    codes = q.encode(x)
    np.testing.assert_array_equal(codes[:, : first.code_size], first.encode(x))
    assert first.distance(x[0], codes[:, : first.code_size]).shape == (100,)


@pytest.mark.parametrize("quantizer", SOME, ids=repr)
def test_arrays_and_pickles_carry_every_bit(quantizer: Any) -> None:
    x = make_vectors(500, 45)
    q = fresh(quantizer).fit(x, seed=9)
    codes = q.encode(x)
    again = type(q).from_arrays(q.bits, q.centre, q.signs)
    for other in (again, pickle.loads(pickle.dumps(q))):
        assert other.centre.tobytes() == q.centre.tobytes()
        assert other.signs.tobytes() == q.signs.tobytes()
        np.testing.assert_array_equal(other.encode(x), codes)
        assert other.distance(x, codes).tobytes() == q.distance(x, codes).tobytes()
    empty = pickle.loads(pickle.dumps(fresh(q)))
    assert not empty.is_fitted
    assert repr(empty) == repr(fresh(q))


@pytest.mark.parametrize("quantizer", SOME, ids=repr)
def test_threads_do_not_change_a_bit(quantizer: Any) -> None:
    x, asked = make_vectors(3000, 40), make_vectors(300, 40, seed=1)
    one, seven = fresh(quantizer).fit(x, threads=1), fresh(quantizer).fit(x, threads=7)
    assert one.centre.tobytes() == seven.centre.tobytes()
    codes = one.encode(x, threads=1)
    np.testing.assert_array_equal(codes, seven.encode(x, threads=7))
    assert (
        one.distance(asked, codes, threads=1).tobytes()
        == one.distance(asked, codes, threads=7).tobytes()
    )


def test_instruction_sets_agree(run_child: Any) -> None:
    code = """
        import hashlib, numpy as np
        from bigrain.quant import RaBitQ, ScalarQuantizer
        x = np.random.default_rng(0).standard_normal((300, 101), dtype=np.float32)
        digest = hashlib.sha256()
        for q in RaBitQ(3), ScalarQuantizer(4), ScalarQuantizer(8):
            codes = q.fit(x).encode(x)
            for part in codes, q.decode(codes), q.distance(x[:9], codes):
                digest.update(part.tobytes())
        print(digest.hexdigest())
    """
    digests = {run_child(code, BIGRAIN_SIMD=isa) for isa in bigrain._core.available_isas()}
    assert len(digests) == 1


@given(
    rows=st.integers(1, 20),
    dim=st.integers(1, 70),
    power=st.integers(-15, 15),
    shift=st.sampled_from([0.0, 1.0, 100.0]),
    which=st.integers(0, len(ALL) - 1),
    seed=st.integers(0, 2**64 - 1),
)
def test_any_scale_shape_and_offset(
    rows: int, dim: int, power: int, shift: float, which: int, seed: int
) -> None:
    x = ((make_vectors(rows, dim) + shift) / np.sqrt(dim) * 10.0**power).astype(np.float32)
    q = fresh(ALL[which]).fit(x, seed=seed)
    codes = q.encode(x)
    unit = float((x.astype(np.float64) ** 2).sum(axis=1).max())
    own = q.distance(x, codes)
    assert np.isfinite(own).all()
    assert (own >= 0).all()
    if isinstance(q, RaBitQ):  # the scalar quantizer's queries are rounded
        assert np.diagonal(own).max() <= 1e-5 * unit
    truth = oracle_distances(x, x, "l2")
    spread = float(truth.max())
    assert np.abs(own - truth).max() <= (2.5 / 2 ** min(q.bits, 6)) * 4 * spread + 1e-5 * unit
    assert np.abs(q.decode(codes) - x).max() <= np.sqrt(2 * unit)


@pytest.mark.parametrize("quantizer", ALL, ids=repr)
def test_duplicates_and_equal_rows(quantizer: Any) -> None:
    x = np.full((5, 30), 2.5, np.float32)
    q = fresh(quantizer).fit(x)
    codes = q.encode(x)
    np.testing.assert_array_equal(q.decode(codes), x)
    np.testing.assert_array_equal(q.distance(x, codes), 0)
    np.testing.assert_allclose(q.distance(x + 1, codes), 30, rtol=0.02)
    assert q.encode(x[:0]).shape == (0, q.code_size)
    assert q.distance(x[:0], codes).shape == (0, 5)
    assert q.distance(x, codes[:0]).shape == (5, 0)


def test_sizes_of_records() -> None:
    x = make_vectors(2, 384)
    assert [RaBitQ(b).fit(x).code_size for b in (1, 4, 8)] == [60, 212, 404]
    assert [ScalarQuantizer(b).fit(x).code_size for b in (4, 8)] == [256, 448]


@pytest.mark.parametrize("dtype", ["float16", "int8", "uint8", "float64"])
def test_other_types_are_their_values_in_float32(dtype: str) -> None:
    x = np.clip(make_vectors(50, 12) * 20 + 60, 0, 120).astype(dtype)
    a, b = RaBitQ(3).fit(x), RaBitQ(3).fit(x.astype(np.float32))
    np.testing.assert_array_equal(a.encode(x), b.encode(x.astype(np.float32)))


def test_progress_and_cancelling() -> None:
    x = make_vectors(2000, 30)
    seen: list[tuple[int, int]] = []
    q = RaBitQ(4).fit(x, progress=lambda done, total: seen.append((done, total)))
    assert seen
    assert seen[-1] == (2000, 2000)
    with pytest.raises(bigrain.Cancelled):
        q.encode(make_vectors(200_000, 30), progress=lambda done, total: False)


def test_bad_arguments() -> None:
    x = make_vectors(10, 6)
    q = RaBitQ(2).fit(x)
    codes = q.encode(x)
    for bits in (0, 9):
        with pytest.raises(ValueError, match=f"bits: expected 1 to 8, found {bits}"):
            RaBitQ(bits)
    with pytest.raises(ValueError, match="bits: expected 4 or 8, found 6"):
        ScalarQuantizer(6)
    with pytest.raises(ValueError, match="not fitted"):
        RaBitQ(2).encode(x)
    with pytest.raises(ValueError, match="at least one row"):
        RaBitQ(2).fit(x[:0])
    with pytest.raises(ValueError, match="x: the quantizer has 6 dimensions"):
        q.encode(x[:, :3])
    with pytest.raises(ValueError, match="queries: the quantizer has 6 dimensions"):
        q.distance(x[:, :3], codes)
    with pytest.raises(ValueError, match=r"codes: expected shape \(n, 22\)"):
        q.distance(x, codes[:, :5])
    with pytest.raises(TypeError, match="codes: expected uint8"):
        q.decode(codes.astype(np.int32))
    with pytest.raises(ValueError, match="x: row 1 contains NaN"):
        q.encode(np.array([[1] * 6, [np.nan] * 6], np.float32))
    with pytest.raises(ValueError, match="normalise"):
        q.distance_bounds(x, codes, "cosine")
    with pytest.raises(ValueError, match="epsilon"):
        q.distance_bounds(x, codes, epsilon=-1)
    with pytest.raises(ValueError, match="zero length"):
        q.distance(np.zeros(6), codes, "cosine")
    with pytest.raises(ValueError, match="signs: expected 4 bytes"):
        RaBitQ.from_arrays(2, q.centre, q.signs[:3])
    with pytest.raises(ValueError, match="centre"):
        RaBitQ.from_arrays(2, q.centre * np.nan, q.signs)
