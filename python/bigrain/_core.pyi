# SPDX-License-Identifier: Apache-2.0
# The private extension module. python/bindings is its source; keep both in step (stubtest checks).
from collections.abc import Callable
from typing import Any, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt

_Progress: TypeAlias = Callable[[int, int], object] | None

class _Meta(TypedDict):
    metric: str
    dtype: str
    dim: int
    count: int
    degree: int
    entry: int
    build_width: int
    alpha: float
    code_dim: int
    code_stride: int
    pq_bytes: int
    pq_given: bool
    seed: int

class _Report(TypedDict):
    points: int
    edges: int
    unreachable: int
    empty_rows: int
    max_degree: int
    problems: list[str]

__version__: str
LIMITS: dict[str, tuple[Any, Any, Any]]

class CorruptIndexError(ValueError): ...
class Cancelled(Exception): ...  # noqa: N818
class _Pybind11Type(type): ...  # what the runtime calls pybind11_builtins.pybind11_type

class BuildParams(metaclass=_Pybind11Type):
    def __init__(
        self,
        metric: str,
        builder: str,
        degree: int,
        build_width: int,
        alpha: float,
        code_dim: int,
        pq_bytes: int,
        train_queries: npt.NDArray[Any] | None,
        seed: int,
        threads: int,
    ) -> None: ...

def build_to(
    path: str | bytes,
    source: tuple[bytes, int, int, int, int, str],
    ids: npt.NDArray[np.int64] | None,
    params: BuildParams,
    memory: int,
    work: str | bytes,
    clean: bool,
    progress: _Progress,
) -> int: ...

class Index(metaclass=_Pybind11Type):
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...  # raises: nothing to construct
    @staticmethod
    def build(
        vectors: npt.NDArray[Any],
        ids: npt.NDArray[np.int64] | None,
        params: BuildParams,
        progress: _Progress,
    ) -> Index: ...
    @staticmethod
    def from_graph(
        vectors: npt.NDArray[Any],
        ids: npt.NDArray[np.int64] | None,
        graph: npt.NDArray[np.uint32],
        entry: int | None,
        params: BuildParams,
        progress: _Progress,
    ) -> Index: ...
    @staticmethod
    def open(
        path: str | bytes, verify: str, memory: int, io: str, progress: _Progress
    ) -> Index: ...
    def in_memory(self) -> bool: ...
    def residency(self) -> dict[str, Any]: ...
    @staticmethod
    def from_bytes(data: bytes, verify: str) -> Index: ...
    def save(self, path: str | bytes, progress: _Progress) -> int: ...
    def to_bytes(self) -> bytes: ...
    def set_layout(self, layout: str, threads: int, progress: _Progress) -> None: ...
    def set_codes(
        self,
        rotation: npt.NDArray[np.float32],
        m: int,
        codebooks: npt.NDArray[np.float32],
        codes: npt.NDArray[np.uint8] | None,
        threads: int,
        progress: _Progress,
    ) -> None: ...
    def search(
        self,
        queries: npt.NDArray[Any],
        k: int,
        width: int,
        rerank: int,
        slack: float,
        threads: int,
        deterministic: bool,
        ids: npt.NDArray[np.int64],
        distances: npt.NDArray[np.float32],
        stats: npt.NDArray[np.uint32] | None,
        progress: _Progress,
    ) -> None: ...
    def validate(self, progress: _Progress) -> _Report: ...
    def tuning(self) -> list[tuple[int, int, int, float, float]]: ...
    def set_tuning(self, rows: list[tuple[int, int, int, float, float]]) -> None: ...
    def set_rows(self, points: npt.NDArray[np.uint32], rows: npt.NDArray[np.uint32]) -> None: ...
    def trials(self) -> list[tuple[int, float, float]]: ...
    def meta(self) -> _Meta: ...
    def part_bytes(self) -> dict[str, int]: ...
    def vectors(self) -> npt.NDArray[Any]: ...
    def graph(self) -> npt.NDArray[np.uint32]: ...
    def ids(self) -> npt.NDArray[np.int64] | None: ...

class PQ(metaclass=_Pybind11Type):
    def __init__(self, dim: int, m: int, bits: int, codebooks: npt.NDArray[np.float32]) -> None: ...
    @staticmethod
    def fit(
        x: npt.NDArray[Any],
        m: int,
        bits: int,
        iterations: int,
        seed: int,
        threads: int,
        progress: _Progress,
    ) -> PQ: ...
    def encode(self, x: npt.NDArray[Any], codes: npt.NDArray[np.uint8], threads: int) -> None: ...
    def decode(
        self, codes: npt.NDArray[np.uint8], x: npt.NDArray[np.float32], threads: int
    ) -> None: ...
    def distance(
        self,
        queries: npt.NDArray[np.float32],
        codes: npt.NDArray[np.uint8],
        metric: str,
        distances: npt.NDArray[np.float32],
        threads: int,
    ) -> None: ...
    def error_bound(
        self, queries: npt.NDArray[np.float32], metric: str, bounds: npt.NDArray[np.float32]
    ) -> None: ...
    def codebooks(self) -> npt.NDArray[np.float32]: ...
    def dim(self) -> int: ...
    def code_size(self) -> int: ...

