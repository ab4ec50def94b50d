# SPDX-License-Identifier: Apache-2.0
"""`bigrain bench`: arguments, one run, its three outputs (JSON, picture, table)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from bigrain._cli.progress import progress
from bigrain_bench import datasets, disk, disk_report, fetch, fio, grid, grid_report, report
from bigrain_bench.engines import DISK, DISK_ENGINES, ENGINES
from bigrain_bench.measure import Measured, Options, Plan, measure
from bigrain_bench.truth import Truth, ground_truth

DESCRIPTION = """\
Sweeps the search width over your vectors and prints speed at equal recall, with any installed
peers measured beside it in the same run. Every engine runs in a process of its own, and the
engines take turns. Writes OUTPUT/NAME.json and OUTPUT/NAME.png.

With --memory engines answer from SSD: Bigrain under that budget, and diskann, with DiskANN's
columns (latency, reads, bytes, CPU per query). Writes OUTPUT/NAME.disk.json and .disk.png.

With --grid every engine is tuned first: its build configurations times its search settings, and the
table says who is fastest at recall 0.90, 0.95 and 0.99. Writes OUTPUT/NAME.grid.json."""
ALL = "all"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `bigrain bench`."""
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    default = Options()
    parser.add_argument(
        "data", help=f"a vector file (used as float32), or one of {', '.join(datasets.NAMES)}"
    )
    parser.add_argument("--queries", type=Path, help="a file of queries (default: rows held out)")
    parser.add_argument("--data", dest="path", type=Path, help="the file or folder of a named set")
    parser.add_argument("--metric", choices=("l2", "ip", "cosine"), help="of your own vectors")
    parser.add_argument(
        "--against",
        type=_names,
        default=[],
        metavar="NAME,...",
        help=f"peers: {', '.join(name for name in ENGINES if name != report.OURS)}; or {ALL}",
    )
    parser.add_argument(
        "--grid", action="store_true", help="tune every engine; compare at three recalls"
    )
    parser.add_argument(
        "--memory", metavar="SPEC", help='answer from disk: "min" or a budget such as 512MiB'
    )
    least = disk.DiskOptions()
    parser.add_argument(
        "--disk-folder",
        type=Path,
        metavar="FOLDER",
        help="where --memory keeps files, used again by the next run (default: temporary)",
    )
    parser.add_argument(
        "--depth", type=_positive, default=least.depth, help="reads in flight that fio keeps"
    )
    parser.add_argument(
        "--singles", type=_positive, default=least.singles, help="single queries timed per point"
    )
    parser.add_argument("-k", "--k", type=_positive, default=default.k, help="neighbours")
    parser.add_argument("--widths", type=_widths, default=(), metavar="W,...")
    parser.add_argument("--threads", type=_positive, default=default.threads, help="search")
    parser.add_argument("--build-threads", type=_positive, default=default.build_threads)
    parser.add_argument("--rounds", type=_positive, default=default.rounds)
    parser.add_argument("--build-rounds", type=_positive, default=default.build_rounds)
    parser.add_argument(
        "--seconds", type=float, default=default.seconds, help="least time of one measurement"
    )
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default=default.clock,
        help="what counts; cpu: processor time, for one thread on a shared machine",
    )
    parser.add_argument("--limit-queries", type=_positive, metavar="N", help="ask the first N")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=_assignment,
        metavar="ENGINE.NAME=VALUE",
        help="a build parameter, such as hnswlib.M=32; may be repeated; V1,V2 tries each (--grid)",
    )
    parser.add_argument(
        "--peer-python",
        "--peers-python",
        action="append",
        default=[],
        metavar="[ENGINE=]PYTHON",
        help="run all peers, or one, under another interpreter (for packages that pin old NumPy)",
    )
    parser.add_argument("--output", type=Path, default=Path("bench-results"), help="folder")


def run(args: argparse.Namespace) -> int:
    """Runs the benchmark; 1 when our own engine failed."""
    if args.clock == "cpu" and args.threads > 1:
        raise fetch.FetchError(
            f"--clock cpu --threads {args.threads}: waiting threads spend processor time too; "
            "use --clock wall, or one thread"
        )
    data = datasets.load(args.data, data=args.path, queries=args.queries, metric=args.metric)
    if args.limit_queries:
        queries = data.queries[: args.limit_queries]
        data = datasets.Dataset(data.name, data.base, queries, data.metric)
    options = Options(
        k=min(args.k, len(data.base)),
        rounds=args.rounds,
        seconds=args.seconds,
        threads=args.threads,
        build_threads=args.build_threads,
        build_rounds=args.build_rounds,
        widths=args.widths,
        clock=args.clock,
    )
    if args.memory:
        return run_disk(args, data, options)
    if args.grid:
        return run_grid(args, data, options)
    found, engines = measure_all(data, _plans(args), options)
    target = args.output / data.name
    report.write(found, target.with_name(target.name + ".json"))
    print(report.table(found))
    print(f"wrote {target}.json")
    if draw(found, target.with_name(target.name + ".png")):
        print(f"wrote {target}.png")
    return int(any(engine.error and engine.plan.name == report.OURS for engine in engines))


