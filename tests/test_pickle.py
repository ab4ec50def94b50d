# SPDX-License-Identifier: Apache-2.0
"""Pickles are the bytes of a file: they answer identically, and execute nothing."""

from __future__ import annotations

import copy
import pickle
import pickletools
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import DTYPES, METRICS, assert_same, make_vectors

import bigrain
from bigrain import Index


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol(index: Index, queries: Any, protocol: int) -> None:
    loaded = pickle.loads(pickle.dumps(index, protocol))
    assert_same(loaded.search(queries), index.search(queries))
    assert repr(loaded) == repr(index)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("metric", METRICS)
def test_pickle_file_and_bytes_agree(metric: str, dtype: str, tmp_path: Path) -> None:
    base = make_vectors(300, 9, dtype)
    index = Index.build(base, ids=np.arange(300)[::-1] * 7, metric=metric)
    index.tune(k=3, recall=0.5, sample=50)
    index.save(tmp_path / "a")
    loaded = pickle.loads(pickle.dumps(index))
    loaded.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert index.__reduce__()[1][0] == (tmp_path / "a").read_bytes()
    expected = index.search(base, 5)
    assert_same(loaded.search(base, 5), expected)
    assert_same(Index.open(tmp_path / "b").search(base, 5), expected)
    assert_same(loaded.search(base, 3, recall=0.5), index.search(base, 3, recall=0.5))


def test_copies_are_independent(index: Index, queries: Any) -> None:
    expected = index.search(queries)
    for made in (copy.deepcopy(index), copy.copy(index)):
        assert made is not index
        assert_same(made.search(queries), expected)
        made.close()
    assert_same(index.search(queries), expected)


def test_only_our_reconstructor_is_named(index: Index) -> None:
    strings: list[str] = []
    calls = 0
    for opcode, argument, _ in pickletools.genops(pickle.dumps(index)):
        if isinstance(argument, str):
            strings.append(argument)
        calls += opcode.name in ("REDUCE", "NEWOBJ", "NEWOBJ_EX", "BUILD", "INST", "OBJ")
    assert set(strings) == {"builtins", "getattr", "bigrain.index", "Index", "_from_bytes"}
    assert calls == 2


def test_mutated_payloads_raise_or_answer_alike() -> None:
    base = make_vectors(120, 5)
    index = Index.build(base, degree=8)
    payload = index.__reduce__()[1][0]
    expected = index.search(base)
    random = np.random.default_rng(0)
    for _ in range(500):
        data = bytearray(payload)
        for at in random.integers(0, len(data), random.integers(1, 5)):
            data[at] ^= 1 << int(random.integers(8))
        if random.random() < 0.2:
            del data[int(random.integers(len(data))) :]
        try:
            found = Index._from_bytes(bytes(data)).search(base)
        except bigrain.CorruptIndexError:
            continue
        assert bytes(data) == payload
        assert_same(found, expected)


def test_wrong_payloads() -> None:
    for data in (b"", b"x", b"\0" * 4096, pickle.dumps(3)):
        with pytest.raises(bigrain.CorruptIndexError):
            Index._from_bytes(data)


def test_exceptions_and_results_travel(index: Index, queries: Any) -> None:
    for error in (bigrain.CorruptIndexError("torn"), bigrain.Cancelled("no")):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert again.args == error.args
    found = index.search(queries, stats=True)
    for made in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found)):
        assert type(made) is bigrain.DetailedResult
        assert_same(made, found)
        np.testing.assert_array_equal(made.stats.hops, found.stats.hops)
    plain = pickle.loads(pickle.dumps(index.search(queries)))
    assert type(plain) is bigrain.SearchResult


def search_in_worker(index: Index, queries: Any) -> bigrain.SearchResult:
    return index.search(queries)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_indexes_travel_to_other_processes(index: Index, queries: Any, method: str) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context(method)) as pool:
        for found in pool.map(search_in_worker, [index] * 4, [queries] * 4, timeout=60):
            assert_same(found, index.search(queries))