class OPQ(metaclass=_Pybind11Type):
    def __init__(
        self,
        rotation: npt.NDArray[np.float32],
        m: int,
        bits: int,
        codebooks: npt.NDArray[np.float32],
    ) -> None: ...
    @staticmethod
    def fit(
        x: npt.NDArray[Any],
        d_out: int,
        m: int,
        bits: int,
        n_iter: int,
        iterations: int,
        seed: int,
        threads: int,
        progress: _Progress,
    ) -> OPQ: ...
    def rotation(self) -> npt.NDArray[np.float32]: ...
    def encode(self, x: npt.NDArray[Any], codes: npt.NDArray[np.uint8], threads: int) -> None: ...
    def decode(
        self, codes: npt.NDArray[np.uint8], x: npt.NDArray[np.float32], threads: int
    ) -> None: ...
    def distance(
        self,
        queries: npt.NDArray[np.float32],
        codes: npt.NDArray[np.uint8],
        metric: str,
        distances: npt.NDArray[np.float32],
        threads: int,
    ) -> None: ...
    def error_bound(
        self, queries: npt.NDArray[np.float32], metric: str, bounds: npt.NDArray[np.float32]
    ) -> None: ...
    def codebooks(self) -> npt.NDArray[np.float32]: ...
    def dim(self) -> int: ...
    def code_size(self) -> int: ...

class Rabitq(metaclass=_Pybind11Type):
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...  # raises: nothing to construct
    @staticmethod
    def fit(
        x: npt.NDArray[Any], bits: int, seed: int, threads: int, progress: _Progress
    ) -> Rabitq: ...
    @staticmethod
    def from_parts(
        bits: int, centre: npt.NDArray[np.float32], signs: npt.NDArray[np.uint8]
    ) -> Rabitq: ...
    @property
    def dim(self) -> int: ...
    @property
    def bits(self) -> int: ...
    @property
    def code_size(self) -> int: ...
    def centre(self) -> npt.NDArray[np.float32]: ...
    def signs(self) -> npt.NDArray[np.uint8]: ...
    def encode(
        self, x: npt.NDArray[Any], codes: npt.NDArray[np.uint8], threads: int, progress: _Progress
    ) -> None: ...
    def decode(
        self,
        codes: npt.NDArray[np.uint8],
        out: npt.NDArray[np.float32],
        threads: int,
        progress: _Progress,
    ) -> None: ...
    def distance(
        self,
        queries: npt.NDArray[Any],
        codes: npt.NDArray[np.uint8],
        metric: str,
        out: npt.NDArray[np.float32],
        threads: int,
        progress: _Progress,
    ) -> None: ...
    def distance_bounds(
        self,
        queries: npt.NDArray[Any],
        codes: npt.NDArray[np.uint8],
        metric: str,
        epsilon: float,
        estimate: npt.NDArray[np.float32],
        lower: npt.NDArray[np.float32],
        upper: npt.NDArray[np.float32],
        threads: int,
        progress: _Progress,
    ) -> None: ...

class ScalarQuantizer(metaclass=_Pybind11Type):
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...  # raises: nothing to construct
    @staticmethod
    def fit(
        x: npt.NDArray[Any], bits: int, seed: int, threads: int, progress: _Progress
    ) -> ScalarQuantizer: ...
    @staticmethod
    def from_parts(
        bits: int, centre: npt.NDArray[np.float32], signs: npt.NDArray[np.uint8]
    ) -> ScalarQuantizer: ...
    @property
    def dim(self) -> int: ...
    @property
    def bits(self) -> int: ...
    @property
    def code_size(self) -> int: ...
    def centre(self) -> npt.NDArray[np.float32]: ...
    def signs(self) -> npt.NDArray[np.uint8]: ...
    def encode(
        self, x: npt.NDArray[Any], codes: npt.NDArray[np.uint8], threads: int, progress: _Progress
    ) -> None: ...
    def decode(
        self,
        codes: npt.NDArray[np.uint8],
        out: npt.NDArray[np.float32],
        threads: int,
        progress: _Progress,
    ) -> None: ...
    def distance(
        self,
        queries: npt.NDArray[Any],
        codes: npt.NDArray[np.uint8],
        metric: str,
        out: npt.NDArray[np.float32],
        threads: int,
        progress: _Progress,
    ) -> None: ...

def exact_search(
    base: npt.NDArray[Any],
    queries: npt.NDArray[Any],
    metric: str,
    k: int,
    threads: int,
    ids: npt.NDArray[np.int64],
    distances: npt.NDArray[np.float32],
    progress: _Progress,
) -> None: ...
def describe(path: str | bytes) -> str: ...
def active_isa() -> str: ...
def available_isas() -> list[str]: ...
def usable_cores() -> int: ...
