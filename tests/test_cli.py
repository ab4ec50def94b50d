# SPDX-License-Identifier: Apache-2.0
"""The command, as a shell runs it: what it writes, what it says, and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import bigrain
from bigrain.readers import read_ground_truth
from bigrain.writers import write_vectors

TIMEOUT = 120


def run(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "bigrain", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base.fvecs (600 x 16), queries.fbin, truth.bin, and x.bigrain built from the base."""
    folder = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(5)
    base = rng.normal(size=(600, 16)).astype(np.float32)
    write_vectors(folder / "base.fvecs", base)
    write_vectors(folder / "queries.fbin", rng.normal(size=(20, 16)).astype(np.float32))
    run("groundtruth", folder / "base.fvecs", folder / "queries.fbin", folder / "truth.bin")
    run("build", folder / "base.fvecs", folder / "x.bigrain")
    return folder


def test_version_and_help() -> None:
    assert run("--version").stdout.strip() == f"bigrain {bigrain.__version__}"
    listed = run("--help").stdout
    for verb in ("build", "search", "info", "validate", "groundtruth", "bench", "demo"):
        assert verb in listed
        assert "usage: bigrain" in run(verb, "--help").stdout


def test_build_reports_and_shows_progress(files: Path, tmp_path: Path) -> None:
    done = run("build", files / "base.fvecs", tmp_path / "a.bigrain", "--metric", "cosine")
    assert "600 vectors of dimension 16" in done.stdout
    assert "building" in done.stderr
    quiet = run("build", files / "base.fvecs", tmp_path / "b.bigrain", "--quiet")
    assert quiet.stderr == ""
    with bigrain.Index.open(tmp_path / "a.bigrain") as index:
        assert index.metric == "cosine"
        assert len(index) == 600


