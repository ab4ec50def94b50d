# SPDX-License-Identifier: Apache-2.0
"""`Index.build_to`: an index file from vectors that need not fit into memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from bigrain import _core
from bigrain._arrays import as_ids, as_queries, check_values
from bigrain._checks import (
    MAX_SEED,
    check_alpha,
    check_builder,
    check_integer,
    check_limit,
    check_metric,
    check_path,
    check_pq_bytes,
)
from bigrain._memory import check_memory
from bigrain._progress import reporting
from bigrain._source import Source, located, spool
from bigrain.readers import read_vectors


def build_to(path: Any, vectors: Any, ids: Any, options: dict[str, Any]) -> int:
    """Build as `Index.build_to` says, which documents the options."""
    name = check_path(path)
    metric = check_metric(options["metric"])
    graph = _graph_of(options, metric)
    threads = check_limit(options["threads"], "threads")
    seed = check_integer(options["seed"], "seed", 0, MAX_SEED)
    memory, clean = check_memory(options["memory"]), bool(options["clean"])
    work = _work_folder(name, options["work"])
    source, spooled = _source_of(vectors, metric, work, clean)
    del vectors
    own = None if ids is None else as_ids(ids, source.rows)
    code_dim, pq_bytes = options["code_dim"], options["pq_bytes"]
    code_dim = 0 if code_dim is None else check_integer(code_dim, "code_dim", 1, source.dim)
    pq_bytes = check_pq_bytes(pq_bytes, source.dim, source.rows)
    asked = options["train_queries"]
    if asked is not None:
        asked, _ = as_queries(asked, source.dim, np.dtype(source.dtype))
        check_values(asked, metric, "train_queries")
    codes = (code_dim, pq_bytes, asked)
    where = (memory, os.fsencode(work), clean)
    with reporting(options["progress"], "build", "points") as callback:
        size = _core.build_to(
            name, source, own, metric, *graph, *codes, seed, threads, *where, callback
        )
    for file in spooled:
        file.unlink(missing_ok=True)
    return size


def _graph_of(options: dict[str, Any], metric: str) -> tuple[str, int, int, float]:
    degree = options["degree"]
    return (
        check_builder(options["builder"]),
        0 if degree is None else check_limit(degree, "degree"),
        check_limit(options["build_width"], "build_width"),
        check_alpha(options["alpha"], metric),
    )


def _source_of(vectors: Any, metric: str, work: Path, clean: bool) -> tuple[Source, list[Path]]:
    if isinstance(vectors, (str, bytes, os.PathLike)):
        vectors = read_vectors(Path(os.fsdecode(vectors)))
    source = located(vectors) if hasattr(vectors, "filename") else None
    return spool(vectors, metric, work, clean) if source is None else (source, [])


def _work_folder(name: bytes, work: Any) -> Path:
    if work is not None:
        return Path(os.fsdecode(check_path(work)))
    target = Path(os.fsdecode(name))
    return target.with_name(f".{target.name}.build")
