# SPDX-License-Identifier: Apache-2.0
"""An index around a graph that was made elsewhere."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from bigrain import _core, _layout
from bigrain._arrays import as_graph, as_ids, as_vectors, check_values
from bigrain._checks import Layout, Metric, check_integer, check_layout
from bigrain._handle import IndexHandle
from bigrain._options import BuildOptions
from bigrain._progress import Progress, reporting

Self = TypeVar("Self", bound="GraphTaker")


class GraphTaker(IndexHandle):
    """Gives `Index` its constructor `from_graph`."""

    __slots__ = ()

    @classmethod
    def from_graph(
        cls: type[Self],
        vectors: Any,
        graph: Any,
        ids: Any = None,
        *,
        entry: int | None = None,
        metric: Metric = "l2",
        code_dim: int | None = None,
        pq_bytes: int | Literal["auto"] = "auto",
        train_queries: Any = None,
        layout: Layout = "compact",
        threads: int = 0,
        seed: int = 0,
        progress: Progress = None,
    ) -> Self:
        """Make an index of vectors and a graph over them that exists, such as DiskANN's or HNSW's.

        The graph is checked and kept as it is: searches find what it leads to. `validate` says
        whether all of it can be reached. Build width and alpha are unknown: `stats` tells the
        defaults of `build`.

        Args:
            vectors: (n, dim), as for `build`; copied.
            graph: (n, R) integers, R from 2 to 512: per vector the positions of its neighbours, no
                position twice; a shorter row ends with the vector's own position, repeated. Copied.
            ids: n distinct integers by which results name the vectors; None means 0 to n - 1.
            entry: the position where searches start; None: the medoid.
            metric: "l2", "ip" or "cosine", for which the graph should have been made.
            code_dim: dimensions of the codes, as for `build`.
            pq_bytes: as for `build`. Where a page holds several vectors, they are numbered anew, so
                that neighbours lie side by side; results name them as before.
            train_queries: as for `build`.
            layout: as for `build`.
            threads: 0 means every core this process may use.
            seed: of the codes' rotation.
            progress: None, True for a bar, or a callable (done, total); False from it cancels.

        Raises:
            ValueError: as for `build`; a position that is not in the set, or twice in its row.
            TypeError: a dtype with no obvious conversion.
            Cancelled: `progress` returned False.
        """
        options = BuildOptions(
            metric=metric,
            code_dim=code_dim,
            pq_bytes=pq_bytes,
            train_queries=train_queries,
            threads=threads,
            seed=seed,
        )
        layout = check_layout(layout)
        rows = as_vectors(vectors)
        count, dim = rows.shape
        own = None if ids is None else as_ids(ids, count)
        edges = as_graph(graph, count)
        start = None if entry is None else check_integer(entry, "entry", 0, max(0, count - 1))
        check_values(rows, options.metric, "vectors")
        params = options.core(count, dim, rows.dtype)
        with reporting(progress, "encode", "points") as callback:
            core = _core.Index.from_graph(rows, own, edges, start, params, callback)
            why = _layout.set_layout(core, layout, threads, callback)
        return cls._wrap(core, why)
