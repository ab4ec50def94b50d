# SPDX-License-Identifier: Apache-2.0
"""The verbs. Each takes the parsed arguments and returns the exit code."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from bigrain import Index, SearchResult, exact_search
from bigrain._cli.progress import progress
from bigrain._options import BuildOptions
from bigrain._sniff import sniff
from bigrain.readers import GroundTruth, read_ground_truth, read_vectors
from bigrain.writers import TRUTH_KINDS, write_ground_truth


class CommandError(Exception):
    """A command cannot do its work; the message says why and what to do."""


def build(args: argparse.Namespace) -> int:
    """`bigrain build VECTORS INDEX`."""
    vectors = read_vectors(args.vectors, kind=args.kind)
    writable(args.index, index=True, force=args.force)
    if args.memory:
        return _build_to(args, vectors)
    if args.work or args.clean:
        raise CommandError("--work, --clean: they belong to --memory")
    ids = ids_from(args.ids) if args.ids else None
    start = time.perf_counter()
    with progress("building", quiet=args.quiet) as report:
        index = Index.build(
            vectors,
            ids,
            progress=report,
            **_options(args),
        )
    seconds = time.perf_counter() - start
    if args.tune:
        _tune(index, args)
    size = index.save(args.index)
    print(
        f"{args.index}: {len(index):,} vectors of dimension {index.dim}, built in {seconds:.1f} s, "
        f"{size / 1e6:,.1f} MB"
    )
    return 0


def _options(args: argparse.Namespace) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(BuildOptions)]
    return {name: getattr(args, name) for name in names if name != "train_queries"}


def _build_to(args: argparse.Namespace, vectors: Any) -> int:
    if args.tune:
        raise CommandError("--tune: not with --memory; the index is not in memory then")
    rows, dim = vectors.shape
    start = time.perf_counter()
    with progress("building", quiet=args.quiet) as report:
        size = Index.build_to(
            args.index,
            vectors,
            ids_from(args.ids) if args.ids else None,
            memory=args.memory,
            work=args.work,
            clean=args.clean,
            progress=report,
            **_options(args),
        )
    seconds = time.perf_counter() - start
    print(
        f"{args.index}: {rows:,} vectors of dimension {dim}, built in {seconds:.1f} s, "
        f"{size / 1e6:,.1f} MB"
    )
    return 0


def _tune(index: Index, args: argparse.Namespace) -> None:
    with progress("tuning", "queries", quiet=args.quiet) as report:
        tuned = index.tune(recall=args.tune, threads=args.threads, progress=report)
    reached = "" if tuned.reached else f", short of {tuned.target}: raise --degree or --build-width"
    setting = f"width {tuned.width}, rerank {tuned.rerank}"
    say(f"{setting}: recall@{tuned.k} {tuned.recall:.4f}{reached}")


def ids_from(path: Path) -> Any:
    """External ids: one integer per row, or the one row or column of an array."""
    ids = np.load(path, allow_pickle=False) if path.suffix == ".npy" else None
    if ids is None or ids.ndim != 1:
        ids = read_vectors(path, role="ids")
        if 1 not in ids.shape:
            raise CommandError(f"{path}: ids are one integer per vector, this is {ids.shape}")
    return ids.reshape(-1)


def search(args: argparse.Namespace) -> int:
    """`bigrain search INDEX QUERIES`."""
    writable(args.output)
    index = Index.open(args.index, verify=args.verify)
    queries = read_vectors(args.queries, kind=args.kind, role="queries")
    truth = read_ground_truth(args.truth) if args.truth else None
    start = time.perf_counter()
    with progress("searching", "queries", quiet=args.quiet) as report:
        found = index.search(
            queries,
            args.k,
            width=args.width,
            recall=args.recall,
            rerank=args.rerank,
            slack=args.slack,
            threads=args.threads,
            progress=report,
        )
    seconds = max(time.perf_counter() - start, 1e-9)
    say(f"{len(queries):,} queries in {seconds:.2f} s, {len(queries) / seconds:,.0f} per second")
    if truth is not None:
        say(f"recall@{args.k} {_recall(found, truth, args.truth):.4f}")
    if args.output:
        write_ground_truth(args.output, found.ids, found.distances)
    else:
        _print_rows(found)
    return 0


def _recall(found: SearchResult, truth: GroundTruth, path: Path) -> float:
    """By distance where the file has distances, so that exact ties count; else by id."""
    import bigrain

    rows, k = found.ids.shape
    if truth.ids.shape[0] != rows or truth.ids.shape[1] < k:
        raise CommandError(
            f"{path}: holds {truth.ids.shape[0]:,} x {truth.ids.shape[1]} neighbours, the search "
            f"gave {rows:,} x {k}"
        )
    if truth.distances is not None:
        return bigrain.recall(found, (truth.ids, truth.distances))
    distances = np.zeros(truth.ids.shape, np.float32)
    return bigrain.recall(found, (truth.ids, distances), by="id")


def _print_rows(found: SearchResult) -> None:
    """One line per query: id:distance, nearest first."""
    for ids, distances in zip(found.ids.tolist(), found.distances.tolist(), strict=True):
        pairs = zip(ids, distances, strict=True)
        print(" ".join(f"{row}:{distance:.6g}" for row, distance in pairs if row >= 0))


def info(args: argparse.Namespace) -> int:
    """`bigrain info INDEX`."""
    if args.plan:  # the trials and the curve lie in sections, so the file is read
        with Index.open(args.index, verify="header") as index:
            print(index.plan())
    else:
        print(json.dumps(Index.describe(args.index), indent=2))
    return 0


def validate(args: argparse.Namespace) -> int:
    """`bigrain validate INDEX`."""
    with progress("reading", "bytes", quiet=args.quiet) as report:
        index = Index.open(args.index, verify="full", progress=report)
    with progress("checking", "points", quiet=args.quiet) as report:
        found = index.validate(progress=report)
    for problem in found.problems:
        print(f"{args.index}: {problem}", file=sys.stderr)
    if not found.ok:
        return 1
    print(f"{args.index}: sound, {found.points:,} points and {found.edges:,} edges")
    return 0


def groundtruth(args: argparse.Namespace) -> int:
    """`bigrain groundtruth BASE QUERIES OUTPUT`."""
    writable(args.output)
    base = read_vectors(args.base, kind=args.kind)
    queries = read_vectors(args.queries, kind=args.kind, role="queries")
    with progress("exact search", "queries", quiet=args.quiet) as report:
        found = exact_search(
            base, queries, args.k, metric=args.metric, threads=args.threads, progress=report
        )
    write_ground_truth(args.output, found.ids, found.distances)
    print(f"{args.output}: {len(queries):,} x {args.k} neighbours by {args.metric}")
    return 0


def bench(args: argparse.Namespace) -> int:
    """`bigrain bench DATA`."""
    from bigrain_bench import cli, fetch

    try:
        return cli.run(args)
    except fetch.FetchError as error:
        raise CommandError(str(error)) from None


def bench_missing(args: argparse.Namespace) -> int:
    """`bigrain bench` where the package bigrain_bench is not installed."""
    del args
    raise CommandError(
        "the package bigrain_bench is missing from this installation: reinstall bigrain"
    )


def demo(args: argparse.Namespace) -> int:
    """`bigrain demo`."""
    from bigrain._cli import demo as show

    return show.run(args.output)


def writable(path: Path | None, *, index: bool = False, force: bool = False) -> None:
    """Refuses, before any work is done, an output that would fail or destroy something."""
    if path is None:
        return
    kind = path.suffix.lower().lstrip(".")
    if not index and kind not in TRUTH_KINDS:
        raise CommandError(f"{path}: the suffix must be one of .{', .'.join(TRUTH_KINDS)}")
    if not path.absolute().parent.is_dir():
        raise CommandError(f"{path}: there is no folder {path.parent}")
    if path.is_dir():
        raise CommandError(f"{path}: is a folder")
    if index and not force and path.exists() and path.stat().st_size:
        kinds = [guess.kind for guess in sniff(path)]
        if kinds != ["a Bigrain index"]:
            raise CommandError(f"{path}: exists and is not an index; --force replaces it")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
