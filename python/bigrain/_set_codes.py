# SPDX-License-Identifier: Apache-2.0
"""Codes that were trained elsewhere, in place of an index's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bigrain import _core
from bigrain._arrays import as_ids, to_numpy
from bigrain._checks import check_limit
from bigrain._handle import IndexHandle
from bigrain._progress import Progress, reporting
from bigrain.quant._opq import check_rotation
from bigrain.quant._product import BITS, check_codebooks, pack_codebooks


class CodesTaker(IndexHandle):
    """Gives `Index` its verb `set_codes`."""

    __slots__ = ()

    def set_codes(
        self,
        *,
        codebooks: Any,
        rotation: Any = None,
        codes: Any = None,
        ids: Any = None,
        threads: int = 0,
        progress: Progress = None,
    ) -> None:
        """Search rows on an SSD by codes trained elsewhere; no other call may run meanwhile.

        They replace the product-quantized codes of `build(pq_bytes=)`, which choose what a search
        reads where rows are on disk (`Index.open` with a small budget), and are saved with the
        index, in format 1.3. In memory searches answer as before, by their 8-bit codes. An index
        built with `pq_bytes=0` becomes one made for SSDs. Page order and hot rows follow from the
        graph alone and stay.

        The arrays mean what they mean to `bigrain.quant.OPQ.from_arrays`: x @ rotation is cut into
        m sub-vectors, and a code names a centroid of each; nothing is subtracted first. Under
        "cosine", x has length 1. A query's score is its inner product with what a code stands for
        ("ip", "cosine"; the query normalised under the latter), or the squared distance ("l2"). So
        codes that are to reconstruct, as those of `OPQ` are, serve best unit vectors under "l2".

        Args:
            codebooks: (m, 256, ceil(d_out / m)) float: m bytes per vector.
            rotation: (dim, d_out) float with orthonormal columns; None: x itself is cut.
            codes: (n, m) uint8, kept as they are, whatever the index's vectors are: two tiers, as
                in BiDR (WWW 2022), where coarse codes are trained on another embedding of the same
                documents. None: the vectors are encoded, each by its nearest centroids.
            ids: (n,): whose codes these are. None: row i is the code of `index.ids[i]`, which is
                the order in which vectors were given without ids.
            threads: 0 means every core this process may use; the result does not depend on it.
            progress: None, True for a bar, or a callable (done, total); False from it cancels.

        Raises:
            ValueError: shapes that do not fit the index or each other, values that are not finite,
                columns that are not orthonormal, ids that are not the index's, an empty index, or
                `codes` without `ids` where the index has ids of its own and has lost their order.
            TypeError: a dtype with no obvious conversion.
            NotImplementedError: the index was opened under a budget of memory.
            Cancelled: `progress` returned False; the index is unchanged.
        """
        core = self._opened_in_memory("set_codes")
        threads = check_limit(threads, "threads")
        turned = _rotation_of(rotation, self._dim)
        books = _codebooks_of(codebooks, turned.shape[1])
        given = None if codes is None else _codes_of(core, codes, ids, len(books))
        if codes is None and ids is not None:
            raise ValueError("ids: they say whose codes are given, and no codes are; omit them")
        packed = pack_codebooks(books, turned.shape[1])
        with reporting(progress, "codes", "points") as callback:
            core.set_codes(turned, len(books), packed, given, threads, callback)
        self._sorted_ids = None


def _rotation_of(rotation: Any, dim: int) -> npt.NDArray[np.float32]:
    if rotation is None:
        return np.eye(dim, dtype=np.float32)
    checked = check_rotation(rotation)
    if checked.shape[0] != dim:
        raise ValueError(
            f"rotation: the index has {dim} dimensions, so expected shape ({dim}, d_out), found "
            f"{checked.shape}"
        )
    return checked


def _codebooks_of(codebooks: Any, columns: int) -> npt.NDArray[np.float32]:
    books, _ = check_codebooks(codebooks, columns)
    if books.shape[1] != BITS[8]:
        raise ValueError(
            f"codebooks: expected shape (m, 256, dsub), a byte per sub-vector, found {books.shape}"
        )
    return books


def _codes_of(core: _core.Index, codes: Any, ids: Any, m: int) -> npt.NDArray[np.uint8]:
    """Return (n, m) codes in the order of the core's own numbers."""
    array = to_numpy(codes, "codes")
    count = core.meta()["count"]
    if array.dtype != np.uint8:
        raise TypeError(f"codes: expected uint8, found dtype {array.dtype}")
    if array.shape != (count, m):
        raise ValueError(
            f"codes: expected shape ({count}, {m}), a byte per codebook and a row per vector, "
            f"found {array.shape}"
        )
    names = core.ids()
    own = np.arange(count, dtype=np.int64) if names is None else names
    if ids is not None:
        named = as_ids(ids, count)
        order = np.argsort(named)
        if not np.array_equal(named[order], np.sort(own)):
            raise ValueError("ids: they are not those of the index (index.ids)")
        return np.ascontiguousarray(array[order[np.searchsorted(named, own, sorter=order)]])
    if names is None or not core.meta()["pq_bytes"]:
        return np.require(array, np.uint8, ["C", "A"])
    places = np.argsort(np.argsort(own))
    if count and int(own.max()) != count - 1:
        raise ValueError(
            "ids: the index has ids of its own and numbered its points anew for its pages, so it "
            "cannot tell whose code each row is; pass the ids with which it was built"
        )
    return np.ascontiguousarray(array[places])
