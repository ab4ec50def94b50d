# SPDX-License-Identifier: Apache-2.0
"""Fine-tune all-MiniLM-L6-v2 on a judged collection, the index mining its negatives.

    python examples/finetune_minilm.py --texts TEXTS/debian --model MODEL --work OUT

TEXTS/debian is a BEIR folder with a held-out split: `corpus.jsonl`, `queries.jsonl`, `qrels.tsv`
for training, `queries-test.jsonl`, `qrels-test.tsv` to judge by. MODEL is a sentence-transformers
folder. What happens: the untouched model is measured on the held-out queries; it is trained on
training pairs, hard negatives drawn from its own results through an index and refreshed on the
way; it is measured again, with a paired test; 16-byte codes are trained on its vectors and put into
an index, whose file is searched under a memory budget. Killed, the same command goes on where it
was. What it printed on one core is in docs/training.md.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import Any

import numpy as np

import bigrain
from bigrain.eval.collections import Collection, read_beir
from bigrain.eval.metrics import Report, evaluate
from bigrain.eval.significance import compare
from bigrain.quant import OPQ
from bigrain.train.data import TrainingSet
from bigrain.train.encoders import HFEncoder
from bigrain.train.losses import contrastive
from bigrain.train.negatives import AnceRefresher
from bigrain.train.quantize import LearnedPQ
from bigrain.train.trainer import fit

Vectors = tuple[Any, Any]
METRICS = ("ndcg@10", "mrr@10")


def cut(args: argparse.Namespace) -> tuple[TrainingSet, Collection]:
    """Training pairs and the held-out collection over one cut corpus, without leaks."""
    whole, test = read_beir(args.texts), read_beir(args.texts, args.split)
    answers = {d for grades in test.qrels for d, grade in grades.items() if grade > 0}
    pairs = TrainingSet.from_collection(whole)
    asked = set(test.queries)
    # Neither a held-out query's text nor its answer is trained on.
    clean = [
        row
        for row, (query, document) in enumerate(zip(pairs.queries, pairs.positives, strict=True))
        if query not in asked and document not in answers
    ]
    rng = np.random.default_rng(args.seed)
    pairs = pairs.take(rng.permutation(clean)[: args.pairs])
    needed = np.array(sorted(answers | set(pairs.positives.tolist())), np.int64)
    others = np.setdiff1d(rng.permutation(len(whole.documents)), needed, assume_unique=True)
    kept = np.sort(np.concatenate([needed, others[: max(args.documents - len(needed), 0)]]))
    place = {int(row): i for i, row in enumerate(kept)}
    documents = [whole.documents[i] for i in kept]
    qrels = [{place[d]: g for d, g in grades.items() if d in place} for grades in test.qrels]
    ids = [whole.document_ids[i] for i in kept]
    positives = np.array([place[int(d)] for d in pairs.positives], np.int64)
    return (
        TrainingSet(pairs.queries, documents, positives),
        Collection(documents, test.queries, qrels, ids, test.query_ids),
    )


def encode(encoder: Any, test: Collection) -> Vectors:
    """Vectors of the corpus and of the held-out queries."""
    return encoder.encode_document(test.documents), encoder.encode_query(test.queries)


def judge(ids: Any, test: Collection, title: str) -> Report:
    """Measure and print."""
    report = evaluate(ids, test.qrels, METRICS)
    print(f"{title:40s}", *(f"{k} {v:.4f}" for k, v in report.means.items()), sep="  ", flush=True)
    return report


def print_comparison(before: Report, after: Report) -> None:
    """Paired differences with 95% intervals."""
    for name in METRICS:
        c = compare(before.values[name], after.values[name])
        print(f"  {name}: {c.difference:+.4f} [{c.low:+.4f}, {c.high:+.4f}], p = {c.p:.2g}")


def build(documents: Any) -> bigrain.Index:
    """Build an index, as unit vectors are compared."""
    return bigrain.Index.build(documents, metric="cosine", threads=1)


def train(encoder: Any, data: TrainingSet, args: argparse.Namespace) -> None:
    """Contrastive training with one refreshed hard negative per query."""
    refresher = AnceRefresher(
        args.refresh, topk=args.topk, sample=1, index_options={"threads": 1}, seed=args.seed
    )
    result = fit(
        encoder, data, loss=functools.partial(contrastive, tau=0.05), steps=args.steps,
        batch_size=args.batch, lr=args.lr, callbacks=[refresher], seed=args.seed,
        checkpoint=args.work / "checkpoint.pt", every=10, log=args.work / "log.jsonl",
        device=args.device, amp=args.bf16, progress=args.progress,
    )  # fmt: skip
    first = float(np.mean(result["losses"][:10]))
    print(
        f"{args.steps} steps in {result['seconds']:.0f} s, loss {first:.3f} -> {result['loss']:.3f}"
    )


def compress(
    encoder: Any, data: TrainingSet, test: Collection, vectors: Vectors, args: argparse.Namespace
) -> None:
    """Train codes, load them into the index, search its file under a budget; OPQ beside them."""
    documents, queries = vectors
    pairs = np.stack([np.arange(len(data)), data.positives], 1)
    # Temperature, rate and steps are E-MCL's at 16 bytes, chosen on another collection.
    learned = LearnedPQ(encoder.dim, args.bytes, temperature=0.03).fit(
        encoder.encode_query(data.queries), documents, pairs, lr=3e-3, steps=300, seed=args.seed,
        threads=1,
    )  # fmt: skip
    trained = learned.export()
    opq = OPQ(args.bytes).fit(documents, threads=1, seed=args.seed)
    index, path = build(documents), args.work / "index.bigrain"
    reports: list[Report] = []
    for name, arrays in [
        ("OPQ", {"rotation": opq.rotation, "codebooks": opq.codebooks}),
        ("trained", {"rotation": trained["rotation"], "codebooks": trained["codebooks"]}),
    ]:
        coder = OPQ.from_arrays(**arrays)
        decoded = coder.decode(coder.encode(documents, threads=1))
        alone = bigrain.exact_search(decoded, queries, 10, metric="ip", threads=1)
        reports.append(judge(alone.ids, test, f"{args.bytes}-byte codes alone, {name}"))
        index.set_codes(**arrays, threads=1)
        index.save(path)
        small = bigrain.Index.open(path, memory=args.memory)
        found = small.search(queries, 10, threads=1, stats=True)
        judge(found.ids, test, f"index under memory={args.memory!r}, {name}")
        print(f"  {found.stats.reads.mean():.1f} reads a query of {path.stat().st_size:,} bytes")
    print("codes alone, trained against OPQ:")
    print_comparison(*reports)


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("finetuned"))
    parser.add_argument("--split", default="test")
    parser.add_argument("--documents", type=int, default=4000)
    parser.add_argument("--pairs", type=int, default=1900)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--refresh", type=int, default=30)
    parser.add_argument("--topk", type=int, default=100)
    parser.add_argument("--tokens", type=int, nargs=2, default=(24, 48))
    parser.add_argument("--bytes", type=int, default=16)
    parser.add_argument("--memory", default="min")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=None)
    parser.add_argument("--progress", action="store_true")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    data, test = cut(args)
    print(f"{len(data.documents)} documents, {len(data)} pairs, {len(test.queries)} held out")
    encoder = HFEncoder(args.model, max_tokens=tuple(args.tokens)).to(args.device)
    encoder.amp = bool(args.bf16)
    documents, queries = encode(encoder, test)
    before = judge(build(documents).search(queries, 10, threads=1).ids, test, "untouched")
    train(encoder, data, args)
    documents, queries = encode(encoder, test)
    after = judge(build(documents).search(queries, 10, threads=1).ids, test, "fine-tuned")
    print_comparison(before, after)
    encoder.save(args.work / "encoder")
    compress(encoder, data, test, (documents, queries), args)


if __name__ == "__main__":
    main()
