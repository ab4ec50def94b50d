# SPDX-License-Identifier: Apache-2.0
"""Writes vector and ground-truth files, each whole or not at all. Layouts: bigrain.readers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from bigrain.readers import BINS, SUFFIXES, VECS, FormatError, PathLike

VECTOR_KINDS = (*VECS, *BINS, "npy")
TRUTH_KINDS = ("bin", "ibin", "ivecs", "npy", "npz")
ROWS_AT_A_TIME = 65_536  # bounds the copies made while writing


def write_vectors(path: PathLike, vectors: NDArray[Any], *, kind: str | None = None) -> None:
    """Writes a 2-D array as fvecs, bvecs, ivecs, fbin, u8bin, i8bin, ibin or npy."""
    path = Path(path)
    kind = kind or SUFFIXES.get(path.suffix.lower())
    if kind not in VECTOR_KINDS:
        raise FormatError(f"{path}: vectors are written as {', '.join(VECTOR_KINDS)}")
    vectors = np.asarray(vectors)
    if vectors.ndim != 2:
        raise FormatError(f"{path}: vectors are rows of a 2-D array, got shape {vectors.shape}")
    if kind == "npy":
        with _whole(path) as file:
            np.lib.format.write_array(file, np.ascontiguousarray(vectors), allow_pickle=False)
        return
    dtype = VECS.get(kind) or BINS[kind]
    rows, dim = vectors.shape
    with _whole(path) as file:
        if kind in BINS:
            file.write(np.array([rows, dim], "<u4").tobytes())
        for start in range(0, rows, ROWS_AT_A_TIME):
            block = _cast(path, vectors[start : start + ROWS_AT_A_TIME], dtype)
            if kind in VECS:
                heads = np.full((len(block), 1), dim, "<i4").view("u1")
                block = np.hstack([heads, block.view("u1").reshape(len(block), -1)])
            file.write(block.tobytes())


def write_ground_truth(
    path: PathLike, ids: NDArray[np.int64], distances: NDArray[np.float32]
) -> None:
    """Writes true neighbours: .bin or .ibin (DiskANN's, with distances), .npz (both), or ids
    alone as .ivecs or .npy."""
    path = Path(path)
    kind = path.suffix.lower().lstrip(".")
    if kind not in TRUTH_KINDS:
        raise FormatError(f"{path}: ground truth is written as .{', .'.join(TRUTH_KINDS)}")
    if ids.ndim != 2 or ids.shape != distances.shape:
        raise FormatError(f"{path}: ids {ids.shape} and distances {distances.shape} do not match")
    if kind in ("ivecs", "npy"):
        write_vectors(path, ids, kind=kind)
        return
    with _whole(path) as file:
        if kind == "npz":
            np.savez(file, ids=ids, distances=distances)
            return
        file.write(np.array(ids.shape, "<u4").tobytes())
        file.write(_cast(path, ids, np.dtype("<i4")).tobytes())
        file.write(np.ascontiguousarray(distances, "<f4").tobytes())


def _cast(path: Path, values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.kind in "iu" and values.size:
        limits = np.iinfo(dtype)
        if values.dtype.kind not in "iu":
            raise FormatError(f"{path}: holds {dtype}, got {values.dtype}: convert them first")
        if values.min() < limits.min or values.max() > limits.max:
            raise FormatError(
                f"{path}: holds {dtype}, got values from {values.min()} to {values.max()}"
            )
    return np.ascontiguousarray(values, dtype)


@contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its name only when it is complete."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("xb") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