def test_build_takes_ids_and_tunes(files: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", np.arange(600) * 3 + 7)
    arguments = ["--ids", tmp_path / "ids.npy", "--tune", "0.9", "--seed", "1", "--degree", "16"]
    done = run("build", files / "base.fvecs", tmp_path / "x.bigrain", *arguments)
    assert "recall@10" in done.stderr
    found = run("search", tmp_path / "x.bigrain", files / "queries.fbin", "--recall", "0.9", "-k1")
    first = int(found.stdout.split(":")[0])
    assert (first - 7) % 3 == 0


def test_search_prints_pairs_and_recall(files: Path) -> None:
    done = run(
        *("search", files / "x.bigrain", files / "queries.fbin", "-k", 5, "--width", 100),
        *("--truth", files / "truth.bin"),
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 20
    pairs = [pair.split(":") for pair in lines[0].split()]
    assert len(pairs) == 5
    assert [float(distance) for _, distance in pairs] == sorted(float(d) for _, d in pairs)
    recall = float(done.stderr.split("recall@5 ")[1])
    assert recall > 0.95
    assert "per second" in done.stderr


@pytest.mark.parametrize("suffix", ["bin", "npz", "npy", "ivecs"])
def test_search_writes_what_it_prints(files: Path, tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"found.{suffix}"
    run("search", files / "x.bigrain", files / "queries.fbin", "-o", output, "--width", 64)
    index = bigrain.Index.open(files / "x.bigrain")
    queries = np.fromfile(files / "queries.fbin", np.float32, offset=8).reshape(20, 16)
    expected = index.search(queries, 10, width=64)
    found = read_ground_truth(output)
    np.testing.assert_array_equal(found.ids, expected.ids)
    if suffix in ("bin", "npz"):
        assert found.distances is not None
        np.testing.assert_array_equal(found.distances, expected.distances)


def test_groundtruth_is_exact(files: Path) -> None:
    found = read_ground_truth(files / "truth.bin")
    assert found.ids.shape == (20, 100)
    base = np.fromfile(files / "base.fvecs", np.float32).reshape(600, 17)[:, 1:]
    queries = np.fromfile(files / "queries.fbin", np.float32, offset=8).reshape(20, 16)
    exact = np.square(base[None] - queries[:, None]).sum(axis=2)
    np.testing.assert_array_equal(found.ids, np.argsort(exact, axis=1)[:, :100])


def test_info_prints_json(files: Path) -> None:
    told = json.loads(run("info", files / "x.bigrain").stdout)
    assert 600 in told.values()
    assert 16 in told.values()


def test_info_prints_the_plan(files: Path) -> None:
    told = run("info", files / "x.bigrain", "--plan").stdout
    assert told == f"{bigrain.Index.open(files / 'x.bigrain').plan()}\n"


def test_validate_sound_and_damaged(files: Path, tmp_path: Path) -> None:
    assert "sound, 600 points" in run("validate", files / "x.bigrain").stdout
    damaged = bytearray((files / "x.bigrain").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "damaged.bigrain").write_bytes(damaged)
    error = run("validate", tmp_path / "damaged.bigrain", code=1).stderr
    assert "damaged.bigrain" in error
    (tmp_path / "cut.bigrain").write_bytes(damaged[: len(damaged) // 3])
    for verb in (["validate"], ["info"]):
        run(*verb, tmp_path / "cut.bigrain", code=1)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["frobnicate"],
        ["build"],
        ["build", "a", "b", "--metric", "hamming"],
        ["build", "a", "b", "--degree", "0"],
        ["build", "a", "b", "--degree", "many"],
        ["search", "a", "b", "--width", "5", "--recall", "0.9"],
        ["search", "a", "b", "--recall", "1.5"],
        ["bench", "glove-sample", "--against", "nobody"],
        ["bench", "glove-sample", "--set", "hnswlib"],
    ],
)
def test_usage_errors_exit_with_2(arguments: list[str]) -> None:
    assert "usage: bigrain" in run(*arguments, code=2).stderr


def test_failures_exit_with_1_and_one_line(files: Path, tmp_path: Path) -> None:
    def fails(*arguments: object) -> str:
        error = run(*arguments, "--quiet", code=1).stderr
        assert error.count("\n") == 1
        assert error.startswith(f"bigrain {arguments[0]}: error: ")
        return error

    index, base, queries = files / "x.bigrain", files / "base.fvecs", files / "queries.fbin"
    out = tmp_path / "out.bigrain"
    assert "No such file" in fails("build", tmp_path / "none.fvecs", out)
    assert "out.bigrain" in fails("search", out, queries)
    assert "no folder" in fails("build", base, tmp_path / "none" / "x.bigrain")
    assert "is a folder" in fails("build", base, tmp_path)
    assert "suffix" in fails("groundtruth", base, queries, tmp_path / "out.csv")
    assert "recall" in fails("search", index, queries, "--recall", "0.9")  # never tuned
    renamed = tmp_path / "renamed.fbin"
    renamed.write_bytes(base.read_bytes())
    assert "looks like fvecs (600 x 16)" in fails("build", renamed, out)
    assert "not-an-index" in fails("search", _text(tmp_path / "not-an-index"), queries)
    write_vectors(tmp_path / "narrow.npy", np.zeros((2, 3), np.float32))
    assert "3" in fails("search", index, tmp_path / "narrow.npy")
    np.save(tmp_path / "ids.npy", np.zeros(600, np.int64))
    fails("build", base, out, "--ids", tmp_path / "ids.npy")  # repeated ids
    assert not out.exists()


def _text(path: Path) -> Path:
    path.write_text("this is not an index\n" * 500, encoding="utf-8")
    return path


def test_build_does_not_overwrite_vectors(files: Path, tmp_path: Path) -> None:
    victim = tmp_path / "precious.fvecs"
    victim.write_bytes((files / "base.fvecs").read_bytes())
    error = run("build", files / "base.fvecs", victim, code=1).stderr
    assert "--force" in error
    assert victim.read_bytes() == (files / "base.fvecs").read_bytes()
    run("build", files / "base.fvecs", victim, "--force")
    run("validate", victim)
    run("build", files / "base.fvecs", victim)  # an index is replaced without being told to


def test_a_closed_pipe_is_no_traceback(files: Path) -> None:
    command = [sys.executable, "-m", "bigrain", "search", files / "x.bigrain"]
    child = subprocess.Popen(
        [*command, files / "base.fvecs", "-q"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.close()
    _, errors = child.communicate(timeout=TIMEOUT)
    assert b"Traceback" not in errors


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_ctrl_c_exits_with_130(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "big.npy", rng.normal(size=(200_000, 96)).astype(np.float32))
    child = subprocess.Popen(
        [sys.executable, "-m", "bigrain", "build", tmp_path / "big.npy", tmp_path / "x.bigrain"],
        stderr=subprocess.PIPE,
    )
    assert child.stderr is not None
    child.stderr.read(1)  # the progress bar appears when the build has begun
    time.sleep(0.3)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=30)
    assert child.returncode == 130, errors
    assert b"interrupted" in errors
    assert b"Traceback" not in errors
    assert not (tmp_path / "x.bigrain").exists()


def test_build_in_little_memory(files: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.bigrain"
    done = run("build", files / "base.fvecs", path, "--memory", "2MiB", "--clean")
    assert "600 vectors of dimension 16" in done.stdout
    assert bigrain.Index.open(path).validate().ok
    assert os.listdir(tmp_path) == [path.name]
    refused = run("build", files / "base.fvecs", path, "--memory", "2MiB", "--tune", ".9", code=1)
    assert "--tune" in refused.stderr
    refused = run("build", files / "base.fvecs", path, "--clean", code=1)
    assert "--memory" in refused.stderr
