# SPDX-License-Identifier: Apache-2.0
"""An index searched from disk: the same answers under any budget, and faults that are errors."""

from __future__ import annotations

import os
import pickle
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_vectors

from bigrain import CorruptIndexError, Index
from bigrain._memory import ALL, LEAST, check_memory

PAGE = 4096


def make(path: Path, dtype: str = "float32", dim: int = 40, n: int = 3000, **options: Any) -> Any:
    """Save an index and return (index in memory, path, queries)."""
    base = make_vectors(n, dim, dtype)
    ids = np.random.default_rng(1).permutation(n) * 5 + 2 if options.pop("ids", False) else None
    index = Index.build(base, ids, **options)
    index.save(path)
    asked = "float32" if dtype == "float16" else dtype
    return Index.open(path), path, make_vectors(200, dim, asked, seed=5)


def codes_and_rows(index: Index) -> int:
    """Return a budget that holds codes and rows, and no vectors."""
    parts = index.plan().bytes
    return index.plan().total_bytes - parts["vectors"] + 8_000


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make(tmp_path_factory.mktemp("disk") / "x.bigrain")


def check_same(index: Index, other: Index, queries: Any, **options: Any) -> None:
    one, two = index.search(queries, **options), other.search(queries, **options)
    np.testing.assert_array_equal(one.ids, two.ids)
    np.testing.assert_array_equal(one.distances, two.distances)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("all", ALL),
        ("min", LEAST),
        (1 << 30, 1 << 30),
        ("1GiB", 1 << 30),
        ("1.5 MiB", 3 << 19),
        ("2GB", 2 * 10**9),
        ("700", 700),
        ("5k", 5000),
    ],
)
def test_budgets(value: Any, expected: int) -> None:
    assert check_memory(value) == expected


@pytest.mark.parametrize("value", ["", "much", "-1", "1 gallon", "1iB", 0, -3, "0", 2**64])
def test_budgets_that_are_none(value: Any) -> None:
    with pytest.raises(ValueError, match="memory"):
        check_memory(value)


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8"])
@pytest.mark.parametrize("ids", [False, True])
def test_answers_equal_those_in_memory(tmp_path: Path, metric: Any, dtype: str, ids: bool) -> None:
    index, path, queries = make(tmp_path / "x", dtype, n=800, metric=metric, ids=ids)
    disk = Index.open(path, memory=codes_and_rows(index))
    assert disk.plan().residency.mode == "vectors on disk"
    for options in ({"width": 20}, {"k": 1, "width": 5}, {"k": 30, "rerank": 200}):
        check_same(index, disk, queries, **options)
    check_same(index, disk, queries[0], k=5)


