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
from bigrain._progress import Progress, reporting
from bigrain._source import located, spool
from bigrain.readers import read_vectors


def build_to(path: Any, vectors: Any, ids: Any, options: dict[str, Any]) -> int:
    """Build as `Index.build_to` says, which documents the options."""
    name = check_path(path)
    metric = check_metric(options["metric"])
    memory = check_memory(options["memory"])
    builder = check_builder(options["builder"])
    degree = 0 if options["degree"] is None else check_limit(options["degree"], "degree")
    build_width = check_limit(options["build_width"], "build_width")
    alpha = check_alpha(options["alpha"], metric)
    threads = check_limit(options["threads"], "threads")
    seed = check_integer(options["seed"], "seed", 0, MAX_SEED)
    clean = bool(options["clean"])
    progress: Progress = options["progress"]
    work = _work_folder(name, options["work"])
    if isinstance(vectors, (str, bytes, os.PathLike)):
        vectors = read_vectors(Path(os.fsdecode(vectors)))
    spooled: list[Path] = []
    source = located(vectors) if hasattr(vectors, "filename") else None
    if source is None:
        source, spooled = spool(vectors, metric, work, clean)
    del vectors
    dim, rows = source.dim, source.rows
    code_dim, pq_bytes = options["code_dim"], check_pq_bytes(options["pq_bytes"], dim, rows)
    code_dim = 0 if code_dim is None else check_integer(code_dim, "code_dim", 1, dim)
    own = None if ids is None else as_ids(ids, rows)
    asked = options["train_queries"]
    if asked is not None:
        asked, _ = as_queries(asked, dim, np.dtype(source.dtype))
        check_values(asked, metric, "train_queries")
    with reporting(progress, "build", "points") as callback:
        size = _core.build_to(
            name,
            source,
            own,
            metric,
            builder,
            degree,
            build_width,
            alpha,
            code_dim,
            pq_bytes,
            asked,
            seed,
            threads,
            memory,
            os.fsencode(work),
            clean,
            callback,
        )
    for file in spooled:
        file.unlink(missing_ok=True)
    return size


def _work_folder(name: bytes, work: Any) -> Path:
    if work is not None:
        return Path(os.fsdecode(check_path(work)))
    target = Path(os.fsdecode(name))
    return target.with_name(f".{target.name}.build")
