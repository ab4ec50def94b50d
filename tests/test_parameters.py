# SPDX-License-Identifier: Apache-2.0
"""Parameters at, and one past, their bounds; combinations and outputs that are refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from conftest import make_vectors, read_only

from bigrain import Index, _core

PARAMETERS: list[tuple[str, str, int, int]] = [
    ("build", "degree", *_core.LIMITS["degree"][::2]),
    ("build", "build_width", *_core.LIMITS["build_width"][::2]),
    ("build", "threads", *_core.LIMITS["threads"][::2]),
    ("build", "seed", 0, 2**64 - 1),
    ("search", "k", *_core.LIMITS["k"][::2]),
    ("search", "width", *_core.LIMITS["width"][::2]),
    ("search", "rerank", 1, _core.LIMITS["width"][2]),
    ("search", "threads", *_core.LIMITS["threads"][::2]),
    ("tune", "sample", 1, 2**31 - 1),
    ("tune", "threads", *_core.LIMITS["threads"][::2]),
    ("tune", "seed", 0, 2**64 - 1),
]
# None is a default of these.
OPTIONAL = ("degree", "width", "rerank")


@pytest.mark.parametrize(("verb", "name", "least", "most"), PARAMETERS)
def test_bounds_of_integer_parameters(verb: str, name: str, least: int, most: int) -> None:
    base = make_vectors(30, 3)
    index = Index.build(base)

    def call(value: Any) -> Any:
        if verb == "build":
            return Index.build(base, **{name: value})
        if verb == "tune":
            return index.tune(k=2, recall=0.5, **{name: value})
        return index.search(base[0], **({"k": 1} | {name: value}))

    call(least)
    call(np.int64(least))
    call(most)
    for value in (least - 1, most + 1, 2**31 if most < 2**31 else -(2**31), -(2**70), 2**70):
        with pytest.raises(ValueError, match=rf"{name}: expected {least} to {most}, found {value}"):
            call(value)
    for value in (1.5, "3", None if name not in OPTIONAL else [], True, np.array([1])):
        with pytest.raises(TypeError, match=f"{name}: expected an integer"):
            call(value)


def test_bounds_of_alpha() -> None:
    base = make_vectors(30, 3)
    for metric, most in (("l2", 4.0), ("cosine", 4.0), ("ip", 1.0)):
        for value in (0.5, most, np.float32(0.75), 1):
            Index.build(base, metric=metric, alpha=value)
        for value in (0.49, most + 0.01, 0, -1, np.nan, np.inf):
            with pytest.raises(ValueError, match="alpha: expected"):
                Index.build(base, metric=metric, alpha=value)
    for wrong in ("1.2x", [], True):
        with pytest.raises(TypeError, match="alpha: expected a number"):
            Index.build(base, alpha=wrong)  # type: ignore[arg-type]


def test_choices_and_fractions(index: Index, tmp_path: Any) -> None:
    base = make_vectors(30, 3)
    for name in ("L2", "euclidean", ""):
        with pytest.raises(ValueError, match="metric: expected one of"):
            Index.build(base, metric=name)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="metric"):
        Index.build(base, metric=2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="verify: expected one of"):
        Index.open(tmp_path / "x", verify="some")  # type: ignore[arg-type]
    for value in (0, -0.5, 1.01, np.nan):
        with pytest.raises(ValueError, match="recall: expected"):
            index.tune(recall=value)
        with pytest.raises(ValueError, match="recall: expected"):
            index.search(base, recall=value)
    for wrong in ("0.9x", [], True):
        with pytest.raises(TypeError, match="recall: expected a number"):
            index.tune(recall=wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="progress"):
        index.validate(progress=7)  # type: ignore[arg-type]


def test_contradictory_parameters(index: Index, queries: Any) -> None:
    with pytest.raises(ValueError, match="width: expected 1 to"):
        index.search(queries, 20, width=0)
    assert (index.search(queries, 20, width=1).ids >= 0).all()  # a window below k
    with pytest.raises(ValueError, match="rerank: expected 20"):
        index.search(queries, 20, rerank=19)
    with pytest.raises(ValueError, match="not both"):
        index.search(queries, width=64, recall=0.9)
    assert index.search(queries[0], 5000).ids.shape == (5000,)


def test_outputs_that_are_refused(index: Index, queries: Any) -> None:
    def pair(shape: Any = (200, 10), ids: Any = np.int64, distances: Any = np.float32) -> Any:
        return np.empty(shape, ids), np.empty(shape, distances)

    both = np.zeros((200, 20), np.float32)
    cases: list[tuple[Any, type[Exception], str]] = [
        (pair(ids=np.int32), TypeError, "ids must be .*int64"),
        (pair(distances=np.float64), TypeError, "distances must be .*float32"),
        (pair(shape=(200, 9)), ValueError, "shape"),
        (pair(shape=(2000,)), ValueError, "shape"),
        (tuple(np.asfortranarray(a) for a in pair()), ValueError, "C-contiguous"),
        (tuple(read_only(a) for a in pair()), ValueError, "writeable"),
        (pair()[0], TypeError, "tuple"),
        (list(pair()), TypeError, "tuple"),
        (([[1]], [[2.0]]), TypeError, "NumPy"),
        ((both.view(np.int64), both[:, :10].reshape(200, 10)), ValueError, "C-contiguous"),
        ((both.view(np.int64), both.reshape(-1)[:2000].reshape(200, 10)), ValueError, "share"),
    ]
    for out, error, message in cases:
        with pytest.raises(error, match=message):
            index.search(queries, out=out)


def test_private_module_checks_what_would_touch_foreign_memory(index: Index) -> None:
    core = index._opened()
    ids, distances = np.empty((2, 5), np.int64), np.empty((2, 5), np.float32)
    asked = make_vectors(2, 24)
    for queries, out in (
        (asked[:, ::2], ids),
        (asked[0], ids),
        (asked.astype(">f4"), ids),
        (asked.astype("f8"), ids),
        (make_vectors(2, 23), ids),
        (asked.astype("f2"), ids),
        (asked, ids[:1]),
        (asked, ids.astype(np.int32)),
        (asked, np.asfortranarray(ids)),
        (asked, read_only(ids)),
    ):
        with pytest.raises(ValueError):  # noqa: PT011
            core.search(queries, 5, 0, 0, math.inf, 1, False, out, distances, None, None)
    for view in (core.vectors(), core.graph()):
        assert not view.flags.writeable
