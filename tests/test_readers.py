# SPDX-License-Identifier: Apache-2.0
"""Vector files: what is written is read back; what is another file is told for what it is."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bigrain import readers
from bigrain._sniff import sniff
from bigrain.readers import FormatError, read_ground_truth, read_vectors
from bigrain.writers import write_ground_truth, write_vectors

DTYPES = {
    "fvecs": np.float32,
    "bvecs": np.uint8,
    "ivecs": np.int32,
    "fbin": np.float32,
    "u8bin": np.uint8,
    "i8bin": np.int8,
    "ibin": np.int32,
}
# One temporary folder serves all examples of a test: each example overwrites its file.
SHARED_FOLDER = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def shapes(least_rows: int = 1) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(least_rows, 20), st.integers(1, 40))


@pytest.mark.parametrize("kind", DTYPES)
@given(data=st.data())
@SHARED_FOLDER
def test_round_trip(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    array = data.draw(hnp.arrays(DTYPES[kind], shapes()))
    path = tmp_path / f"x.{kind}"
    write_vectors(path, array)
    found = read_vectors(path)
    assert found.dtype == DTYPES[kind]
    np.testing.assert_array_equal(found, array)
    assert isinstance(found, np.memmap)


@pytest.mark.parametrize("kind", ["fbin", "u8bin", "i8bin", "ibin", "npy"])
def test_round_trip_of_no_rows(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x.{kind}"
    write_vectors(path, np.empty((0, 7), DTYPES.get(kind, np.float32)))
    assert read_vectors(path).shape == (0, 7)


@given(array=hnp.arrays(st.sampled_from([np.float16, np.float32, np.int8, np.int64]), shapes(0)))
@SHARED_FOLDER
def test_npy_round_trip(tmp_path: Path, array: np.ndarray) -> None:
    write_vectors(tmp_path / "x.npy", array)
    found = read_vectors(tmp_path / "x.npy")
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("suffix", ["bin", "ibin", "npz"])
@given(data=st.data())
@SHARED_FOLDER
def test_ground_truth_round_trip(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    shape = data.draw(shapes())
    ids = data.draw(hnp.arrays(np.int64, shape, elements=st.integers(-1, 2**31 - 1)))
    distances = data.draw(hnp.arrays(np.float32, shape))
    path = tmp_path / f"truth.{suffix}"
    write_ground_truth(path, ids, distances)
    found = read_ground_truth(path)
    np.testing.assert_array_equal(found.ids, ids)
    assert found.distances is not None
    np.testing.assert_array_equal(found.distances, distances)
    assert found.ids.dtype == np.int64


@pytest.mark.parametrize("suffix", ["ivecs", "npy"])
def test_ground_truth_of_ids_alone(tmp_path: Path, suffix: str) -> None:
    ids = np.arange(12).reshape(3, 4)
    write_ground_truth(tmp_path / f"t.{suffix}", ids, ids.astype(np.float32))
    found = read_ground_truth(tmp_path / f"t.{suffix}")
    np.testing.assert_array_equal(found.ids, ids)
    assert found.distances is None


def test_layouts_byte_by_byte(tmp_path: Path) -> None:
    array = np.array([[1, 2], [3, 4]])
    write_vectors(tmp_path / "a.fvecs", array.astype(np.float32))
    assert (tmp_path / "a.fvecs").read_bytes() == struct.pack("<iffiff", 2, 1, 2, 2, 3, 4)
    write_vectors(tmp_path / "a.u8bin", array.astype(np.uint8))
    assert (tmp_path / "a.u8bin").read_bytes() == struct.pack("<IIBBBB", 2, 2, 1, 2, 3, 4)
    write_ground_truth(tmp_path / "t.bin", array, array / np.float32(2))
    expected = struct.pack("<II4i4f", 2, 2, 1, 2, 3, 4, 0.5, 1, 1.5, 2)
    assert (tmp_path / "t.bin").read_bytes() == expected


@pytest.mark.parametrize("kind", [*DTYPES, "npy"])
@given(data=st.data())
@SHARED_FOLDER
def test_truncated_files_are_refused(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    path = tmp_path / f"x.{kind}"
    write_vectors(path, np.arange(60).reshape(5, 12).astype(DTYPES.get(kind, np.float32)))
    whole = path.read_bytes()
    row = 4 + 12 * np.dtype(DTYPES.get(kind, np.float32)).itemsize
    cut = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:cut])
    if kind.endswith("vecs") and cut and cut % row == 0:
        assert len(read_vectors(path)) == cut // row  # whole rows: nothing tells that some are gone
    else:
        with pytest.raises(FormatError, match=path.name):
            read_vectors(path)


@pytest.mark.parametrize("kind", readers.KINDS)
@given(content=st.binary(max_size=300))
@SHARED_FOLDER
def test_arbitrary_bytes_never_crash(tmp_path: Path, kind: str, content: bytes) -> None:
    path = tmp_path / "any.thing"
    path.write_bytes(content)
    for read in (read_vectors, read_ground_truth):
        with contextlib.suppress(FormatError):
            read(path, kind=kind)


@pytest.mark.parametrize("real", ["fvecs", "bvecs", "fbin", "u8bin", "npy"])
@pytest.mark.parametrize("claimed", [*DTYPES, "npy", "hdf5", "npz"])
def test_a_foreign_file_is_told_by_name(tmp_path: Path, real: str, claimed: str) -> None:
    array = np.random.default_rng(0).normal(100, 20, (50, 24))
    right = tmp_path / f"x.{real}"
    write_vectors(right, array.astype(DTYPES.get(real, np.float32)))
    wrong = right.rename(tmp_path / f"y.{claimed}")
    same_layout = {frozenset(("fvecs", "ivecs")), frozenset(("fbin", "ibin"))}
    if real == claimed or {real, claimed} in same_layout or {real, claimed} == {"u8bin", "i8bin"}:
        read_vectors(wrong)
    else:
        with pytest.raises(FormatError, match=f"looks like .*{real}"):
            read_vectors(wrong)


@pytest.mark.parametrize(("head", "name"), [(b"\x1f\x8b", "gzip"), (b"PAR1", "Parquet")])
def test_archives_are_recognised(tmp_path: Path, head: bytes, name: str) -> None:
    path = tmp_path / "x.fbin"
    path.write_bytes(head + bytes(100))
    with pytest.raises(FormatError, match=name):
        read_vectors(path)


@pytest.mark.parametrize("kind", ["fvecs", "fbin", "u8bin", "npy"])
def test_an_unknown_suffix_is_decided_by_content(tmp_path: Path, kind: str) -> None:
    array = np.random.default_rng(1).normal(50, 9, (9, 5)).astype(DTYPES.get(kind, np.float32))
    write_vectors(tmp_path / f"x.{kind}", array)
    path = (tmp_path / f"x.{kind}").rename(tmp_path / "vectors.dat")
    if kind == "u8bin":  # signed or not: the bytes do not say
        with pytest.raises(FormatError, match="u8bin or i8bin"):
            read_vectors(path)
        np.testing.assert_array_equal(read_vectors(path, kind=kind), array)
    else:
        np.testing.assert_array_equal(read_vectors(path), array)


def test_vecs_with_a_changing_dimension(tmp_path: Path) -> None:
    path = tmp_path / "x.bvecs"
    path.write_bytes(struct.pack("<iBB", 2, 1, 2) * 3 + struct.pack("<iBB", 9, 1, 2))
    with pytest.raises(FormatError, match="row 3 claims dimension 9"):
        read_vectors(path)


@pytest.mark.parametrize("options", [{}, {"chunks": (2, 3), "compression": "gzip"}])
def test_hdf5_in_the_layout_of_ann_benchmarks(tmp_path: Path, options: dict[str, object]) -> None:
    path = tmp_path / "x.hdf5"
    train = np.arange(24, dtype=np.float32).reshape(8, 3)
    with h5py.File(path, "w") as file:
        file.create_dataset("train", data=train, **options)
        file.create_dataset("test", data=train[:2] + 1)
        file.create_dataset("neighbors", data=np.array([[0, 1], [1, 2]], np.int32))
        file.create_dataset("distances", data=np.array([[0, 1], [1, 2]], np.float64))
        file.create_group("not a dataset")
    np.testing.assert_array_equal(read_vectors(path), train)
    assert isinstance(read_vectors(path), np.memmap) == (not options)
    np.testing.assert_array_equal(read_vectors(path, role="queries"), train[:2] + 1)
    np.testing.assert_array_equal(read_vectors(path, key="neighbors"), [[0, 1], [1, 2]])
    truth = read_ground_truth(path)
    assert truth.distances is not None
    assert truth.distances.dtype == np.float32
    with pytest.raises(FormatError, match=r"no array other .*it has distances, neighbors"):
        read_vectors(path, key="other")


def test_npz_roles(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, base=np.zeros((3, 2)), q=np.ones((1, 2)), names=np.array(["a", "b"]))
    assert read_vectors(path).shape == (3, 2)
    assert read_vectors(path, role="queries").shape == (1, 2)
    with pytest.raises(FormatError, match="shape"):
        read_vectors(path, key="names")
    with pytest.raises(FormatError, match="no array neighbors or ids"):
        read_ground_truth(path)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    objects = np.array([[print, {}]], object)
    np.save(tmp_path / "x.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "x.npz", base=objects)
    for name in ("x.npy", "x.npz"):
        with pytest.raises(FormatError, match=r"[Oo]bject"):
            read_vectors(tmp_path / name)


@pytest.mark.parametrize(
    ("array", "said"),
    [(np.zeros(3), "2-D"), (np.zeros((2, 2), complex), "complex"), (np.array([["a"]]), "<U1")],
)
def test_arrays_that_are_not_vectors(tmp_path: Path, array: np.ndarray, said: str) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(FormatError, match=said):
        read_vectors(tmp_path / "x.npy")


def test_writers_refuse_what_would_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "x.u8bin"
    with pytest.raises(FormatError, match="from -1 to 300"):
        write_vectors(path, np.array([[-1, 300]]))
    with pytest.raises(FormatError, match="float64: convert"):
        write_vectors(path, np.array([[0.5]]))
    with pytest.raises(FormatError, match="written as"):
        write_vectors(tmp_path / "x.hdf5", np.zeros((1, 1)))
    with pytest.raises(FormatError, match="2-D"):
        write_vectors(path, np.zeros(3, np.uint8))
    with pytest.raises(FormatError, match="int32"):
        write_ground_truth(tmp_path / "t.bin", np.array([[2**31]]), np.zeros((1, 1), np.float32))
    assert list(tmp_path.iterdir()) == []  # not even a part of a file is left


def test_a_missing_file_is_an_oserror(tmp_path: Path) -> None:
    for kind in readers.KINDS:
        with pytest.raises(FileNotFoundError):
            read_vectors(tmp_path / f"none.{kind}")


def test_sniff_knows_an_index_and_nothing(tmp_path: Path) -> None:
    (tmp_path / "nothing").write_bytes(b"hello, world, this is plain text\n")
    assert sniff(tmp_path / "nothing") == []
    (tmp_path / "empty").touch()
    assert sniff(tmp_path / "empty") == []
