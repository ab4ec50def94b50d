# SPDX-License-Identifier: Apache-2.0
"""What an index has besides its verbs: properties, container protocol, copies, its end."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from bigrain import _core
from bigrain._arrays import to_numpy
from bigrain._core import Index as CoreIndex
from bigrain._layout import ASKED
from bigrain._plan import Plan, plan_of
from bigrain._progress import Progress, reporting
from bigrain._results import ValidationReport

Self = TypeVar("Self", bound="IndexHandle")
Origin: TypeAlias = tuple[str | bytes, int, str, str]  # path, budget, verify, io

# Rows of the graph that are looked at together when edges are counted.
COUNT_BLOCK = 1 << 16


class IndexHandle:
    """Owns the core's index; `Index` adds build, open, search, tune and save."""

    __slots__ = (
        "__weakref__",
        "_core",
        "_dim",
        "_dtype",
        "_metric",
        "_origin",
        "_sorted_ids",
        "_why_layout",
    )

    _core: CoreIndex | None
    _dim: int
    _metric: str
    _dtype: np.dtype[Any]
    _sorted_ids: npt.NDArray[np.int64] | None
    _why_layout: str
    _origin: Origin | None  # where it was opened from, if it is not in memory

    def __init__(self) -> None:
        raise TypeError("Index() makes nothing: use Index.build(vectors) or Index.open(path)")

    @classmethod
    def _wrap(
        cls: type[Self], core: CoreIndex, why_layout: str = ASKED, origin: Origin | None = None
    ) -> Self:
        self = object.__new__(cls)
        self._origin = origin
        meta = core.meta()
        self._core = core
        self._why_layout = why_layout
        self._dim, self._metric, self._dtype = meta["dim"], meta["metric"], np.dtype(meta["dtype"])
        self._sorted_ids = None
        return self

    def _opened(self) -> CoreIndex:
        core = self._core
        if core is None:
            raise ValueError("the index is closed; open or build it again")
        return core

    def _opened_in_memory(self, what: str, then: str = "") -> CoreIndex:
        core = self._opened()
        if not core.in_memory():
            raise NotImplementedError(
                f"{what}: this index was opened with a budget of memory and does not hold its "
                'points; open it with memory="all"' + (then and f", {then}")
            )
        return core

    @property
    def metric(self) -> str:
        """ "l2", "ip" or "cosine"."""
        return self._metric

    @property
    def dim(self) -> int:
        """Dimensions of the vectors."""
        return self._dim

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored vectors: float32, float16, int8 or uint8."""
        return self._dtype

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """External ids: int64 of shape (n,), read-only.

        In the order in which the vectors were given, or ascending where the build moved neighbours
        together (`pq_bytes`).
        NotImplementedError where they are on disk (see `Index.open`).
        """
        core = self._opened_in_memory("ids")
        ids = core.ids()
        if ids is None:
            ids = np.arange(core.meta()["count"], dtype=np.int64)
            ids.flags.writeable = False
        elif core.meta()["pq_bytes"]:
            ids = np.sort(ids)
            ids.flags.writeable = False
        return ids

    def __len__(self) -> int:
        return self._opened().meta()["count"]

    def __contains__(self, value: object) -> bool:
        core = self._opened_in_memory("membership")
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
            return False
        if self._sorted_ids is None:
            ids = core.ids()
            if ids is None:
                return 0 <= int(value) < len(self)
            self._sorted_ids = np.sort(ids)
        ordered = self._sorted_ids
        if not 0 <= int(value) <= np.iinfo(np.int64).max:
            return False
        at = int(np.searchsorted(ordered, int(value)))
        return at < ordered.size and int(ordered[at]) == int(value)

    def __repr__(self) -> str:
        if self._core is None:
            return "<bigrain.Index, closed>"
        degree = self._core.meta()["degree"]
        return (
            f"<bigrain.Index of {len(self):,} {self._dtype} vectors, dim {self._dim}, "
            f"metric {self._metric!r}, degree {degree}>"
        )

    def close(self) -> None:
        """Give the memory back; later calls raise ValueError. Closing twice is fine."""
        self._core = None
        self._sorted_ids = None

    def __enter__(self: Self) -> Self:
        self._opened()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., IndexHandle], tuple[object, ...]]:
        # An index on disk is the path of its file. Else the bytes of a file: nothing in them is
        # executed, and the reader checks them all.
        if self._origin is not None:
            self._opened()
            return type(self)._from_origin, self._origin
        return type(self)._from_bytes, (self._opened().to_bytes(),)

    @classmethod
    def _from_bytes(cls: type[Self], data: bytes) -> Self:
        return cls._wrap(CoreIndex.from_bytes(data, "full"))

    @classmethod
    def _from_origin(cls: type[Self], path: str | bytes, budget: int, verify: str, io: str) -> Self:
        core = CoreIndex.open(path, verify, budget, io, None)
        return cls._wrap(core, origin=(path, budget, verify, io))

    def validate(self, *, progress: Progress = None) -> ValidationReport:
        """Check all that the format promises, and that searches can reach every point.

        Raises nothing over what it finds: see the report's `ok` and `problems`.
        """
        core = self._opened()
        with reporting(progress, "validate", "points") as callback:
            report = core.validate(callback)
        return ValidationReport(
            points=report["points"],
            edges=report["edges"],
            unreachable=report["unreachable"],
            empty_rows=report["empty_rows"],
            max_degree=report["max_degree"],
            problems=tuple(report["problems"]),
        )

    def stats(self) -> dict[str, Any]:
        """Return sizes: n, dim, metric, dtype, degree, edges, bytes per part and per vector, isa.

        The edges are counted, which reads the graph once; they are None where it is on disk.
        """
        core = self._opened()
        meta, parts = core.meta(), core.part_bytes()
        count, total = meta["count"], sum(parts.values())
        edges = _count_edges(core.graph()) if core.in_memory() else None
        return {
            "n": count,
            "dim": meta["dim"],
            "metric": meta["metric"],
            "dtype": meta["dtype"],
            "degree": meta["degree"],
            "build_width": meta["build_width"],
            "alpha": round(meta["alpha"], 6),
            "seed": meta["seed"],
            "edges": edges,
            "mean_degree": edges / max(count, 1) if edges is not None else None,
            "bytes": parts,
            "total_bytes": total,
            "bytes_per_vector": total / count if count else 0.0,
            "isa": _core.active_isa(),
        }

    def plan(self) -> Plan:
        """Return what is where and what it costs, and why codes have their length; see `Plan`."""
        return plan_of(self._opened(), self._why_layout)

    def scores(self, distances: Any) -> npt.NDArray[np.float32]:
        """Return similarities for distances of this index: larger is closer, any shape.

        "ip": the inner product. "cosine": the cosine. "l2": 1 / (1 + squared distance). Padding
        (+inf) becomes the least score: -inf, -inf, 0.
        """
        array: npt.NDArray[np.float32] = np.asarray(to_numpy(distances, "distances"), np.float32)
        if self._metric == "ip":
            return np.negative(array)
        if self._metric == "cosine":
            return np.subtract(1, array, dtype=np.float32)
        return np.divide(1, 1 + array, dtype=np.float32)


def _count_edges(graph: npt.NDArray[np.uint32]) -> int:
    """Count the entries that are not padding: a short row is filled with the point's own id."""
    edges = 0
    for start in range(0, graph.shape[0], COUNT_BLOCK):
        rows = graph[start : start + COUNT_BLOCK]
        own = np.arange(start, start + rows.shape[0], dtype=np.uint32)
        edges += int(np.count_nonzero(rows != own[:, None]))
    return edges