def run_disk(args: argparse.Namespace, data: datasets.Dataset, options: Options) -> int:
    """A run from disk; 1 when our own engine failed."""
    if not fio.installed():
        _say("the device is not measured: it needs fio")
    plans = _disk_plans(args)
    own = disk.DiskOptions(args.memory, args.disk_folder, args.depth, args.singles)
    ran = disk.measure(data, _truth(data, options), plans, options, own, _say)
    found = disk_report.document(data, ran, options, own)
    target = args.output / f"{data.name}.disk.json"
    report.write(found, target)
    print(disk_report.table(found))
    print(f"wrote {target}")
    if draw(found, target.with_suffix(".png"), on_disk=True):
        print(f"wrote {target.with_suffix('.png')}")
    return int(any(row["error"] and row["name"] == report.OURS for row in found["engines"]))


def _disk_plans(args: argparse.Namespace) -> list[Plan]:
    if args.grid:
        raise fetch.FetchError("--memory, --grid: pass one of them, not both")
    if absent := [name for name in args.against if name not in DISK_ENGINES]:
        raise fetch.FetchError(
            f"--memory: {', '.join(absent)} cannot answer from disk; known is "
            f"{', '.join(name for name in DISK_ENGINES if name != report.OURS)}"
        )
    plans = [Plan(plan.name + DISK, plan.params, plan.python) for plan in _plans(args)]
    for plan in plans:
        if plan.name == report.OURS + DISK:
            plan.params["memory"] = args.memory
    return plans


def run_grid(args: argparse.Namespace, data: datasets.Dataset, options: Options) -> int:
    """A tuned run. Its document is written after every engine too: such runs are long."""
    target = args.output / f"{data.name}.grid.json"
    truth = _truth(data, options)

    def keep(tuned: grid.Tuned) -> None:
        report.write(grid_report.document(data, tuned, options), target)

    tuned = grid.tune(data, truth, _plans(args), options, _say, keep)
    found = grid_report.document(data, tuned, options)
    report.write(found, target)
    print(grid_report.table(found))
    print(f"wrote {target}")
    ours = [engine for engine in tuned.engines if engine.plan.name == report.OURS]
    return int(all(engine.error for engine in ours))


def measure_all(
    data: datasets.Dataset, plans: list[Plan], options: Options
) -> tuple[dict[str, Any], list[Measured]]:
    """Ground truth, measurement, and the document of the run."""
    engines = measure(data, _truth(data, options), plans, options, _say)
    return report.document(data, engines, options), engines


def _truth(data: datasets.Dataset, options: Options) -> Truth:
    with progress(f"{data.name}: exact neighbours", "queries") as callback:
        return ground_truth(data.base, data.queries, data.metric, options.k, callback)


def draw(found: dict[str, Any], path: Path, on_disk: bool = False) -> bool:
    """Draws the picture where matplotlib is installed; says so where it is not."""
    try:
        from bigrain_bench import disk_plot, plot

        (disk_plot if on_disk else plot).draw(found, path)
    except ImportError:
        _say("no picture: it needs matplotlib (pip install 'bigrain[bench]')")
        return False
    return True


def _plans(args: argparse.Namespace) -> list[Plan]:
    pythons = dict(_peer_pythons(args.peer_python, args.against))
    plans = [Plan(name, {}, pythons.get(name)) for name in [report.OURS, *args.against]]
    for name, parameter, value in args.set:
        chosen = [plan for plan in plans if plan.name == name]
        if not chosen:
            raise fetch.FetchError(f"--set {name}.{parameter}: {name} is not in this run")
        if isinstance(value, list) and not args.grid:
            raise fetch.FetchError(f"--set {name}.{parameter}: several values need --grid")
        chosen[0].params[parameter] = value
    return plans


def _peer_pythons(values: list[str], peers: list[str]) -> list[tuple[str, str]]:
    """(peer, interpreter): a value for all peers first, so that one for a single peer wins."""
    found = []
    for value in sorted(values, key=lambda value: value.partition("=")[0] in ENGINES):
        name, equals, python = value.partition("=")
        if equals and name in ENGINES:
            found.append((name, python))
        else:
            found += [(peer, value) for peer in peers]
    return found


def _names(text: str) -> list[str]:
    if text == ALL:
        return [name for name in ENGINES if name != report.OURS]
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in ENGINES or name == report.OURS:
            peers = ", ".join(peer for peer in ENGINES if peer != report.OURS)
            raise argparse.ArgumentTypeError(f"unknown peer {name!r}; known are {peers}")
    return list(dict.fromkeys(names))


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _widths(text: str) -> tuple[int, ...]:
    return tuple(sorted({_positive(part) for part in text.split(",")}))


def _assignment(text: str) -> tuple[str, str, Any]:
    left, equals, value = text.partition("=")
    name, dot, parameter = left.partition(".")
    if not (equals and dot and name in ENGINES):
        raise argparse.ArgumentTypeError(f"{text!r} is not ENGINE.NAME=VALUE")
    values = [_value(part) for part in value.split(",")]
    return name, parameter, values if len(values) > 1 else values[0]


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
