# SPDX-License-Identifier: Apache-2.0
"""Saving to hopeless and unusual paths, and to files that others have open."""

from __future__ import annotations

import errno
import os
import re
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from children import exit_code_of, in_child
from conftest import assert_same, make_vectors
from index_file import content_of

from bigrain import CorruptIndexError, Index


@pytest.fixture(scope="module")
def old() -> Index:
    return Index.build(make_vectors(500, 24), degree=8, build_width=16)


@pytest.fixture(scope="module")
def new() -> Index:
    return Index.build(make_vectors(700, 24, seed=12), degree=8, build_width=16)


# Hopeless and unusual paths  (S5)


def error_of_save(index: Index, path: Path) -> int:
    with pytest.raises(OSError, match=re.escape(path.name[:20])) as caught:
        index.save(path)
    assert caught.value.filename == str(path)
    assert caught.value.errno is not None
    return caught.value.errno


def test_paths_that_cannot_be_saved_to(new: Index, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    assert error_of_save(new, tmp_path / "folder") == errno.EISDIR
    assert error_of_save(new, tmp_path / "file" / "x") == errno.ENOTDIR
    assert error_of_save(new, tmp_path / ("x" * 256)) == errno.ENAMETOOLONG
    assert error_of_save(new, tmp_path / "loop") == errno.ELOOP
    assert error_of_save(new, tmp_path / "pipe") == errno.EINVAL
    assert error_of_save(new, Path("/dev/null")) == errno.EINVAL
    with pytest.raises(FileNotFoundError) as caught:
        new.save(tmp_path / "missing" / "x")
    assert str(tmp_path / "missing") in caught.value.filename
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "loop", "pipe"]


def test_a_folder_without_permission(new: Index, tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    path = folder / "x.bigrain"
    new.save(path)
    before = path.read_bytes()
    folder.chmod(0o555)

    def save_as_nobody() -> None:
        if os.geteuid() == 0:
            for parent in [tmp_path, *tmp_path.parents][:3]:
                parent.chmod(0o755)
            os.setgid(65534)
            os.setuid(65534)
        try:
            new.save(path)
        except PermissionError as error:
            os._exit(3 if str(folder) in error.filename else 4)

    assert exit_code_of(in_child(save_as_nobody)) == 3
    assert path.read_bytes() == before
    assert os.listdir(folder) == [path.name]


def test_links_are_followed(old: Index, new: Index, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    real, link = tmp_path / "sub" / "real", tmp_path / "link"
    link.symlink_to("sub/real")
    for index in (old, new):  # first into the void, then over a file
        index.save(link)
        assert link.is_symlink()
        assert real.read_bytes() == content_of(index)
    assert os.listdir(real.parent) == ["real"]


def test_a_name_of_255_bytes(new: Index, tmp_path: Path) -> None:
    path = tmp_path / ("ø" * 127 + "x")
    new.save(path)
    assert path.read_bytes() == content_of(new)
    assert os.listdir(tmp_path) == [path.name]


# Open files


def test_saving_onto_the_open_file(old: Index, tmp_path: Path) -> None:  # S7
    queries = make_vectors(20, 24, seed=5)
    path = tmp_path / "x.bigrain"
    old.save(path)
    first = Index.open(path)
    expected = old.search(queries, 5)
    for _ in range(100):
        second = Index.open(path)
        second.save(path)
        assert_same(second.search(queries, 5), expected)
        assert_same(first.search(queries, 5), expected)
    assert path.read_bytes() == content_of(old)


def test_an_open_index_outlives_its_file(old: Index, new: Index, tmp_path: Path) -> None:  # S6
    queries = make_vectors(20, 24, seed=5)
    path = tmp_path / "x.bigrain"
    expected = old.search(queries, 5)
    old.save(path)
    index = Index.open(path)
    new.save(path)
    assert_same(index.search(queries, 5), expected)
    os.truncate(path, 100)
    assert_same(index.search(queries, 5), expected)
    path.unlink()
    assert_same(index.search(queries, 5), expected)


def test_readers_beside_a_writer(old: Index, new: Index, tmp_path: Path) -> None:  # S8, briefly
    path = tmp_path / "x.bigrain"
    old.save(path)
    sizes = {len(old), len(new)}

    def read_until(deadline: float) -> None:
        while time.monotonic() < deadline:
            assert len(Index.open(path)) in sizes

    deadline = time.monotonic() + 2
    readers = [in_child(partial(read_until, deadline)) for _ in range(3)]
    while time.monotonic() < deadline:
        new.save(path)
        old.save(path)
    for reader in readers:
        assert exit_code_of(reader) == 0


def test_two_writers_leave_one_of_their_files(old: Index, new: Index, tmp_path: Path) -> None:
    path = tmp_path / "x.bigrain"

    def save_often(index: Index) -> None:
        for _ in range(30):
            index.save(path)

    writers = [in_child(partial(save_often, index)) for index in (old, new)]
    for writer in writers:
        assert exit_code_of(writer) == 0
    assert path.read_bytes() in (content_of(old), content_of(new))
    assert os.listdir(tmp_path) == [path.name]


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.bigrain"
    index = Index.build(make_vectors(20_000, 128), degree=2, build_width=1)
    index.save(path)

    def shrink(done: int, total: int) -> None:
        os.truncate(path, 8192)

    with pytest.raises(CorruptIndexError, match="was truncated at 8192 bytes while"):
        Index.open(path, progress=shrink)
    assert np.isfinite(index.search(make_vectors(1, 128), 1).distances).all()


def test_descriptors_and_temporary_files_do_not_pile_up(new: Index, tmp_path: Path) -> None:
    path: Any = tmp_path / "x.bigrain"
    before = len(os.listdir("/dev/fd"))
    for _ in range(50):
        new.save(path)
        Index.open(path).close()
        with pytest.raises(IsADirectoryError):
            new.save(tmp_path)
        with pytest.raises(CorruptIndexError):
            Index.open("/dev/zero")
    assert len(os.listdir("/dev/fd")) == before
    assert os.listdir(tmp_path) == [path.name]
