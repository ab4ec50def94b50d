# SPDX-License-Identifier: Apache-2.0
"""Hard negatives: mined through an index, kept in files, refreshed while a model trains.

`mine` and the files have modules of their own; this one holds `AnceRefresher`, after Xiong et al.,
ICLR 2021, section 4: the trainer saves checkpoints; an inferencer takes the newest, encodes the
corpus, searches the top 200 of each training query, drops positives, samples negatives and hands
them over; the trainer takes the newest that are complete. What differs: mode="sync" does all this
between two steps and so is deterministic; duplicates of positives are dropped, too; all queries are
refreshed at once, not in chunks; the search is an index's unless exact=True.

Run as a module this file is the child process of mode="async".
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

import bigrain
from bigrain._checks import require, require_choice
from bigrain._files import discard_partial, replace_file
from bigrain.eval.baselines import BM25, Exact
from bigrain.eval.collections import duplicate_groups
from bigrain.train import _negatives_file as files
from bigrain.train._mining import Mined, known_positives, mine, mine_bm25
from bigrain.train._negatives_file import (
    CorruptNegativesError,
    Negatives,
    newest_negatives,
    read_negatives,
    write_negatives,
)

__all__ = [
    "BM25",
    "AnceRefresher",
    "CorruptNegativesError",
    "Exact",
    "Mined",
    "Negatives",
    "duplicate_groups",
    "known_positives",
    "mine",
    "mine_bm25",
    "newest_negatives",
    "read_negatives",
    "write_negatives",
]

# So many children in a row that die are a fault to be told, not bad luck.
MAX_FAILURES = 3


def find_negatives(
    encoder: Any, texts: Mapping[str, Any], options: Mapping[str, Any], version: int
) -> Negatives:
    """Encode, build and search once.

    Args:
        encoder: with `encode_query`, `encode_document` and `metric`.
        texts: "queries" and "documents", texts; "positives" (queries,) rows of documents.
        options: topk, sample, exact, index, search and seed of an `AnceRefresher`.
        version: the encoder's training step; with the seed, it decides the draw.
    """
    times = [time.perf_counter()]
    documents = encoder.encode_document(texts["documents"])
    queries = encoder.encode_query(texts["queries"])
    times.append(time.perf_counter())
    if options["exact"]:
        index: Any = Exact(documents, encoder.metric)
    else:
        index = bigrain.Index.build(documents, metric=encoder.metric, **options["index"])
    times.append(time.perf_counter())
    positives = known_positives(texts["queries"], texts["positives"])
    draw: Any = {"range": (0, options["topk"]), "n": options["sample"], "sample": "random"}
    draw |= {"seed": (options["seed"], version), "duplicates": duplicate_groups(texts["documents"])}
    mined = mine(index, queries, positives, **draw, **options["search"])
    times.append(time.perf_counter())
    seconds = dict(zip(files.PHASES, np.diff(times).tolist(), strict=True))
    rows = np.arange(len(mined.ids), dtype=np.int64)
    return Negatives(mined.ids, rows, version, seconds)


class AnceRefresher:
    """A callback of `fit` that replaces `state.data.negatives` by what the model finds itself.

    Args:
        every: steps between refreshes; None refreshes at the start only.
        topk: results per query that negatives are drawn from (ANCE: 200).
        sample: negatives per query.
        mode: "sync" refreshes between two steps: deterministic. "async" hands a checkpoint to a
            child process and trains on; the newest complete version is taken when it is there.
            The encoder's class must be importable, and `load` what it saves.
        exact: compare with all documents instead of searching an index.
        index_options: of `bigrain.Index.build`, such as degree or threads.
        search_options: of `bigrain.Index.search`, such as width or threads.
        folder: "async": a folder of this run's own for what the processes exchange.
        at_start: refresh before the first step as well.
        seed: of the draws.

    Logged with each version: `refresh_version` and `refresh_staleness` (steps), and seconds of
    `refresh_encode`, `refresh_build`, `refresh_search`. Under DDP every rank refreshes in mode
    "sync", alike; in mode "async" the first starts the child.

    Raises:
        ValueError: an option out of range, or teacher scores in the data, which belong to the
            negatives that would be replaced.
        RuntimeError: three children in a row died; the message ends as their log does.
    """

    def __init__(
        self,
        every: int | None = 200,
        *,
        topk: int = 200,
        sample: int = 1,
        mode: Literal["sync", "async"] = "sync",
        exact: bool = False,
        index_options: Mapping[str, Any] | None = None,
        search_options: Mapping[str, Any] | None = None,
        folder: Any = None,
        at_start: bool = True,
        seed: int = 0,
    ) -> None:
        require(every is None or every >= 1, "every", "1 or more steps, or None", every)
        require(1 <= sample <= topk, "sample", f"1 to topk={topk}", sample)
        require_choice(mode, "mode", "sync", "async")
        if (mode == "async") != (folder is not None):
            raise ValueError(f"folder: mode 'async' needs one, 'sync' none; found {folder!r}")
        self._every, self._at_start, self._mode = every, at_start, mode
        self._folder = Path(folder or ".")
        index, search = dict(index_options or {}), dict(search_options or {})
        self._options: dict[str, Any] = {"topk": topk, "sample": sample, "exact": exact}
        self._options |= {"index": index, "search": search, "seed": seed}
        self._ids: files.Ids | None = None
        self._version, self._failures = -1, 0
        self._child: subprocess.Popen[bytes] | None = None

    def on_start(self, state: Any) -> None:
        """Give `state.data` its first negatives, or those that a checkpoint held."""
        if state.data.scores is not None:
            raise ValueError("data: its scores belong to negatives that a refresher replaces")
        if self._mode == "async":
            self._prepare(state)
        if self._ids is not None:
            state.data = dataclasses.replace(state.data, negatives=self._ids)
        elif self._at_start:
            self._refresh(state)

    def on_step(self, state: Any) -> None:
        """Refresh, start a child, or take what one has finished."""
        due = self._every is not None and state.step % self._every == 0
        if self._mode == "async":
            self._reap(state)
            self._look(state)
            if due and self._child is None and _rank() == 0:
                self._start(state)
        elif due:
            self._refresh(state)

    def on_end(self, state: Any) -> None:
        """Stop a child that is still at work."""
        del state
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def state_dict(self) -> dict[str, Any]:
        """Return the negatives in use and their version."""
        return {"version": self._version, "ids": self._ids}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with the negatives of a checkpoint."""
        self._version, self._ids = int(state["version"]), state["ids"]

    def _refresh(self, state: Any) -> None:
        self._take(state, find_negatives(_bare(state), _texts(state), self._options, state.step))

    def _look(self, state: Any) -> None:
        """Take the newest negatives that a child has finished for these queries."""
        found = newest_negatives(
            self._folder, after=self._version, until=state.step, documents=len(state.data.documents)
        )
        if found is not None and len(found.ids) == len(state.data.queries):
            self._take(state, found)

    def _take(self, state: Any, found: Negatives) -> None:
        self._version, self._ids = found.version, np.array(found.ids)
        state.data = dataclasses.replace(state.data, negatives=self._ids)
        spent = {f"refresh_{name}": round(value, 4) for name, value in found.seconds.items()}
        stale = state.step - found.version
        state.log({"refresh_version": found.version, "refresh_staleness": stale, **spent})

    def _prepare(self, state: Any) -> None:
        """Write the texts for children, and drop what an earlier start left of the future."""
        kind = type(_bare(state))
        if kind.__module__ == "__main__" or "<locals>" in kind.__qualname__:
            raise ValueError(
                f"encoder: mode 'async' needs a class that a child process can import, found "
                f"{kind.__qualname__} of {kind.__module__}; move it to the top of a module"
            )
        if _rank() == 0:
            self._folder.mkdir(parents=True, exist_ok=True)
            for version, path in files.versions_in(self._folder).items():
                if version > self._version:
                    path.unlink()
            discard_partial(self._folder)
            content = json.dumps(_texts(state)).encode()
            replace_file(self._folder / "texts.json", lambda file: file.write(content))

    def _start(self, state: Any) -> None:
        kind = type(_bare(state))
        _bare(state).save(self._folder / "checkpoint")
        job = {
            "encoder": [kind.__module__, kind.__qualname__],
            "version": state.step,
            "parent": os.getpid(),
            "options": self._options,
        }
        path = self._folder / "job.json"
        path.write_text(json.dumps(job), encoding="utf-8")
        places = os.pathsep.join(place or os.getcwd() for place in sys.path)
        command = [sys.executable, "-m", "bigrain.train.negatives", str(path)]
        with open(self._folder / "log.txt", "wb") as log:
            environment = {**os.environ, "PYTHONPATH": places}
            self._child = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def _reap(self, state: Any) -> None:
        code = None if self._child is None else self._child.poll()
        if code is None:
            return
        self._child = None
        self._failures = self._failures + 1 if code else 0
        if code:
            state.log({"refresh_failed": code})
        if self._failures >= MAX_FAILURES:
            tail = (self._folder / "log.txt").read_text(errors="replace")[-2000:]
            died = f"{self._failures} children in a row died ({code})"
            raise RuntimeError(f"refresh: {died}:\n{tail}")


def _bare(state: Any) -> Any:
    return getattr(state.encoder, "module", state.encoder)  # DistributedDataParallel wraps it


def _texts(state: Any) -> dict[str, Any]:
    data = state.data
    positives = data.positives.tolist()
    return {"queries": data.queries, "documents": data.documents, "positives": positives}


def _rank() -> int:
    from torch import distributed  # not at the top: a child needs torch only for its encoder

    ready = distributed.is_available() and distributed.is_initialized()
    return distributed.get_rank() if ready else 0


def main(path: str) -> None:
    """Do the job that a trainer wrote to `path`, in the folder of what they exchange."""
    job, folder = json.loads(Path(path).read_text(encoding="utf-8")), Path(path).parent
    module, name = job["encoder"]
    encoder = getattr(importlib.import_module(module), name).load(folder / "checkpoint")
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    found = find_negatives(encoder, texts, job["options"], job["version"])
    if os.getppid() != job["parent"]:
        sys.exit("the trainer is gone: nothing is written for its successor")
    write_negatives(files.file_of(folder, job["version"]), found)
    for old in list(files.versions_in(folder).values())[2:]:  # a trainer may be at the last but one
        old.unlink(missing_ok=True)


if __name__ == "__main__":
    main(sys.argv[1])
