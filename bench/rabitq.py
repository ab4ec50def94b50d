# SPDX-License-Identifier: Apache-2.0
"""Codes alone, at equal bits: how far off are distances, and how many neighbours do they find?

    python bench/rabitq.py fashion-mnist glove-100 --bits 1,4,8
    python bench/rabitq.py vectors.npz --metric cosine --rows 60000

Compares bigrain.quant with faiss (IndexRaBitQ behind a random rotation, IndexScalarQuantizer) and
with rabitqlib (an IVF of one list), whichever can be imported. No graph, no exact distances: every
query meets every code, on one thread. Vectors of cosine sets are normalised, and all distances are
squared Euclidean.

Columns: bytes per vector; recall@10 by id; bias and rms error of the distances to each query's 100
nearest vectors, in per cent of the distance; microseconds of encoding per vector; nanoseconds per
distance (bigrain computes all of them, the others search for the ten nearest).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigrain import exact_search
from bigrain.quant import RaBitQ, ScalarQuantizer
from bigrain_bench import datasets

F32 = NDArray[np.float32]
K, NEAR = 10, 100


class Codes(NamedTuple):
    """Encoded vectors of one engine."""

    size: int  # bytes per vector
    distances: Callable[[F32], F32]  # all of them
    ask: Callable[[F32], object]  # what is timed


Engine = tuple[str, Callable[[F32], Codes]]


def ours(quantizer: Any) -> Callable[[F32], Codes]:
    """Encode with bigrain."""

    def build(base: F32) -> Codes:
        quantizer.fit(base, threads=1)
        codes = quantizer.encode(base, threads=1)

        def ask(queries: F32) -> F32:
            found: F32 = quantizer.distance(queries, codes, threads=1)
            return found

        return Codes(quantizer.code_size, ask, ask)

    return build


def scatter(found: tuple[F32, Any], count: int) -> F32:
    """Put a full ranking back into the order of the base."""
    distances, ids = found
    out = np.full((len(ids), count), np.inf, np.float32)
    row, column = np.nonzero(ids >= 0)
    out[row, ids[row, column]] = distances[row, column]
    return out


def faiss_engines(bits: list[int]) -> Iterator[Engine]:
    """Yield faiss's RaBitQ and scalar quantizers."""
    try:
        import faiss
    except ImportError:
        return
    faiss.omp_set_num_threads(1)

    def wrap(make: Callable[[int], Any]) -> Callable[[F32], Codes]:
        def build(base: F32) -> Codes:
            index = make(base.shape[1])
            index.train(base)
            index.add(base)
            count = len(base)
            return Codes(
                index.sa_code_size(),
                lambda queries: scatter(index.search(queries, count), count),
                lambda queries: index.search(queries, K),
            )

        return build

    def rabitq(bits_per_dim: int) -> Callable[[int], Any]:
        def make(dim: int) -> Any:
            inner = faiss.IndexRaBitQ(dim, faiss.METRIC_L2, bits_per_dim)
            inner.qb = 0  # queries in float32, as ours
            return faiss.IndexPreTransform(faiss.RandomRotationMatrix(dim, dim), inner)

        return make

    for b in bits:
        yield f"faiss RaBitQ {b}", wrap(rabitq(b))
    for name in ("QT_4bit", "QT_8bit"):
        kind = getattr(faiss.ScalarQuantizer, name)
        yield f"faiss {name}", wrap(lambda dim, kind=kind: faiss.IndexScalarQuantizer(dim, kind))


def rabitqlib_engines(bits: list[int]) -> Iterator[Engine]:
    """Yield rabitqlib's codes around one centroid."""
    try:
        from rabitqlib import IvfIndex
    except ImportError:
        return

    def wrap(b: int) -> Callable[[F32], Codes]:
        def build(base: F32) -> Codes:
            count, dim = base.shape
            index = IvfIndex(dim, count, 1, b, "l2")
            index.build(base, base.mean(axis=0)[None], np.zeros(count, np.uint32), 1, False)

            def search(queries: F32, k: int) -> tuple[F32, Any]:
                a, b = index.search(queries, k, 1, True, 1)
                a, b = np.asarray(a), np.asarray(b)
                return (a, b) if a.dtype.kind == "f" else (b, a)

            return Codes(0, lambda q: scatter(search(q, count), count), lambda q: search(q, K))

        return build

    for b in bits:
        yield f"rabitqlib {b}", wrap(b)


def load(name: str, metric: str | None, rows: int, queries: int) -> tuple[F32, F32]:
    """Return base and queries, normalised where the metric is cosine."""
    data = datasets.load(name, queries=Path(name) if name.endswith(".npz") else None, metric=metric)
    base, asked = data.base[:rows], data.queries[:queries]
    if data.metric == "cosine":
        base = base / np.linalg.norm(base, axis=1, keepdims=True)
        asked = asked / np.linalg.norm(asked, axis=1, keepdims=True)
    return base, asked


def measure(label: str, build: Callable[[F32], Codes], base: F32, asked: F32, truth: Any) -> None:
    """Print the row of one engine."""
    started = time.perf_counter()
    codes = build(base)
    encoding = time.perf_counter() - started
    started = time.perf_counter()
    codes.ask(asked)
    asking = time.perf_counter() - started
    distances = codes.distances(asked)
    found = np.argpartition(distances, K, axis=1)[:, :K]
    hits = sum(np.intersect1d(a, b).size for a, b in zip(found, truth.ids[:, :K], strict=True))
    near = np.take_along_axis(distances, truth.ids, axis=1).astype(np.float64)
    positive = truth.distances > 0
    error = near[positive] / truth.distances[positive] - 1
    print(
        f"{label:18} {codes.size or '':>5} {hits / truth.ids[:, :K].size:8.4f} "
        f"{100 * error.mean():8.3f} {100 * np.sqrt((error**2).mean()):8.3f} "
        f"{1e6 * encoding / len(base):8.1f} {1e9 * asking / distances.size:8.1f}",
        flush=True,
    )


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", nargs="+", help="sets that `bigrain bench` knows, or files")
    parser.add_argument("--bits", default="1,2,3,4,5,6,7,8")
    parser.add_argument("--metric", choices=("l2", "cosine"))
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args()
    bits = [int(part) for part in options.bits.split(",")]
    engines: list[Engine] = [(f"RaBitQ({b})", ours(RaBitQ(b))) for b in bits]
    engines += [(f"ScalarQuantizer({b})", ours(ScalarQuantizer(b))) for b in (4, 8)]
    engines += [*faiss_engines(bits), *rabitqlib_engines(bits)]
    for name in options.data:
        base, asked = load(name, options.metric, options.rows, options.queries)
        truth = exact_search(base, asked, NEAR)
        print(f"{Path(name).name}: {base.shape[0]} x {base.shape[1]}, {len(asked)} queries")
        print("codes              bytes   recall   bias %    rms %   enc us  dist ns")
        for label, build in engines:
            measure(label, build, base, asked, truth)


if __name__ == "__main__":
    main()
