# SPDX-License-Identifier: Apache-2.0
"""`bigrain convert`: an index of DiskANN becomes one of Bigrain."""

from __future__ import annotations

import argparse

from bigrain import Index
from bigrain._cli.commands import ids_from, say, writable
from bigrain._cli.progress import progress
from bigrain.diskann import read_diskann


def convert(args: argparse.Namespace) -> int:
    """`bigrain convert PREFIX INDEX`: its graph, start and vectors; codes of our own."""
    writable(args.index, index=True, force=args.force)
    ids = ids_from(args.ids) if args.ids else None
    with progress("reading", "points", quiet=args.quiet) as report:
        source = read_diskann(
            args.prefix,
            metric=args.metric,
            dtype=args.dtype,
            folder=args.index.absolute().parent,
            progress=report,
        )
    with progress("encoding", "points", quiet=args.quiet) as report:
        index = Index.from_graph(
            source.vectors,
            source.graph,
            ids,
            entry=source.entry,
            metric=source.metric,
            code_dim=args.code_dim,
            pq_bytes=args.pq_bytes,
            threads=args.threads,
            seed=args.seed,
            progress=report,
        )
    unreachable = index.validate().unreachable
    if unreachable:
        say(f"{unreachable:,} points cannot be reached in DiskANN's graph, and will not be found")
    size = index.save(args.index)
    print(
        f"{args.index}: {len(index):,} {index.dtype} vectors of dimension {index.dim}, metric "
        f"{index.metric}, {size / 1e6:,.1f} MB"
    )
    return 0
