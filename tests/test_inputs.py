# SPDX-License-Identifier: Apache-2.0
"""Hostile and awkward inputs: values, shapes, types, ids, degenerate sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import DTYPES, METRICS, make_vectors, oracle_search, read_only

import bigrain
from bigrain import Index, _arrays, exact_search

LARGEST = float(np.finfo(np.float32).max)
SMALLEST = float(np.finfo(np.float32).smallest_subnormal)

# I1: value -> what the message says, or None where it is a fine value.
VALUES = {
    "nan": (np.nan, "NaN"),
    "-nan": (-np.nan, "NaN"),
    "inf": (np.inf, "infinity"),
    "-inf": (-np.inf, "infinity"),
    "largest": (LARGEST, "overflow"),
    "-largest": (-LARGEST, "overflow"),
    "overflowing square": (2e19, "overflow"),
    "overflowing difference": (1.2e19, "overflow"),
    "large": (1e18, None),
    "subnormal": (SMALLEST, None),
    "-0.0": (-0.0, None),
}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("value", VALUES)
def test_values_of_float32(value: str, metric: str) -> None:
    number, message = VALUES[value]
    base = make_vectors(300, 6)
    index = Index.build(base, metric=metric)
    bad = base.copy()
    bad[217, 3] = number
    if message is None:
        found = Index.build(bad, metric=metric).search(bad)
        assert not np.isnan(found.distances).any()
        assert np.isfinite(found.distances).all()
        assert np.isfinite(index.search(bad).distances).all()
        return
    for call in (
        lambda: Index.build(bad, metric=metric),
        lambda: index.search(bad),
        lambda: exact_search(bad, base, metric=metric),
        lambda: exact_search(base, bad, metric=metric),
    ):
        with pytest.raises(ValueError, match=rf"row 217 .*{message}"):
            call()
    for single in (bad[217], bad[217].astype(np.float64)):
        with pytest.raises(ValueError, match=rf"queries: row 0 .*{message}"):
            index.search(single)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_values_of_float16(value: str, metric: str) -> None:
    base = make_vectors(300, 6, "float16")
    base[217, 3] = VALUES[value][0]
    with pytest.raises(ValueError, match="vectors: row 217"):
        Index.build(base, metric=metric)
    base[217, 3] = np.finfo(np.float16).max
    found = Index.build(base, metric=metric).search(base)
    assert np.isfinite(found.distances).all()


def test_first_bad_row_is_named_in_large_input() -> None:
    base = make_vectors(20_000, 100)
    base[[15_001, 19_000]] = np.nan
    with pytest.raises(ValueError, match="row 15001 contains NaN"):
        Index.build(base)


def test_doubles_that_float32_cannot_hold() -> None:
    base = make_vectors(10, 4).astype(np.float64)
    base[4, 2] = 1e300
    with pytest.raises(ValueError, match=r"row 4 .*too large for float32"):
        Index.build(base)


@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_longest_allowed_vectors_stay_finite(metric: str) -> None:
    base = make_vectors(200, 8)
    base *= np.float32(np.sqrt(7.9e37)) / np.linalg.norm(base, axis=1, keepdims=True)
    index = Index.build(np.concatenate([base, -base]), metric=metric)
    assert np.isfinite(index.search(base).distances).all()
    assert np.isfinite(exact_search(base, -base, metric=metric).distances).all()


@pytest.mark.parametrize("scale", [2e-19, 1e-10, 1.0, 1e10, 8e18])
def test_cosine_does_not_depend_on_length(scale: float) -> None:
    base, asked = make_vectors(300, 8), make_vectors(50, 8, seed=1)
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    truth = oracle_search(base, asked, 10, "cosine")
    index = Index.build(base * np.float32(scale), metric="cosine")
    for found in (
        index.search(asked * np.float32(scale), width=300),
        exact_search(base * np.float32(scale), asked * np.float32(scale), metric="cosine"),
    ):
        np.testing.assert_allclose(found.distances, truth.distances, atol=2e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_row_under_cosine(dtype: str) -> None:
    base = make_vectors(50, 6, dtype)
    index = Index.build(base, metric="cosine")
    zero = base.copy()
    zero[31] = 0
    with pytest.raises(ValueError, match="vectors: row 31 has zero length"):
        Index.build(zero, metric="cosine")
    with pytest.raises(ValueError, match="queries: row 31 has zero length"):
        index.search(zero)
    if dtype == "float32":
        zero[31, 2] = SMALLEST
        with pytest.raises(ValueError, match="row 31 has zero length"):
            Index.build(zero, metric="cosine")
    for metric in ("l2", "ip"):
        assert np.isfinite(Index.build(zero, metric=metric).search(zero[31]).distances).all()


def torch_like(array: np.ndarray[Any, Any]) -> Any:
    """A tensor that records gradients: it becomes an array only once detached."""

    class Detached:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return array

    class Tensor:
        requires_grad = True

        def detach(self) -> Detached:
            return Detached()

        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")

    return Tensor()


class DlpackOnly:
    """What JAX, CuPy and others offer beside (or instead of) __array__."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array

    def __dlpack__(self, **keywords: Any) -> Any:
        return self.array.__dlpack__(**keywords)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


