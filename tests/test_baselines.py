# SPDX-License-Identifier: Apache-2.0
"""The graphs of twelve tiny builds, kept as JSON: a change of the build is a diff in review.

After a deliberate change: BIGRAIN_BASELINES=overwrite pytest tests/test_baselines.py
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import DTYPES, METRICS

from bigrain import Index

FOLDER = Path(__file__).parent / "baselines"
N, DIM, DEGREE = 60, 6, 6


def tiny_vectors(dtype: str) -> npt.NDArray[Any]:
    """Values by multiplicative hashing: the same in every version of NumPy."""
    hashed = (np.arange(1, N * DIM + 1, dtype=np.uint64) * 2654435761 % 2**32).reshape(N, DIM)
    if dtype.startswith("float"):
        return (hashed / 2**31 - 1).astype(dtype)
    return (hashed >> np.uint64(25)).astype(dtype)  # 0 to 127 suits both integer types


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_graph_is_the_reviewed_one(metric: Any, dtype: str) -> None:
    index = Index.build(tiny_vectors(dtype), metric=metric, degree=DEGREE, build_width=16, seed=1)
    core = index._opened()
    rows = [[int(i) for i in row if i != own] for own, row in enumerate(core.graph())]
    found = {"entry": core.meta()["entry"], "rows": rows}
    path = FOLDER / f"{metric}-{dtype}.json"
    if os.environ.get("BIGRAIN_BASELINES") == "overwrite":
        lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
        path.write_text(f'{{"entry": {found["entry"]}, "rows": [\n{lines}\n]}}\n')
    assert found == json.loads(path.read_text())
