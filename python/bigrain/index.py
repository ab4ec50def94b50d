# SPDX-License-Identifier: Apache-2.0
"""The index: build, open, search, tune, save."""

from __future__ import annotations

import json
import math
import os
from typing import Any, Literal, TypeVar, cast, overload

import numpy as np
import numpy.typing as npt

from bigrain import _core, _curve, _layout, _sample, _tune
from bigrain._arrays import as_ids, as_queries, as_vectors, check_values, make_output
from bigrain._build_to import FileBuilder
from bigrain._checks import (
    MAX_SEED,
    Builder,
    Layout,
    Metric,
    Verify,
    check_fraction,
    check_integer,
    check_io,
    check_layout,
    check_limit,
    check_path,
    check_slack,
    check_verify,
)
from bigrain._from_graph import GraphTaker
from bigrain._memory import ALL, Memory, check_memory
from bigrain._multi import MultiSearcher
from bigrain._options import BuildOptions
from bigrain._progress import Progress, reporting
from bigrain._results import DetailedResult, SearchResult, SearchStats, TuneReport
from bigrain._set_codes import CodesTaker

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Out = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]
Self = TypeVar("Self", bound="Index")


class Index(FileBuilder, GraphTaker, CodesTaker, MultiSearcher):
    """A Vamana graph over 8-bit codes, with the full vectors that decide the answer.

    Make one with `Index.build` or `Index.open`. `search`, `save`, `validate` and everything that
    only reads may run in any number of threads at once; `tune`, `set_layout`, `set_codes` and
    `close` want the index to themselves. All calls that take long release the GIL and stop within
    0.3 s of Ctrl-C.

    The graph and its build follow DiskANN (Subramanya et al., NeurIPS 2019), batch-parallel as in
    ParlayANN (Manohar et al., PPoPP 2024), or without searches as in PiPNN (arXiv 2602.21247).
    """

    __slots__ = ()

    @classmethod
    def build(
        cls: type[Self],
        vectors: Any,
        ids: Any = None,
        *,
        metric: Metric = "l2",
        builder: Builder = "auto",
        degree: int | None = None,
        build_width: int = 128,
        alpha: float | None = None,
        code_dim: int | None = None,
        pq_bytes: int | Literal["auto"] = "auto",
        train_queries: Any = None,
        layout: Layout = "compact",
        threads: int = 0,
        seed: int = 0,
        progress: Progress = None,
    ) -> Self:
        """Build an index over a copy of `vectors`.

        The same vectors, parameters and seed give the same index, byte for byte, whatever
        `threads` is.

        Args:
            vectors: (n, dim) with n from 0 and dim from 1 to 65,536: anything array-like. float32,
                float16, int8 and uint8 are stored as they are; other floats and integers become
                float32; bool, complex, object and masked arrays are refused.
            ids: n distinct integers from 0 to 2**63 - 1 by which results name the vectors; None
                means 0 to n - 1.
            metric: "l2" (squared distance), "ip" (negated inner product) or "cosine"
                (1 - similarity). Smaller is closer.
            degree: R, most neighbours per point, 2 to 512. Memory and recall grow with it. None:
                48 for vectors of up to 120 dimensions that are not projected, else 32.
            builder: "vamana" finds each point's candidates by searching the graph built so far,
                "partitioned" by comparing all points within small overlapping neighbourhoods, which
                is faster and as good. "auto" takes it from 4,096 vectors on (3 dimensions or more).
            build_width: L, how far candidates are sought, 1 to 4,096: the width of those searches,
                or 4 per neighbourhood that a vector lies in.
            alpha: factor of RobustPrune, 0.5 to 4; at most 1 for "ip". None: 1.2, for "ip" 0.9.
            code_dim: dimensions of the codes, 1 to dim. Below dim, codes are those of the vectors'
                leading principal components (LeanVec, TMLR 2024): shorter, and read faster. None
                measures on a sample what is fastest at equal recall (see `plan`).
            pq_bytes: not 0: make an index whose file an SSD serves well under a small budget of
                memory (`open`), with codes of so many bytes per vector, at most dim, neighbours
                stored side by side, and a list of the rows that searches read most. "auto": 64, or
                half of dim if that is less, from 4,096 vectors on. 0 saves a tenth to a third of
                the build.
            train_queries: (rows, dim): what searches will ask, for that measurement, where it is
                unlike the vectors. Not stored.
            layout: "compact", or "fast" or "auto": as `set_layout` afterwards.
            threads: 0 means every core this process may use.
            seed: of the insertion order and the rotation, 0 to 2**64 - 1.
            progress: None, True for a bar, or a callable (done, total); False from it cancels.

        Raises:
            ValueError: a parameter out of range, shapes that do not fit, a row with NaN, infinity,
                a length whose square overflows float32, or (cosine) of length zero; repeated ids.
            TypeError: a dtype with no obvious conversion.
            Cancelled: `progress` returned False.
        """
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
        layout = check_layout(layout)
        rows = as_vectors(vectors)
        own = None if ids is None else as_ids(ids, rows.shape[0])
        check_values(rows, options.metric, "vectors")
        params = options.core(rows.shape[0], rows.shape[1], rows.dtype)
        with reporting(progress, "build", "points") as callback:
            core = _core.Index.build(rows, own, params, callback)
            why = _layout.set_layout(core, layout, threads, callback)
        return cls._wrap(core, why)

    @classmethod
    def open(
        cls: type[Self],
        path: Path,
        *,
        memory: Memory = "all",
        verify: Verify | None = None,
        layout: Layout = "compact",
        io: str = "auto",
        progress: Progress = None,
    ) -> Self:
        """Open an index file, whole or under a budget of memory.

        Read into memory as a whole, the file may be replaced or removed afterwards. Under a budget
        the same file is searched from disk: codes in memory choose candidates, vectors are read and
        decide, and recall stays what it was. What fits the budget stays in memory, in this order:
        codes, entry points, the rows that searches read most, all rows, all vectors; `plan` says
        what did. The file stays open: replaced or removed, it still answers as it was.

        Args:
            path: of a file that `save` wrote.
            memory: "all", "min" for as little as searches can do with, or a budget: bytes, or a
                string such as "512MiB" or "2GB". It covers what stays; a search takes a few MiB per
                thread besides.
            verify: "full" checks every checksum, id and number, and is safe on any bytes;
                "header" checks header and layout, and ids as they are used; "off" skips the
                header's checksum as well. None: "full" where the whole file is read anyway, else
                "header", which then checks what stays in memory, too. Pages read by searches are
                checked whatever is said here.
            layout: "compact", or "fast" or "auto": as `set_layout` afterwards, on every core.
            io: how pages are read under a budget: "auto", "uring" (io_uring), "pread" (threads), or
                "simulated:latency_us=100,iops=40000" for a device that is not there.
            progress: None, True for a bar, or a callable (done, total); False from it cancels.

        Raises:
            CorruptIndexError: not an index, damaged, or of a newer format.
            OSError: the file cannot be read, or not as `io` says.
            ValueError: the budget is below what this index needs.
            NotImplementedError: a budget, and a file of format 1.0 or 1.1: save it again.
            Cancelled: `progress` returned False.
        """
        budget = check_memory(memory)
        verify = check_verify(verify or ("full" if budget == ALL else "header"))
        layout = check_layout(layout)
        name = check_path(path)
        with reporting(progress, "open", "B") as callback:
            core = _core.Index.open(name, verify, budget, check_io(io), callback)
            why = _layout.set_layout(core, layout, 0, callback)
        return cls._wrap(core, why, None if core.in_memory() else (name, budget, verify, io))

    def set_layout(self, layout: Layout, *, threads: int = 0, progress: Progress = None) -> None:
        """Choose how searches walk; no other call may use the index meanwhile.

        "fast" packs one bit per dimension of a point's neighbours beside it, so that searches read
        the codes of a few of them instead of all (as in SymphonyQG, SIGMOD 2025). It takes about
        `degree * (code_dim / 8 + 8)` bytes per vector (`stats()["bytes"]["blocks"]`) and pays with
        a large degree, where searches are wide (docs/parameters.md). "compact", what `build` and
        `open` give, takes none. "auto" times both on points of the index, at one narrow and one
        wide window, and takes "fast" where it gains 10 %; `plan` says what it saw. The layout lives
        in memory: files and pickles do not hold it.

        Args:
            layout: "auto", "compact" or "fast".
            threads: 0 means every core this process may use.
            progress: None, True for a bar, or a callable (done, total); False from it cancels.

        Raises:
            ValueError: a parameter out of range.
            CorruptIndexError: an id outside the graph (after verify="header" or "off").
            Cancelled: `progress` returned False; the layout is unchanged.
        """
        core = self._opened()
        layout = check_layout(layout)
        threads = check_limit(threads, "threads")
        with reporting(progress, "layout", "points") as callback:
            self._why_layout = _layout.set_layout(core, layout, threads, callback)

    @staticmethod
    def describe(path: Path) -> dict[str, Any]:
        """Return what the header of an index file says; only the header is read.

        Raises:
            CorruptIndexError: not an index, a damaged header, or a newer format.
            OSError: the file cannot be read.
        """
        return cast(dict[str, Any], json.loads(_core.describe(check_path(path))))

    @overload
    def search(
        self,
        queries: Any,
        k: int = 10,
        *,
        width: int | None = None,
        recall: float | None = None,
        rerank: int | None = None,
        slack: float | None = None,
        threads: int = 0,
        out: Out | None = None,
        stats: Literal[False] = False,
        deterministic: bool = False,
        progress: Progress = None,
    ) -> SearchResult: ...

    @overload
    def search(
        self,
        queries: Any,
        k: int = 10,
        *,
        width: int | None = None,
        recall: float | None = None,
        rerank: int | None = None,
        slack: float | None = None,
        threads: int = 0,
        out: Out | None = None,
        stats: Literal[True],
        deterministic: bool = False,
        progress: Progress = None,
    ) -> DetailedResult: ...

    def search(
        self,
        queries: Any,
        k: int = 10,
        *,
        width: int | None = None,
        recall: float | None = None,
        rerank: int | None = None,
        slack: float | None = None,
        threads: int = 0,
        out: Out | None = None,
        stats: bool = False,
        deterministic: bool = False,
        progress: Progress = None,
    ) -> SearchResult:
        """Find about the k nearest vectors of every query.

        Answers do not depend on `threads` nor on which queries are asked together.

        Args:
            queries: (rows, dim), or (dim,) for one: anything array-like. An index of int8 or uint8
                wants integers in that range.
            k: results per query, 1 to 2**20. Where there are fewer, ids end with -1 and distances
                with +inf.
            width: window of the search (L of DiskANN, ef of HNSW), 1 to 2**20: higher is slower
                and more exact; it may be below k. None: 64, or k if that is more.
            recall: instead of `width`: the cheapest width, rerank and slack that reached this
                recall when `tune` ran, plus a margin; unseen queries like those reach it within a
                point.
            rerank: how many candidates the full vectors decide among, from k, at most: it stops
                where what codes say of the next rules it out. None: `width`, and at least
                k + max(8, k / 2), more where codes are shorter than vectors (see `plan`);
                with `recall`, the curve's.
            slack: end the search once the nearest vector still to be looked at is farther than
                1 + slack times the k-th nearest found (Euclidean distance, under cosine that of
                normalised vectors; Al-Jazzazi et al., NeurIPS 2025). Hard queries then get a wide
                window that easy ones do without: .02 to .1 with a `width` two to six times as wide
                costs less for the same recall. None: only `width` ends it; with `recall`, the
                curve's. Not for "ip".
            threads: 0 means every core this process may use.
            out: (ids, distances) to write to: C-contiguous int64 and float32 of the result's shape.
            stats: also return what each query cost (`DetailedResult.stats`).
            deterministic: where rows are on disk (see `open`), take them in the order in which they
                were asked for rather than in that of their arrival: slower, and the same answer
                every time. Elsewhere answers are the same every time anyway.
            progress: None, True for a bar, or a callable (done, total); False from it cancels.

        Returns:
            SearchResult(ids, distances), shapes (rows, k), or (k,) for one 1-D query.

        Raises:
            ValueError: a parameter out of range, shapes that do not fit, NaN or infinity in a
                query, a zero query under cosine, `recall` without a calibrated curve.
            TypeError: a dtype with no obvious conversion.
            CorruptIndexError: an id outside the graph (after verify="header" or "off"), or a
                damaged page of a file that is searched from disk.
            OSError: such a file cannot be read.
            Cancelled: `progress` returned False.
        """
        core = self._opened()
        k = check_limit(k, "k")
        window, candidates, early = self._setting(core, k, width, recall)
        if rerank is not None:
            candidates = check_integer(rerank, "rerank", k, _core.LIMITS["width"][2])
        if slack is not None:
            early = check_slack(slack)
        threads = check_limit(threads, "threads")
        asked, single = as_queries(queries, self._dim, self._dtype)
        check_values(asked, self._metric, "queries")
        rows = asked.shape[0]
        found, distances = make_output(out, rows, k, single)
        costs = np.empty((rows, len(SearchStats._fields)), np.uint32) if stats else None
        where = found, distances, costs
        with reporting(progress, "search", "queries") as callback:
            core.search(
                asked, k, window, candidates, early, threads, bool(deterministic), *where, callback
            )
        if costs is None:
            return SearchResult(found, distances)
        return DetailedResult(found, distances, SearchStats(*np.ascontiguousarray(costs.T)))

    @staticmethod
    def _setting(
        core: _core.Index, k: int, width: int | None, recall: float | None
    ) -> _curve.Setting:
        """Return width, rerank and slack; 0 stands for the default."""
        if width is None and recall is None:
            return 0, 0, math.inf
        if width is not None and recall is not None:
            raise ValueError("width, recall: pass one of them, not both")
        if recall is not None:
            return _curve.setting_for(core.tuning(), k, check_fraction(recall, "recall"))
        return check_limit(width, "width"), 0, math.inf

    def tune(
        self,
        queries: Any = None,
        *,
        k: int = 10,
        recall: float = 0.95,
        sample: int = 1000,
        threads: int = 0,
        seed: int = 0,
        progress: Progress = None,
    ) -> TuneReport:
        """Find the cheapest width, rerank and slack for `recall`; keep the curve in the index.

        The curve serves `search(recall=...)` for this k and smaller ones, replaces the one that
        was there for this k, and is saved with the index. Recall is counted by distance against
        exact search, so that exact ties count, and promised less one standard error of its mean
        over the queries: 1,000 queries promise .95 to .99 within a point. Cost is counted in cache
        lines, so the choice depends neither on `threads` nor on the machine.

        Args:
            queries: (rows, dim) like those to come; not points of the index. None: `sample` points
                of the index, drawn by `seed` and left out of the graph while they are asked. That
                stands for queries drawn like the vectors; where queries are of another kind, as
                questions are among paragraphs, only they themselves can tell.
            k: the k of the searches to come.
            recall: above 0, at most 1.
            sample: how many points are drawn where `queries` is None.
            threads: 0 means every core this process may use.
            seed: of the draw.
            progress: as for `build`; called for each phase with its own done and total.

        Returns:
            TuneReport; its `reached` is False where even the best setting stayed below.

        Raises:
            ValueError: as for `search`; or an empty index.
            NotImplementedError: the index was opened under a budget of memory.
            Cancelled: `progress` returned False; the stored curve is unchanged.
        """
        core = self._opened_in_memory("tune", "tune and save it, and the curve is in its file")
        k = check_limit(k, "k")
        target = check_fraction(recall, "recall")
        sample = check_integer(sample, "sample", 1, 2**31 - 1)
        threads = check_limit(threads, "threads")
        seed = check_integer(seed, "seed", 0, MAX_SEED)
        with reporting(progress, "tune", "queries") as callback:
            if queries is None:
                folds = _sample.left_out_queries(core, k, sample, seed, threads, callback)
            else:
                folds = _sample.given_queries(core, queries, k, threads, callback)
            try:
                report = _tune.calibrate(core, folds, k, target, threads, callback)
            finally:
                _sample.put_back(core, folds)
        core.set_tuning(_curve.merge_rows(core.tuning(), report))
        return report

    def save(self, path: Path, *, progress: Progress = None) -> int:
        """Write the index to `path` and return the number of bytes.

        The file is the complete old or the complete new one, whatever happens meanwhile; saving
        over the file that this index was opened from is fine.

        Raises:
            OSError: the file cannot be written; what was there stays.
            Cancelled: `progress` returned False; what was there stays.
        """
        core = self._opened()
        name = check_path(path)
        with reporting(progress, "save", "B") as callback:
            return core.save(name, callback)
