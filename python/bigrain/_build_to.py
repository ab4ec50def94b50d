# SPDX-License-Identifier: Apache-2.0
"""`Index.build_to`: an index file from vectors that need not fit into memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bigrain import _core
from bigrain._arrays import as_ids
from bigrain._checks import Builder, Metric, check_path
from bigrain._handle import IndexHandle
from bigrain._memory import Memory, check_memory
from bigrain._options import BuildOptions
from bigrain._progress import Progress, reporting
from bigrain._source import Source, located, spool
from bigrain.readers import read_vectors


class FileBuilder(IndexHandle):
    """Gives `Index` its verb `build_to`."""

    __slots__ = ()

    @staticmethod
    def build_to(
        path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        vectors: Any,
        ids: Any = None,
        *,
        memory: Memory = "256MiB",
        metric: Metric = "l2",
        builder: Builder = "auto",
        degree: int | None = None,
        build_width: int = 128,
        alpha: float | None = None,
        code_dim: int | None = None,
        pq_bytes: int | Literal["auto"] = "auto",
        train_queries: Any = None,
        threads: int = 0,
        seed: int = 0,
        work: str | bytes | os.PathLike[str] | os.PathLike[bytes] | None = None,
        clean: bool = False,
        progress: Progress = None,
    ) -> int:
        """Build an index file over vectors that need not fit into memory; return its bytes.

        The graph is made shard by shard from 8-bit codes, and joined so that searches find what
        they find after `build`, nearly. An interrupted build (Ctrl-C, a killed process, a full
        disk) leaves its work folder, and the same call goes on where it stopped. The same vectors,
        parameters, `memory` and seed give the same file whatever `threads` is.

        Args:
            path: of the index file, which is replaced when the new one is complete.
            vectors: a file of vectors (`bigrain.readers`), an array, or an iterable of arrays
                (rows, dim). Files and mapped arrays are read where they are; all else is written
                to a file beside the work folder first, and read anew when a build goes on.
            ids, metric, builder, degree, build_width, alpha, code_dim, pq_bytes, train_queries,
                threads, seed: as in `build`; `ids` are held in memory.
            memory: what the build may hold: bytes, or a size such as "1GiB", or "min". About 1 KB
                per vector is enough for a single shard; smaller budgets make more shards.
            work: a folder for what does not fit. None: a hidden one beside `path`. The disk needs
                about 1 KB per vector at degree 32 while the build runs, and room for the index;
                this is checked before it begins.
            clean: begin anew, and remove what an interrupted build left.
            progress: None, True for a bar, or a callable (done, total); False from it cancels.

        Raises:
            ValueError: as `build`; `memory` below the least for these vectors; a work folder of
                another build.
            OSError: a file cannot be read or written, or the disk has too little room.
            Cancelled: `progress` returned False.
        """
        name = check_path(path)
        options = BuildOptions(
            metric=metric,
            builder=builder,
            degree=degree,
            build_width=build_width,
            alpha=alpha,
            code_dim=code_dim,
            pq_bytes=pq_bytes,
            train_queries=train_queries,
            threads=threads,
            seed=seed,
        )
        budget, folder = check_memory(memory), _work_folder(name, work)
        source, spooled = _source_of(vectors, options.metric, folder, bool(clean))
        del vectors
        own = None if ids is None else as_ids(ids, source.rows)
        params = options.core(source.rows, source.dim, np.dtype(source.dtype))
        with reporting(progress, "build", "points") as callback:
            size = _core.build_to(
                name, source, own, params, budget, os.fsencode(folder), bool(clean), callback
            )
        for file in spooled:
            file.unlink(missing_ok=True)
        return size


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
