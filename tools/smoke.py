# SPDX-License-Identifier: Apache-2.0
"""What must work right after `pip install bigrain`, with nothing but NumPy beside it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import bigrain


def main() -> None:
    """Build, search, save, open, ask the command."""
    vectors = np.random.default_rng(0).standard_normal((1000, 24), dtype=np.float32)
    index = bigrain.Index.build(vectors, metric="l2")
    ids, distances = index.search(vectors[:100], k=5)
    assert (ids[:, 0] == np.arange(100)).all(), "a vector is not its own nearest neighbour"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "smoke.bigrain"
        index.save(path)
        again = bigrain.Index.open(path).search(vectors[:100], k=5)
        np.testing.assert_array_equal(again.ids, ids)
        np.testing.assert_array_equal(again.distances, distances)
        command = [sys.executable, "-m", "bigrain", "info", str(path)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    print(f"bigrain {bigrain.__version__}: built, searched, saved and opened")


if __name__ == "__main__":
    main()