def misaligned(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    raw = np.zeros(array.nbytes + 1, np.uint8)
    raw[1:] = np.frombuffer(array.tobytes(), np.uint8)
    return raw[1:].view(array.dtype).reshape(array.shape)


# I3: forms of the same numbers.
FORMS: dict[str, Callable[[np.ndarray[Any, Any]], Any]] = {
    "plain": lambda a: a,
    "fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=0)[::2],
    "columns": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "negative strides": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "big-endian": lambda a: a.astype(">f4"),
    "float64": lambda a: a.astype(np.float64),
    "longdouble": lambda a: a.astype(np.longdouble),
    "read-only": read_only,
    "misaligned": misaligned,
    "list of lists": lambda a: a.tolist(),
    "tuple of arrays": tuple,
    "memoryview": memoryview,
    "subclass": lambda a: a.view(type("Sub", (np.ndarray,), {})),
    "torch with grad": torch_like,
    "dlpack": DlpackOnly,
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_arrays(form: str, index: Index, vectors: Any, queries: Any) -> None:
    expected = index.search(queries)
    np.testing.assert_array_equal(index.search(FORMS[form](queries)).ids, expected.ids)
    np.testing.assert_array_equal(index.search(FORMS[form](queries[0])).ids, expected.ids[0]) if (
        form not in ("columns", "negative strides")
    ) else None
    small = Index.build(vectors[:200])
    again = Index.build(FORMS[form](vectors[:200]))
    assert again.__reduce__()[1] == small.__reduce__()[1]


def test_memmap_and_broadcast(tmp_path: Any, vectors: Any) -> None:
    np.save(tmp_path / "v.npy", vectors[:300])
    mapped = np.load(tmp_path / "v.npy", mmap_mode="r")
    assert Index.build(mapped).__reduce__()[1] == Index.build(vectors[:300]).__reduce__()[1]
    same = np.broadcast_to(vectors[0], (40, 24))
    assert (Index.build(same).search(vectors[0], 40).distances == 0).all()


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_wide_integers_become_float32(dtype: str) -> None:
    base = np.arange(40, dtype=dtype).reshape(20, 2)
    index = Index.build(base)
    assert index.dtype == np.float32
    assert list(index.search(base, 1, width=20).ids[:, 0]) == list(range(20))


BAD_FORMS: dict[str, tuple[Any, type[Exception], str]] = {
    "0-D": (np.float32(3), ValueError, "shape"),
    "1-D": (np.zeros(4, np.float32), ValueError, "2-D"),
    "3-D": (np.zeros((2, 2, 2), np.float32), ValueError, "2-D"),
    "no columns": (np.zeros((3, 0), np.float32), ValueError, "dimensions"),
    "too many columns": (np.zeros((1, 65_537), np.float32), ValueError, "65536"),
    "empty list": ([], ValueError, "2-D"),
    "ragged": ([[1.0, 2.0], [3.0]], ValueError, "vectors"),
    "bool": (np.zeros((3, 2), bool), TypeError, "bool"),
    "complex": (np.zeros((3, 2), np.complex64), TypeError, "complex64"),
    "object": (np.array([[1.0, None]], object), TypeError, "object"),
    "strings": (np.array([["a", "b"]]), TypeError, "astype"),
    "dates": (np.zeros((3, 2), "datetime64[s]"), TypeError, "datetime64"),
    "structured": (np.zeros((3, 2), [("x", "f4")]), TypeError, "dtype"),
    "masked": (np.ma.masked_array(np.zeros((3, 2)), mask=False), TypeError, "filled"),
    "None": (None, ValueError, "shape"),
    "dict": ({"a": 1}, ValueError, "shape"),
    "generator": ((x for x in range(3)), ValueError, "shape"),
}


@pytest.mark.parametrize("form", BAD_FORMS)
def test_forms_that_are_refused(form: str) -> None:
    value, error, message = BAD_FORMS[form]
    with pytest.raises(error, match=message):
        Index.build(value)


def test_device_tensors_are_refused_with_the_fix(index: Index) -> None:
    class DeviceTensor:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")

    with pytest.raises(TypeError, match=r"\.cpu\(\)"):
        index.search(DeviceTensor())


def test_pandas_like_frames(vectors: Any) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(vectors[:50])
    assert Index.build(frame).__reduce__()[1] == Index.build(vectors[:50]).__reduce__()[1]


def test_torch_tensors(vectors: Any) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(vectors[:50].copy()).requires_grad_()
    assert Index.build(tensor).__reduce__()[1] == Index.build(vectors[:50]).__reduce__()[1]
    with pytest.raises(TypeError, match="float"):
        Index.build(tensor.bfloat16())


def test_query_shapes(index: Index) -> None:
    for shape in ((), (23,), (25,), (3, 23), (24, 3), (1, 1, 24)):
        with pytest.raises(ValueError, match="queries"):
            index.search(np.zeros(shape, np.float32))


def test_queries_of_integer_indexes_must_be_integers() -> None:
    for dtype, outside in (("uint8", (-1, 256)), ("int8", (-129, 128))):
        base = make_vectors(100, 5, dtype)
        index = Index.build(base)
        expected = index.search(base).ids
        for same in ("float32", "float64", "int64", "float16"):
            np.testing.assert_array_equal(index.search(base.astype(same)).ids, expected)
        for value in (*outside, 0.5, np.nan, np.inf):
            asked = base.astype(np.float64)
            asked[42, 1] = value
            with pytest.raises(ValueError, match=f"holds {dtype}.*row 42"):
                index.search(asked)
        with pytest.raises(TypeError, match="bool"):
            index.search(base.astype(bool))


def test_large_copies_are_announced(monkeypatch: pytest.MonkeyPatch, vectors: Any) -> None:
    monkeypatch.setattr(_arrays, "NOTED_COPY_BYTES", 1000)
    with pytest.warns(UserWarning, match="vectors: a copy of .* float64") as caught:
        Index.build(vectors.astype(np.float64))
    assert caught[0].filename == __file__
    Index.build(vectors)  # no copy, and so no warning


BAD_IDS: dict[str, tuple[Any, type[Exception], str]] = {
    "twice": ([1, 2, 2], ValueError, "found 2 twice"),
    "negative": ([1, -5, 2], ValueError, "found -5"),
    "above int64": (np.array([1, 2, 2**63], np.uint64), ValueError, str(2**63)),
    "above uint64": ([1, 2, 2**64], TypeError, "64 bits"),
    "float": ([1.0, 2.0, 3.0], TypeError, "float64"),
    "bool": ([True, False, True], TypeError, "bool"),
    "strings": (["a", "b", "c"], TypeError, "astype"),
    "too few": ([1, 2], ValueError, r"\(3,\)"),
    "too many": ([1, 2, 3, 4], ValueError, r"\(3,\)"),
    "2-D": ([[1], [2], [3]], ValueError, r"\(3,\)"),
    "none": ([], ValueError, r"\(3,\)"),
    "masked": (np.ma.masked_array([1, 2, 3], mask=False), TypeError, "filled"),
}


@pytest.mark.parametrize("case", BAD_IDS)
def test_ids_that_are_refused(case: str) -> None:
    ids, error, message = BAD_IDS[case]
    with pytest.raises(error, match=f"ids: .*{message}"):
        Index.build(make_vectors(3, 2), ids)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32", "int64", "uint64", ">i8"])
def test_ids_of_every_integer_type(dtype: str) -> None:
    base = make_vectors(4, 2)
    ids = np.array([100, 3, 0, 27], dtype)
    index = Index.build(base, ids)
    assert list(index.ids) == [100, 3, 0, 27]
    assert list(index.search(base, 1).ids[:, 0]) == [100, 3, 0, 27]
    assert list(Index.build(base, ids[::-1]).ids) == [27, 0, 3, 100]
    assert len(Index.build(np.empty((0, 3)), [])) == 0


def collinear(n: int, dim: int) -> np.ndarray[Any, Any]:
    return np.linspace(1, 2, n)[:, None] * np.ones((1, dim))


def clusters(n: int, dim: int, distance: float) -> np.ndarray[Any, Any]:
    base = make_vectors(n, dim)
    base[: n // 2] += distance
    return base


def duplicates(n: int, dim: int) -> np.ndarray[Any, Any]:
    return make_vectors(n, dim)[np.minimum(np.arange(n), n // 100)]


# I5: sets that break graphs.
DEGENERATE: dict[str, np.ndarray[Any, Any]] = {
    "all equal": np.ones((400, 8), np.float32),
    "all zero": np.zeros((400, 8), np.float32),
    "two clusters": clusters(400, 8, 100.0),
    "two clusters very far apart": clusters(400, 8, 10_000.0),
    "99 % duplicates": duplicates(500, 8),
    "every point twice": np.repeat(make_vectors(200, 8), 2, axis=0),
    "collinear": collinear(400, 8),
    "d = 1": make_vectors(400, 1),
    "d = 1, few values": np.arange(400)[:, None] % 7 + 1,
    "n < R": make_vectors(20, 8),
    "one coordinate": np.eye(1, 8) * np.arange(1, 301)[:, None],
    "outlier": np.concatenate([make_vectors(300, 8), np.full((1, 8), 1e6, np.float32)]),
}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_sets(case: str, metric: str) -> None:
    base = np.asarray(DEGENERATE[case], np.float32)
    if metric == "cosine" and case == "all zero":
        with pytest.raises(ValueError, match="row 0"):
            Index.build(base, metric=metric)
        return
    index = Index.build(base, metric=metric)
    report = index.validate()
    assert report.ok, report.problems
    assert report.unreachable == 0
    found = index.search(base, 10, width=len(base))
    assert all(len(set(row)) == len(row) for row in found.ids)
    assert bigrain.recall(found, exact_search(base, base, 10, metric=metric)) == 1.0
