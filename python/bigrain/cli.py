# SPDX-License-Identifier: Apache-2.0
"""The command `bigrain`: arguments, and the exit codes that scripts rely on.

0: done. 1: it could not be done (bad data, a damaged file, a full disk); one line on standard error
says why. 2: the command line itself is wrong. 130: interrupted by Ctrl-C.
Results go to standard output, everything else to standard error.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from bigrain import __version__, diskann, readers
from bigrain._cli import commands
from bigrain._cli.convert import convert

FAILED, USAGE, INTERRUPTED = 1, 2, 130
METRICS = ("l2", "ip", "cosine")

# What can go wrong with data, files and machines. Anything else is a bug and shows its traceback.
EXPECTED = (
    ValueError,
    TypeError,
    OSError,
    MemoryError,
    ImportError,
    NotImplementedError,
    commands.CommandError,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    args = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = args.run
    try:
        code = run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("bigrain: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone, as `head` does; Python must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except EXPECTED as error:
        print(f"bigrain {args.command}: error: {_sentence(error)}", file=sys.stderr)
        return FAILED
    return code


def _sentence(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{os.fspath(error.filename)}: {error.strerror}"
    if isinstance(error, MemoryError):
        return f"not enough memory{f': {error}' if str(error) else ''}"
    return str(error) or type(error).__name__


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bigrain", description="Nearest neighbours with a Vamana index."
    )
    parser.add_argument("--version", action="version", version=f"bigrain {__version__}")
    verbs = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_build, _convert, _search, _info, _validate, _groundtruth, _bench, _demo):
        add(verbs)
    return parser


Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _build(verbs: Verbs) -> None:
    parser = verbs.add_parser("build", help="build an index over a vector file")
    parser.set_defaults(run=commands.build)
    parser.add_argument("vectors", type=Path, help=f"a file of vectors: {', '.join(readers.KINDS)}")
    parser.add_argument("index", type=Path, help="the index file to write")
    _metric(parser)
    parser.add_argument("--ids", type=Path, help="a file of external ids, one row each")
    parser.add_argument("--degree", type=_positive, help="R: neighbours per vertex")
    parser.add_argument("--code-dim", type=_positive, help="dimensions of the codes")
    parser.add_argument(
        "--pq-bytes", type=_pq_bytes, default="auto", help="for SSDs: of a code, auto, or 0: none"
    )
    parser.add_argument("--builder", choices=("auto", "vamana", "partitioned"), default="auto")
    parser.add_argument("--build-width", type=_positive, default=128, help="L of the build")
    parser.add_argument("--alpha", type=float, help="factor of RobustPrune (default: by metric)")
    parser.add_argument("--seed", type=_natural, default=0)
    parser.add_argument(
        "--memory", help="a size such as 1GiB: build in so much memory, through a work folder"
    )
    parser.add_argument("--work", type=Path, help="that folder (default: beside the index)")
    parser.add_argument(
        "--clean", action="store_true", help="begin anew where an interrupted build left a folder"
    )
    parser.add_argument("--tune", type=_share, metavar="RECALL", help="calibrate search --recall")
    parser.add_argument("--force", action="store_true", help="replace a file that is not an index")
    _common(parser)
    _kind(parser)


def _convert(verbs: Verbs) -> None:
    parser = verbs.add_parser("convert", help="make an index of one that DiskANN built for SSDs")
    parser.set_defaults(run=convert)
    parser.add_argument("prefix", type=Path, help="of its files: PREFIX_disk.index and others")
    parser.add_argument("index", type=Path, help="the index file to write")
    parser.add_argument(
        "--metric",
        choices=METRICS,
        help="it was built for (default: what PREFIX_metadata.bin says)",
    )
    parser.add_argument("--dtype", choices=diskann.DTYPES, help="of its vectors (as for --metric)")
    parser.add_argument("--ids", type=Path, help="a file of external ids, one row each")
    parser.add_argument("--code-dim", type=_positive, help="dimensions of the codes")
    parser.add_argument(
        "--pq-bytes", type=_pq_bytes, default="auto", help="for SSDs: of a code, auto, or 0: none"
    )
    parser.add_argument("--seed", type=_natural, default=0)
    parser.add_argument("--force", action="store_true", help="replace a file that is not an index")
    _common(parser)


def _search(verbs: Verbs) -> None:
    parser = verbs.add_parser("search", help="find the neighbours of queries")
    parser.set_defaults(run=commands.search)
    parser.add_argument("index", type=Path)
    parser.add_argument("queries", type=Path, help="a file of vectors")
    parser.add_argument("-k", "--k", type=_positive, default=10, help="neighbours per query")
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument("--width", type=_positive, help="L of the search; more finds more")
    effort.add_argument("--recall", type=_share, help="the recall to reach, of a tuned index")
    parser.add_argument("--rerank", type=_positive, help="candidates scored with full vectors")
    parser.add_argument("--slack", type=float, help="stop at 1 + this times the k-th distance")
    parser.add_argument("--truth", type=Path, help="true neighbours: recall is printed")
    parser.add_argument("-o", "--output", type=Path, help="write .bin, .npz, .npy or .ivecs")
    _verify(parser)
    _common(parser)
    _kind(parser)


def _info(verbs: Verbs) -> None:
    parser = verbs.add_parser("info", help="print an index file's header as JSON")
    parser.add_argument("--plan", action="store_true", help="what is where, what it costs, and why")
    parser.set_defaults(run=commands.info)
    parser.add_argument("index", type=Path)


def _validate(verbs: Verbs) -> None:
    parser = verbs.add_parser("validate", help="check a whole index file; 1 if it is damaged")
    parser.set_defaults(run=commands.validate)
    parser.add_argument("index", type=Path)
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")


def _groundtruth(verbs: Verbs) -> None:
    parser = verbs.add_parser("groundtruth", help="find the exact neighbours of queries")
    parser.set_defaults(run=commands.groundtruth)
    parser.add_argument("base", type=Path, help="a file of vectors")
    parser.add_argument("queries", type=Path, help="a file of vectors")
    parser.add_argument("output", type=Path, help="the file to write: .bin, .npz, .npy or .ivecs")
    parser.add_argument("-k", "--k", type=_positive, default=100, help="neighbours per query")
    _metric(parser)
    _common(parser)
    _kind(parser)


def _bench(verbs: Verbs) -> None:
    parser = verbs.add_parser("bench", help="measure recall and speed, with peers beside")
    try:
        from bigrain_bench import cli
    except ImportError:
        parser.set_defaults(run=commands.bench_missing)
        parser.add_argument("arguments", nargs=argparse.REMAINDER)
        return
    parser.set_defaults(run=commands.bench)
    cli.add_arguments(parser)


def _demo(verbs: Verbs) -> None:
    parser = verbs.add_parser("demo", help="watch an index at work on 24,000 words")
    parser.set_defaults(run=commands.demo)
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("demo"), help="folder for the picture"
    )


def _metric(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metric", choices=METRICS, default="l2", help="l2 (squared), ip or cosine (default: l2)"
    )


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=_natural, default=0, help="0: every usable core")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")


def _kind(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kind", choices=readers.KINDS, help="of the vector files, where suffixes do not tell"
    )


def _verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--verify", choices=("full", "header", "off"), default="full", help="checks on opening"
    )


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, got {value}")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {value}")
    return value


def _pq_bytes(text: str) -> int | str:
    return "auto" if text == "auto" else int(text)


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, got {value}")
    return value


# argparse names a conversion by its function when it fails: "invalid integer value: 'x'".
_natural.__name__ = _positive.__name__ = "integer"
_share.__name__ = "number"


if __name__ == "__main__":
    sys.exit(main())
