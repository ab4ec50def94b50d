# SPDX-License-Identifier: Apache-2.0
"""Saving while the process is killed or the disk is full: the old or the new file is there.

The kills are real. Where strace may attach, a child is killed at every single system call of a
save; everywhere, children are killed at random moments. cpp/tests/io_atomic_save_test.cpp fails
every call in turn without needing either.
"""

from __future__ import annotations

import ctypes
import errno
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from children import RAISED, exit_code_of, in_child
from conftest import make_vectors
from index_file import content_of

from bigrain import Index

NEW_SEED = 12  # of the index that is saved over another
PR_SET_PTRACER, PR_SET_PTRACER_ANY = 0x59616D61, -1


@pytest.fixture(scope="module")
def old() -> Index:
    return Index.build(make_vectors(500, 24), degree=8, build_width=16)


@pytest.fixture(scope="module")
def new() -> Index:
    return Index.build(make_vectors(700, 24, seed=NEW_SEED), degree=8, build_width=16)


def expect_one_file(path: Path, contents: list[bytes | None], new: Index) -> None:
    """`path` holds one of `contents` (None: nothing); the next save leaves it alone in its folder.

    A kill may leave one temporary file.
    """
    found = path.read_bytes() if path.exists() else None
    assert found in contents
    others = [name for name in os.listdir(path.parent) if name != path.name]
    assert len(others) <= 1
    if found is not None:
        assert Index.open(path).validate().ok
    new.save(path)
    assert path.read_bytes() == content_of(new)
    assert os.listdir(path.parent) == [path.name]


# Kills  (S1)


class TracedSave:
    """A save in a child whose system calls strace watches and tampers with."""

    def __init__(self, index: Index, path: Path, log: Path) -> None:
        self.index, self.path, self.log = index, path, log

    def run(self, *options: str) -> int:
        """Return the exit code of the child, or the negated signal that ended it."""
        start_reading, start_writing = os.pipe()
        child = in_child(lambda: self._child(start_reading))
        tracer = subprocess.Popen(
            ["strace", "-p", str(child), "-o", str(self.log), *options],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert tracer.stderr is not None
        attached = "attached" in tracer.stderr.readline()
        os.write(start_writing, b"x")
        code = exit_code_of(child)
        tracer.communicate(timeout=20)
        os.close(start_writing)
        os.close(start_reading)
        if not attached:
            pytest.skip("strace may not attach to a process here")
        return code

    def _child(self, start: int) -> None:
        ctypes.CDLL(None).prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0)
        os.read(start, 1)
        self.index.save(self.path)

    def calls(self) -> list[tuple[str, int]]:
        """Return every call of an undisturbed save, as its name and how often it came before."""
        assert self.run() == 0
        names = re.findall(r"^(\w+)\(", self.log.read_text(), re.MULTILINE)
        counts: Counter[str] = Counter()
        found = []
        for name in names:
            counts[name] += 1
            # getpid touches no file, and libraries that other tests loaded call it now and then.
            if name not in ("exit_group", "restart_syscall", "getpid"):
                found.append((name, counts[name]))
        return found


@pytest.fixture
def traced(new: Index, tmp_path: Path) -> TracedSave:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    folder = tmp_path / "folder"
    folder.mkdir()
    return TracedSave(new, folder / "x.bigrain", tmp_path / "log")


@pytest.mark.parametrize("existing", [True, False])
def test_a_kill_at_every_system_call(traced: TracedSave, old: Index, existing: bool) -> None:
    before = content_of(old) if existing else None
    contents = [before, content_of(traced.index)]
    calls = traced.calls()
    assert {"pwrite64", "fsync"} <= {name for name, _ in calls}
    killed = 0
    for name, number in calls:
        shutil.rmtree(traced.path.parent)
        traced.path.parent.mkdir()
        if before is not None:
            traced.path.write_bytes(before)
        code = traced.run(f"--trace={name}", "-e", f"inject={name}:signal=KILL:when={number}")
        killed += code == -signal.SIGKILL
        expect_one_file(traced.path, contents, traced.index)
    assert killed >= 0.9 * len(calls)  # memory management may differ from run to run


@pytest.mark.parametrize("failure", ["ENOSPC", "EIO", "EDQUOT"])
def test_every_write_and_flush_may_fail(traced: TracedSave, old: Index, failure: str) -> None:
    # S3, by injection: errors come from the kernel's side of the call.
    before = content_of(old)
    written = ("pwrite64", "fsync")
    for name, number in [call for call in traced.calls() if call[0] in written]:
        traced.path.write_bytes(before)
        code = traced.run(f"--trace={name}", "-e", f"inject={name}:error={failure}:when={number}")
        assert code == RAISED
        # The last flush, of the directory, follows the renaming.
        renamed = traced.path.read_bytes() == content_of(traced.index)
        assert renamed == ((name, number) == ("fsync", 2))
        assert renamed or traced.path.read_bytes() == before
        assert os.listdir(traced.path.parent) == [traced.path.name]


def test_kills_at_random_moments(old: Index, new: Index, tmp_path: Path) -> None:
    path = tmp_path / "x.bigrain"
    contents: list[bytes | None] = [content_of(old), content_of(new)]
    chance = random.Random(1)

    def save_for_ever() -> None:
        while True:
            new.save(path)
            old.save(path)

    for _ in range(60):
        old.save(path)
        child = in_child(save_for_ever)
        time.sleep(chance.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        expect_one_file(path, contents, old)


# Full disks  (S3)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("mounting needs root")
    command = [mount, "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(small_disk: Path) -> None:
    path = small_disk / "x.bigrain"
    index = Index.build(make_vectors(8000, 128), degree=8, build_width=16)
    size = len(content_of(index))
    assert 4 << 20 < size < 8 << 20
    index.save(path)
    before = path.read_bytes()
    for _ in range(3):
        with pytest.raises(OSError, match="No space left") as caught:
            index.save(path)
        assert caught.value.errno == errno.ENOSPC
        assert caught.value.filename
        assert path.read_bytes() == before
        assert os.listdir(small_disk) == [path.name]
    path.unlink()
    assert index.save(path) == size


def test_a_file_size_limit_at_every_page(old: Index, new: Index, tmp_path: Path) -> None:
    path = tmp_path / "x.bigrain"
    before = content_of(old)
    path.write_bytes(before)
    size = len(content_of(new))

    def save_under(limit: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            new.save(path)
        except OSError as error:
            os._exit(3 if error.errno == errno.EFBIG and error.filename else 4)

    for limit in [*range(0, size, 8192), size - 1]:
        assert exit_code_of(in_child(partial(save_under, limit))) == 3
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == [path.name]
    assert exit_code_of(in_child(partial(save_under, size))) == 0
    assert path.read_bytes() == content_of(new)


def test_a_read_only_disk(small_disk: Path, new: Index) -> None:
    path = small_disk / "x.bigrain"
    new.save(path)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OSError, match="Read-only") as caught:
        new.save(path)
    assert caught.value.errno == errno.EROFS
    assert path.read_bytes() == content_of(new)