@pytest.mark.parametrize("dim", [1, 993, 1024, 1100, 2048])
@pytest.mark.parametrize("ids", [False, True])
def test_records_of_every_shape(tmp_path: Path, dim: int, ids: bool) -> None:
    index, path, queries = make(tmp_path / "x", dim=dim, n=300, ids=ids)
    disk = Index.open(path, memory=codes_and_rows(index))
    check_same(index, disk, queries, width=30)
    found = disk.search(queries, stats=True)
    pages = -(-dim * 4 // PAGE)
    assert (found.stats.bytes == found.stats.reads * PAGE * pages).all()


@pytest.mark.parametrize(
    "io",
    ["auto", "uring:direct=0", "pread", "pread:threads=1,direct=0", "simulated:reorder=1,seed=3"],
)
def test_every_way_of_reading(saved: Any, io: str) -> None:
    index, path, queries = saved
    disk = Index.open(path, memory=codes_and_rows(index), io=io)
    check_same(index, disk, queries, width=40, threads=2)
    assert io.split(":")[0] in disk.plan().residency.io or io == "auto"


def test_what_a_query_costs(saved: Any) -> None:
    index, path, queries = saved
    disk = Index.open(path, memory=codes_and_rows(index))
    stats = disk.search(queries, 10, width=60, stats=True).stats
    assert (stats.reads + stats.cache_hits >= stats.full_distances).all()
    assert (stats.reads < 60).all()
    assert (stats.rounds >= 1).all()
    assert (index.search(queries, 10, width=60, stats=True).stats.reads == 0).all()


def test_plans(saved: Any) -> None:
    index, path, _ = saved
    whole = index.plan().total_bytes
    assert Index.open(path, memory=whole + PAGE).plan().residency.mode == "memory"
    disk = Index.open(path, memory=codes_and_rows(index))
    where = disk.plan().residency
    assert where.bytes <= codes_and_rows(index)
    assert where.budget == codes_and_rows(index)
    assert "vectors on disk" in str(disk.plan())
    with pytest.raises(ValueError, match="memory: got 5000 bytes; expected at least"):
        Index.open(path, memory=5000)


def test_only_what_is_used_stays(tmp_path: Path) -> None:
    index, path, queries = make(tmp_path / "x", n=2000, pq_bytes=20)
    whole = index.plan().bytes
    for given in (False, True):
        if given:
            index.set_codes(codebooks=np.zeros((8, 256, 5), np.float32))
            index.save(path)
        # 500 vectors less than everything: rows and codes are in memory, and vectors read from it.
        budget = index.plan().total_bytes - 500 * 160
        disk = Index.open(path, memory=budget)
        where, parts = disk.plan().residency, disk.plan().bytes
        assert where.mode == "vectors on disk"
        assert where.hot_vectors > 0
        assert parts["pq_codebooks"] == parts["pq_codes"] == 0
        assert parts["codes"] == whole["codes"]
        assert where.bytes <= budget
        assert disk.plan().total_bytes <= where.bytes
        check_same(index, disk, queries, width=40)
        walk = Index.open(path, memory="min")
        assert walk.plan().residency.mode == "rows and vectors on disk"
        assert walk.plan().bytes["pq_codes"] == 2000 * (8 if given else 20)
        # 64 bytes of entries are the walk's own.
        assert walk.plan().total_bytes <= walk.plan().residency.bytes


def test_hot_vectors_are_not_read(saved: Any) -> None:
    index, path, queries = saved
    expected = index.search(queries, width=40, stats=True).stats.full_distances
    reads = []
    for vectors in (0, 500, 1500, 2400):
        budget = codes_and_rows(index) + vectors * 181
        disk = Index.open(path, memory=budget)
        where = disk.plan().residency
        assert where.mode == "vectors on disk"
        assert where.bytes <= budget
        assert where.hot_vectors >= vectors * 8 // 10
        check_same(index, disk, queries, width=40)
        stats = disk.search(queries, width=40, stats=True).stats
        assert (stats.reads + stats.cache_hits >= expected).all()
        reads.append(int(stats.reads.sum()))
    assert reads == sorted(reads, reverse=True)
    assert reads[-1] < reads[0] / 2


def test_what_is_not_there(saved: Any, tmp_path: Path) -> None:
    index, path, queries = saved
    disk = Index.open(path, memory=codes_and_rows(index))
    for call in (
        lambda: disk.ids,
        lambda: 3 in disk,
        lambda: disk.save(tmp_path / "y"),
        lambda: disk.validate(),
        lambda: disk.set_layout("fast"),
        lambda: disk.tune(k=5),
    ):
        with pytest.raises(NotImplementedError, match="memory"):
            call()
    with pytest.raises(NotImplementedError, match="tune and save it"):
        disk.tune(queries)
    assert disk.stats()["edges"] is None
    check_same(index, disk, queries)


def test_old_files_say_what_to_do() -> None:
    golden = Path(__file__).parent / "golden" / "v1.0-l2-float32-40.bigrain"
    whole = Index.open(golden).plan().total_bytes
    with pytest.raises(NotImplementedError, match="save it again"):
        Index.open(golden, memory=whole - 100)


def test_pickles_are_paths(saved: Any) -> None:
    index, path, queries = saved
    disk = Index.open(path, memory=codes_and_rows(index))
    data = pickle.dumps(disk)
    assert len(data) < 1000
    check_same(index, pickle.loads(data), queries)


def test_threads_and_forks(saved: Any) -> None:
    index, path, queries = saved
    disk = Index.open(path, memory=codes_and_rows(index))
    expected = index.search(queries, width=40).ids
    failures: list[object] = []

    def ask() -> None:
        for _ in range(5):
            if not (disk.search(queries, width=40, threads=2).ids == expected).all():
                failures.append(1)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    for _ in range(5):  # in a child the parent's rings are dead, and new ones are made
        child = os.fork()
        if child == 0:
            os._exit(0 if (disk.search(queries, width=40).ids == expected).all() else 1)
        assert os.waitpid(child, 0)[1] == 0
    check_same(index, disk, queries, width=40)


# Faults: reliability of what is read while searching.


def open_copy(saved: Any, tmp_path: Path, **options: Any) -> tuple[Index, Path]:
    index, path, _ = saved
    copy = tmp_path / "copy"
    shutil.copy(path, copy)
    return Index.open(copy, memory=codes_and_rows(index), **options), copy


def test_replaced_and_removed_files_go_on_answering(saved: Any, tmp_path: Path) -> None:  # S6
    index, _, queries = saved
    disk, copy = open_copy(saved, tmp_path)
    Index.build(make_vectors(50, 40, "float32")).save(copy)
    check_same(index, disk, queries)
    copy.unlink()
    check_same(index, disk, queries)


def test_a_truncated_file_is_an_error(saved: Any, tmp_path: Path) -> None:  # S6
    _, _, queries = saved
    disk, copy = open_copy(saved, tmp_path)
    os.truncate(copy, 2 * PAGE)
    with pytest.raises((CorruptIndexError, OSError)):
        disk.search(queries)


def test_a_damaged_page_is_an_error_or_not_read(saved: Any, tmp_path: Path) -> None:  # F2, F3
    index, _, queries = saved
    disk, copy = open_copy(saved, tmp_path)
    expected = index.search(queries)
    content = bytearray(copy.read_bytes())
    for offset in range(PAGE, 60 * PAGE, PAGE):  # the points come first
        content[offset + offset // 7 % PAGE] ^= 1 << offset // PAGE % 8
    with copy.open("r+b") as file:
        file.write(content)
    refused = 0
    for i in range(100):
        try:
            np.testing.assert_array_equal(disk.search(queries[i]).ids, expected.ids[i])
        except CorruptIndexError:
            refused += 1
    assert refused > 10


@pytest.mark.parametrize("rate", [2, 8, 32, 128])
@pytest.mark.parametrize("fault", ["error_rate", "short_rate", "damage_rate"])
def test_faulty_devices(saved: Any, rate: int, fault: str) -> None:  # S4
    index, path, queries = saved
    disk = None
    for seed in range(100):  # until the reads of opening are among those that work
        io = f"simulated:{fault}={1 / rate},latency_us=1,reorder=1,seed={seed}"
        try:
            disk = disk or Index.open(path, memory=codes_and_rows(index), io=io)
        except OSError:
            continue
    assert disk is not None
    expected = index.search(queries)
    answered = 0
    for i in range(200):
        try:
            np.testing.assert_array_equal(disk.search(queries[i]).ids, expected.ids[i])
            answered += 1
        except (OSError, CorruptIndexError):
            assert fault != "short_rate"
    assert answered == 200 if fault == "short_rate" else answered < 200 or rate == 128


RSS_CHILD = """
import resource, sys
import numpy as np
from bigrain import Index
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
index = Index.open(sys.argv[1], memory=int(sys.argv[2]))
queries = np.random.default_rng(0).normal(size=(2000, index.dim)).astype("f4")
index.search(queries, 10, width=100)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def test_the_budget_is_kept(tmp_path: Path, run_child: Callable[..., str]) -> None:
    index, path, _ = make(tmp_path / "x", n=30_000, dim=1000, code_dim=56)
    budget = codes_and_rows(index) + 300_000
    code = f"import sys; sys.argv = ['-', {str(path)!r}, '{budget}']" + RSS_CHILD
    grown = int(run_child(code))
    assert grown <= budget + (64 << 20) < index.plan().total_bytes
