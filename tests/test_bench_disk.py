# SPDX-License-Identifier: Apache-2.0
"""The benchmark from disk: its arithmetic by example, and a small run from end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigrain.cli import main
from bigrain.writers import write_vectors
from bigrain_bench import disk, disk_report, fio
from bigrain_bench.measure import Options


def point(recall: float, qps: float, **more: Any) -> dict[str, Any]:
    columns = {key: 1.0 for key, _, _ in disk_report.COLUMNS}
    return {"recall": recall, "rough_qps": qps, **columns, "qps": qps, **more}


def test_what_nothing_beats_stays_with_both_ends() -> None:
    points = [point(0.8, 100), point(0.7, 90), point(0.9, 50), point(0.95, 40), point(0.95, 30)]
    kept = disk.worthy(points)
    assert [(each["recall"], each["rough_qps"]) for each in kept] == [
        (0.8, 100),
        (0.9, 50),
        (0.95, 40),
    ]
    many = [point(at / 100, 100 - at) for at in range(40)]
    assert disk.spread(many[:12]) == many[:12]
    few = disk.spread(many)
    assert (few[0], few[-1], len(few)) == (many[0], many[-1], disk.TIMED)


def test_latencies_are_values_that_occurred() -> None:
    found = disk.latency([at / 1000 for at in range(1, 1002)])
    assert found == pytest.approx({"mean": 501, "p50": 501, "p99": 991, "p999": 1000})
    assert disk.latency([0.002]) == {"mean": 2, "p50": 2, "p99": 2, "p999": 2}


def test_a_point_has_the_medians_of_its_rounds() -> None:
    found = {
        "rounds": [100.0, 300.0, 200.0],
        "cpu_rounds": [1000.0, 500.0, 4000.0],
        "read_rounds": [8192.0, 8192.0, 4096.0],
        "latencies": [dict.fromkeys(("mean", "p50", "p99", "p999"), ms) for ms in (1.0, 9.0, 2.0)],
    }
    disk.summarise(found, Options(threads=2))
    assert (found["qps"], found["cpu_us"], found["ios"]) == (200, 2000, 2)
    assert found["p999_ms"] == 2


def test_every_column_is_read_at_a_recall() -> None:
    points = [point(0.8, 400, ios=10, share=None), point(0.9, 200, ios=30, share=None)]
    found = disk_report.at(points, 0.85)
    assert found is not None
    assert (found["qps"], found["ios"], found["share"]) == (
        pytest.approx(300),
        pytest.approx(20),
        None,
    )
    below = disk_report.at(points, 0.5)
    assert below is not None
    assert below["ios"] == 10
    assert disk_report.at(points, 0.95) is None
    assert disk_report.at([], 0.5) is None


def test_ratios_are_ours_over_theirs() -> None:
    ours, theirs = point(0.9, 300, ios=10), point(0.9, 100, ios=40)
    rows = [
        {"name": "bigrain", "at": {"0.90": ours, "0.99": None}},
        {"name": "diskann", "at": {"0.90": theirs, "0.99": theirs}},
        {"name": "failed", "at": {"0.90": None, "0.99": None}},
    ]
    found = disk_report.ratios(rows)
    assert found["diskann"]["0.90"]["qps"] == 3
    assert found["diskann"]["0.90"]["ios"] == 0.25
    assert "0.99" not in found["diskann"]
    assert found["failed"] == {}


def test_what_fio_says() -> None:
    output = 'note: a note\n{"jobs": [{"read": {"iops": 12500.5, "clat_ns": {"mean": 65000}}}]}'
    assert fio.parse(output, 4, 2, "psync") == fio.Device(12500.5, 65, 4, 2, "psync")


def test_a_run_from_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fio, "SECONDS", 1)
    vectors = np.random.default_rng(3).normal(size=(3000, 24)).astype(np.float32)
    write_vectors(tmp_path / "mine.fvecs", vectors)
    command = ["bench", str(tmp_path / "mine.fvecs"), "--memory", "400KB", "--rounds", "1"]
    command += ["--set", "bigrain.pq_bytes=8", "--seconds", "0", "--singles", "20"]
    command += ["--output", str(tmp_path / "out"), "--disk-folder", str(tmp_path / "files")]
    for asked in ("50", "40"):  # the second time of the files that are there
        assert main([*command, "--limit-queries", asked]) == 0
        told = capsys.readouterr()
        assert "bigrain: resident" in told.out
        (path,) = (tmp_path / "out").glob("*.disk.json")
        found = json.loads(path.read_text(encoding="utf-8"))
        (row,) = found["engines"]
        assert row["points"][-1]["recall"] > 0.9
        assert row["points"][-1]["cost"]["reads"] > 0
        assert row["memory_bytes"] <= 400_000
        assert row["at"]["0.90"]["qps"] > 0
        assert path.with_suffix(".png").stat().st_size > 0
    seconds = json.loads(next((tmp_path / "files").glob("*/*/built.json")).read_text())["built"]
    assert row["build_seconds"] == seconds["seconds"]


def test_what_cannot_answer_from_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["bench", "glove-sample", "--memory", "min", "--output", str(tmp_path)]
    assert main([*common, "--against", "hnswlib"]) == 1
    assert "hnswlib cannot answer from disk; known is diskann" in capsys.readouterr().err
    assert main([*common, "--grid"]) == 1
    assert "--memory, --grid" in capsys.readouterr().err
