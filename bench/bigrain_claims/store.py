# SPDX-License-Identifier: Apache-2.0
"""Results on disk: one JSON file per arm, with every seed's figures and what they were made with.

Values per query are rounded to four digits and stored as the list of distinct values and, in
base64 of zlib, which of them each query has: ranks and hits take about a byte for three queries.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import zlib
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from bigrain_bench import machine
from bigrain_claims.claim import F64, ArmResult, Claim

LIBRARIES = ("torch", "numpy", "bigrain", "tokenizers", "transformers", "sentence-transformers")
DIGITS = 4


def environment(claim: Claim, device: str) -> dict[str, Any]:
    """Commit (with "-dirty"), machine, versions, and a digest of the rule that was in force."""
    found = machine.describe()
    del found["cpu_flags"]
    return {
        **found,
        "device": device,
        "versions": {name: _version(name) for name in LIBRARIES},
        "rule": rule_digest(claim),
    }


def rule_digest(claim: Claim) -> str:
    """Changes when the rule, the control or the set of arms does."""
    text = json.dumps([claim.rule, claim.control, claim.arms])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def arm_path(folder: Path, claim: str, arm: str) -> Path:
    """Where an arm's runs lie; what a file name cannot hold becomes "_"."""
    safe = "".join(c if c.isalnum() or c in "-+.=" else "_" for c in arm)
    return folder / claim.lower() / f"{safe}.json"


def add(folder: Path, result: ArmResult) -> None:
    """Writes a run beside the arm's other seeds, in place of an earlier run of this seed."""
    path = arm_path(folder, result.claim, result.arm)
    runs = [r for r in read_arm(path) if r.seed != result.seed] + [result]
    path.parent.mkdir(parents=True, exist_ok=True)
    # A line per run: with a line per number the files would be three times as long.
    lines = [json.dumps(_encode(r), allow_nan=False) for r in sorted(runs, key=lambda r: r.seed)]
    head = json.dumps({"claim": result.claim, "arm": result.arm})[:-1]
    text = head + ', "runs": [\n' + ",\n".join(lines) + "\n]}\n"
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def read_arm(path: Path) -> list[ArmResult]:
    """The runs of an arm; none where the file is missing."""
    if not path.exists():
        return []
    body = json.loads(path.read_text(encoding="utf-8"))
    return [_decode(body["claim"], body["arm"], run) for run in body["runs"]]


def read(folder: Path, claim: Claim) -> list[ArmResult]:
    """Every run of a claim's arms."""
    return [run for arm in claim.arms for run in read_arm(arm_path(folder, claim.id, arm))]


def _encode(result: ArmResult) -> dict[str, Any]:
    body = dataclasses.asdict(result)
    del body["claim"], body["arm"]
    body["per_query"] = {name: pack(array) for name, array in result.per_query.items()}
    body["seconds"] = round(result.seconds, 2)
    return body


def _decode(claim: str, arm: str, body: dict[str, Any]) -> ArmResult:
    arrays = {name: unpack(packed) for name, packed in body.pop("per_query").items()}
    return ArmResult(claim=claim, arm=arm, per_query=arrays, **body)


def pack(array: F64) -> dict[str, Any]:
    """Rounded to four digits: the distinct values, and which of them each query has."""
    distinct, which = np.unique(np.round(array, DIGITS), return_inverse=True)
    kind = "u1" if len(distinct) <= 256 else "<u2" if len(distinct) <= 65536 else "<u4"
    squeezed = zlib.compress(which.astype(kind).tobytes(), 9)
    codes = base64.b64encode(squeezed).decode("ascii")
    return {"values": distinct.tolist(), "kind": kind, "codes": codes}


def unpack(packed: dict[str, Any]) -> F64:
    """What `pack` stored, (queries,)."""
    raw = zlib.decompress(base64.b64decode(packed["codes"]))
    return np.array(packed["values"], np.float64)[np.frombuffer(raw, packed["kind"])]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
