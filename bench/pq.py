# SPDX-License-Identifier: Apache-2.0
"""Product quantization beside faiss: error, training and encoding, in one run on the same rows.

    python bench/pq.py --data fashion-mnist                       # m = 16, 49, 98; 8 and 4 bits
    python bench/pq.py --data glove-100 --m 20,25 --threads 1,2 --rounds 3
    python bench/pq.py --data fashion-mnist --opq --rows 10000    # OPQ, codes of 8 bits

Every measurement has a process of its own, and the two libraries take turns. Printed are ratios,
medians over the rounds: ours / faiss for the error (mean squared distance of decoded rows), faiss /
ours for the time of training and of encoding all rows: CPU time with one thread, else wall time.
Both train on up to 65,536 rows; with 4 bits faiss trains on 4,096 of them and Bigrain on 16,384,
their defaults. Needs faiss-cpu.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bigrain_bench import datasets

# Numbers of sub-vectors that divide the dimension, as faiss needs it.
DEFAULT_M = {"fashion-mnist": "16,49,98", "glove-100": "20,25,50", "minilm-text": "16,48,96"}
# A shell may set these for another library's sake; they slow a current OpenBLAS, faiss's.
DROPPED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
# One encoding of a small set is too short to time.
ENCODE_ROUNDS = 3


def error_of(decoded: np.ndarray, x: np.ndarray) -> float:
    """Mean squared distance of decoded rows."""
    return float(((decoded - x) ** 2).sum(axis=1).mean(dtype=np.float64))


def clock(threads: int) -> float:
    """Return seconds: of this process's CPU where one thread works, which others cannot stretch."""
    return time.process_time() if threads == 1 else time.perf_counter()


def best_time(call: Any, threads: int) -> tuple[float, Any]:
    """Return the least of a few times, and the result."""
    least, result = float("inf"), None
    for _ in range(ENCODE_ROUNDS):
        begin = clock(threads)
        result = call()
        least = min(least, clock(threads) - begin)
    return least, result


def measure_ours(x: np.ndarray, m: int, bits: int, threads: int, opq: bool) -> dict[str, float]:
    """Train, encode and decode with Bigrain."""
    from bigrain.quant import OPQ, PQ

    quantizer = OPQ(m, bits) if opq else PQ(m, bits)
    begin = clock(threads)
    quantizer.fit(x, threads=threads)
    trained = clock(threads) - begin
    encoded, codes = best_time(lambda: quantizer.encode(x, threads=threads), threads)
    return {"train": trained, "encode": encoded, "error": error_of(quantizer.decode(codes), x)}


def measure_faiss(x: np.ndarray, m: int, bits: int, threads: int, opq: bool) -> dict[str, float]:
    """Train, encode and decode with faiss; OPQ is its OPQMatrix before its ProductQuantizer."""
    import faiss

    faiss.omp_set_num_threads(threads)
    dim = x.shape[1]
    if dim % m:  # faiss needs sub-vectors of one length: zeros fill the last ones
        x = np.pad(x, ((0, 0), (0, -dim % m)))
    quantizer = faiss.ProductQuantizer(x.shape[1], m, bits)
    rotation = faiss.OPQMatrix(x.shape[1], m) if opq else None
    begin = clock(threads)
    if rotation is not None:
        rotation.train(x)
    quantizer.train(rotation.apply(x) if rotation is not None else x)
    trained = clock(threads) - begin
    encoded, codes = best_time(
        lambda: quantizer.compute_codes(rotation.apply(x) if rotation is not None else x), threads
    )
    decoded = quantizer.decode(codes)
    if rotation is not None:
        decoded = rotation.reverse_transform(decoded)
    return {"train": trained, "encode": encoded, "error": error_of(decoded, x)}


def run_child(
    engine: str, path: Path, m: int, bits: int, threads: int, opq: bool
) -> dict[str, Any]:
    """Measure in a process of its own."""
    job = json.dumps([engine, str(path), m, bits, threads, opq])
    environment = {name: value for name, value in os.environ.items() if name not in DROPPED}
    done = subprocess.run(
        [sys.executable, __file__, "--job", job],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return dict(json.loads(done.stdout))


def child(job: str) -> None:
    """Run one measurement and print it."""
    engine, path, m, bits, threads, opq = json.loads(job)
    measure = measure_ours if engine == "ours" else measure_faiss
    print(json.dumps(measure(np.load(path), m, bits, threads, opq)))


def compare(path: Path, m: int, bits: int, threads: int, opq: bool, rounds: int) -> None:
    """Print one line of ratios."""
    ours, faiss = [], []
    for _ in range(rounds):
        ours.append(run_child("ours", path, m, bits, threads, opq))
        faiss.append(run_child("faiss", path, m, bits, threads, opq))
    ratio = {
        name: [b[name] / a[name] for a, b in zip(ours, faiss, strict=True)]
        for name in ("train", "encode")
    }
    spread = {
        name: f"{statistics.median(values):6.2f} [{min(values):.2f}, {max(values):.2f}]"
        for name, values in ratio.items()
    }
    error = ours[0]["error"] / faiss[0]["error"]
    seconds = "/".join(
        f"{statistics.median(a['train'] for a in side):.2f}" for side in (ours, faiss)
    )
    print(
        f"m={m:<3} bits={bits} threads={threads}  error {error:.4f}  train {spread['train']}  "
        f"encode {spread['encode']}  (training, s: {seconds})",
        flush=True,
    )


def main() -> None:
    """Parse the command line and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", default="glove-sample", help="a name that `bigrain bench` knows")
    parser.add_argument("--path", type=Path, help="the file, where the set is the user's own")
    parser.add_argument("--m", help="sub-vectors, as 16,48")
    parser.add_argument("--bits", default="8,4")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, help="only so many rows, seed 0")
    parser.add_argument("--opq", action="store_true", help="OPQ instead of PQ; 8 bits")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        child(arguments.job)
        return
    x = datasets.load(arguments.data, data=arguments.path).base
    if arguments.rows and arguments.rows < len(x):
        chosen = np.random.default_rng(0).choice(len(x), arguments.rows, replace=False)
        x = np.ascontiguousarray(x[np.sort(chosen)])
    print(f"{arguments.data}: {x.shape[0]} x {x.shape[1]}")
    numbers = (arguments.m or DEFAULT_M.get(arguments.data, "16")).split(",")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.npy"
        np.save(path, x)
        for bits in (8,) if arguments.opq else map(int, arguments.bits.split(",")):
            for m in map(int, numbers):
                for threads in map(int, arguments.threads.split(",")):
                    compare(path, m, bits, threads, arguments.opq, arguments.rounds)


if __name__ == "__main__":
    main()
