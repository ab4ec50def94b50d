# SPDX-License-Identifier: Apache-2.0
"""Product quantizers trained for the ranking, not for the reconstruction; see `LearnedPQ`.

Papers: Xiao et al., "Matching-oriented Product Quantization for Ad-hoc Retrieval" (EMNLP 2021,
section 3: `mcl`); Xiao et al., "Distill-VQ" (SIGIR 2022, section 3.2: `distill_vq`); Zhan et al.,
"Jointly Optimizing Query Encoder and Product Quantization" (CIKM 2021: `freeze_codes`).

Steps: rotation and codebooks start from the engine's OPQ; codewords are chosen by squared distance
with a straight-through softmax; Adam moves codebooks and rotation, and the encoder if it is in the
same optimizer; `export` gives the arrays that the engine takes bit by bit.

What differs: the rotation, which the papers keep as OPQ left it, is trained by Cayley's transform
(Helfrich et al., ICML 2018), which keeps it orthogonal. Scores of unit vectors span [-1, 1], so
the losses divide them by a temperature `tau`.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from bigrain._checks import check_integer, require
from bigrain.quant import OPQ
from bigrain.quant._opq import check_rotation
from bigrain.quant._product import check_codebooks, lengths
from bigrain.train._embeddings import Embeddings, embeddings
from bigrain.train._tensors import mean
from bigrain.train.dist import weighted_mean
from bigrain.train.losses import contrastive, kd_listnet

# Codewords per sub-vector: a byte.
K = 256
Arrays = dict[str, npt.NDArray[Any]]
# Temperatures of `fit`: of unit vectors' scores, as contrastive encoders use (SimCSE: .05).
TAU = 0.05
# Nearest documents per query that ListNet draws from, and how many a step draws (Distill-VQ's
# lists hold 10 to 200; the other queries' documents join them).
CANDIDATES, DRAWN = 100, 4


class LearnedPQ(nn.Module):
    """Product quantization behind a rotation, both trainable; codes of one byte per sub-vector.

    Args:
        dim: length of the vectors.
        m: sub-vectors; the first dim % m are one coordinate longer, as in `bigrain.quant.PQ`.
        d_out: columns of the rotation, m to dim; None is dim.
        temperature: divides squared distances in the softmax over codewords.

    Attributes:
        codebooks: parameter (m, 256, ceil(d_out / m)); shorter sub-vectors end in a zero.
        skew: parameter (dim, dim); its upper triangle turns `base`; zero turns nothing.
        base: buffer (dim, d_out) with orthonormal columns.
        history: the losses of the last `fit`, one per step.
        frozen: uint8 (n, m), the documents' codes if the last `fit` froze them.
    """

    base: Tensor
    fitted: Tensor

    def __init__(
        self, dim: int, m: int, *, d_out: int | None = None, temperature: float = 1.0
    ) -> None:
        super().__init__()
        require(temperature > 0, "temperature", "a number above 0", temperature)
        dim = check_integer(dim, "dim", 1, 2**15)
        coded = dim if d_out is None else check_integer(d_out, "d_out", 1, dim)
        self.m = check_integer(m, "m", 1, coded)
        self.dim, self.temperature = dim, temperature
        self.history: list[float] = []
        self.frozen: Tensor | None = None
        width = -(-coded // self.m)
        self.codebooks = nn.Parameter(torch.zeros(self.m, K, width))
        self.skew = nn.Parameter(torch.zeros(dim, dim))
        self.register_buffer("base", torch.eye(dim)[:, :coded].clone())
        self.register_buffer("fitted", torch.tensor(False))
        self._real = torch.arange(width) < torch.tensor(lengths(coded, self.m))[:, None]

    @classmethod
    def from_arrays(cls, rotation: Any, codebooks: Any, *, temperature: float = 1.0) -> LearnedPQ:
        """Make one from `OPQ.rotation` and `OPQ.codebooks`, or from what `export` returned.

        Args:
            rotation: (dim, d_out) with orthonormal columns; kept as float32, bit by bit.
            codebooks: (m, 256, ceil(d_out / m)).
            temperature: as in the constructor.
        """
        matrix = check_rotation(rotation)
        books, coded = check_codebooks(codebooks, matrix.shape[1])
        require(books.shape[1] == K, "codebooks", f"{K} codewords each", f"shape {books.shape}")
        self = cls(len(matrix), len(books), d_out=coded, temperature=temperature)
        self._set(matrix, books)
        return self

    def initialise(self, x: Any, *, seed: int = 0, threads: int = 0) -> LearnedPQ:
        """Start from the engine's OPQ of x, (n, dim) with n at least 256, and return self."""
        opq = OPQ(self.m, d_out=self.base.shape[1]).fit(x, seed=seed, threads=threads)
        require(opq.dim == self.dim, "x", f"{self.dim} dimensions", opq.dim)
        self._set(opq.rotation, opq.codebooks)
        return self

    def _set(self, rotation: npt.NDArray[np.float32], books: npt.NDArray[np.float32]) -> None:
        with torch.no_grad():
            self.base.copy_(torch.tensor(rotation))
            self.codebooks.copy_(torch.tensor(books))
            self.skew.zero_()
            self.fitted.fill_(True)

    def rotation(self) -> Tensor:
        """Return the (dim, d_out) rotation, with gradients."""
        return _turned(self.base, self.skew)

    def _cut(self, rotated: Tensor) -> Tensor:
        parts = rotated.new_zeros(len(rotated), *self._real.shape)
        parts[:, self._real] = rotated
        return parts

    def forward(self, x: Tensor, codes: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Quantize x.

        Args:
            x: (n, dim).
            codes: (n, m) integers to use instead of the nearest codewords. They are constants:
                the reconstruction then has no gradient towards x.

        Returns:
            The reconstruction (n, dim), straight-through: its value is made of codewords, its
            gradient towards x that of their softmax; codes uint8 (n, m); and (n, m) the log of
            the softmax at the codes.
        """
        rotation = self.rotation()
        parts = self._cut(x.to(rotation.dtype) @ rotation)
        cross = torch.einsum("nms,mks->nmk", parts, self.codebooks)
        squares = (parts**2).sum(-1, keepdim=True) + (self.codebooks**2).sum(-1) - 2 * cross
        log_p = functional.log_softmax(-squares / self.temperature, dim=-1)
        chosen = squares.detach().argmin(-1) if codes is None else codes.long()
        quantized = self.codebooks[torch.arange(self.m, device=chosen.device), chosen]
        if codes is None:
            soft = torch.einsum("nmk,mks->nms", log_p.exp(), self.codebooks.detach())
            quantized = quantized + (soft - soft.detach())
        recon = quantized[:, self._real] @ rotation.T
        return recon, chosen.to(torch.uint8), log_p.gather(-1, chosen[..., None])[..., 0]

    def fold(self) -> LearnedPQ:
        """Move what `skew` turned into `base`, as `export` does, and return self."""
        arrays = self.export()
        self._set(arrays["rotation"], arrays["codebooks"])
        return self

    def export(self, x: Any = None, *, threads: int = 0) -> Arrays:
        """Return what `OPQ.from_arrays` and `Index.set_codes` take, by their argument names.

        Args:
            x: (n, dim) vectors to encode too, by the engine.
            threads: of the engine; 0 means every core.

        Returns:
            "rotation" float32 (dim, d_out): the orthonormal matrix nearest to the trained one,
            computed in float64; after `fold` or `fit`, base bit by bit. "codebooks" float32
            (m, 256, ceil(d_out / m)). "codes" uint8, laid out as by `OPQ.encode`: of x, or without
            x the frozen ones, if the last `fit` froze them.
        """
        if not bool(self.fitted):
            raise ValueError("LearnedPQ: not fitted; call initialise(x) or fit(...) first")
        rotation = self.base
        if bool(self.skew.any()):
            turned = _turned(self.base.double(), self.skew.detach().double())
            u, _, v = torch.linalg.svd(turned, full_matrices=False)
            rotation = u @ v
        both = {"rotation": rotation, "codebooks": self.codebooks.detach()}
        arrays: Arrays = {n: x.float().cpu().numpy().copy() for n, x in both.items()}
        if x is not None:
            arrays["codes"] = OPQ.from_arrays(**arrays).encode(x, threads=threads)
        elif self.frozen is not None:
            arrays["codes"] = self.frozen.cpu().numpy().copy()
        return arrays

    def fit(
        self,
        q_emb: Any,
        d_emb: Any,
        pairs: Any = None,
        *,
        loss: Literal["mcl", "listnet", "recon"] = "mcl",
        steps: int = 500,
        batch_size: int = 256,
        lr: float = 1e-3,
        lr_rotation: float | None = None,
        candidates: Any = CANDIDATES,
        drawn: int = DRAWN,
        freeze_codes: bool = False,
        seed: int = 0,
        threads: int = 0,
        **options: Any,
    ) -> LearnedPQ:
        """Train on embeddings that stay as they are, and return self, folded.

        Args:
            q_emb: (q, dim) queries; "recon" does not look at them.
            d_emb: (n, dim) documents; OPQ of them is the start, unless there is one already.
            pairs: int64 (p, 2), rows of a query and of the document that answers it. "mcl" needs
                them; "listnet" adds the answers to its lists.
            loss: "mcl", "listnet" (`distill_vq` over a batch's documents) or "recon".
            steps: of Adam, whose rate falls linearly to 0.
            batch_size: queries per step; documents with "recon".
            lr: highest learning rate, of the codebooks.
            lr_rotation: of the rotation; None is a tenth of lr (bench/LOG.md, "LearnedPQ").
            candidates: the nearest documents per query that "listnet" draws from: how many, found
                by exact inner products, or their rows, int64 (q, c), as a search gives them.
            drawn: of them, per query and step.
            freeze_codes: keep the documents' first codes, train what they stand for (JPQ).
            seed: of the start and of the batches.
            threads: of the engine; torch's are the caller's.
            **options: further arguments of the loss: tau (here .05), w_like (here 0), eps.

        Raises:
            ValueError: shapes that do not fit, rows out of range, no pairs for "mcl".
        """
        device = self.codebooks.device
        data = embeddings(self.dim, device, q_emb, d_emb, pairs, loss, candidates, threads)
        data = replace(data, drawn=check_integer(drawn, "drawn", 1, 2**20))
        check_integer(steps, "steps", 1, 2**31)
        check_integer(batch_size, "batch_size", 1, data.rows)
        if not bool(self.fitted):
            self.initialise(data.d.cpu().numpy(), seed=seed, threads=threads)
        self.frozen = self._assign(data.d) if freeze_codes else None
        slow = lr / 10 if lr_rotation is None else lr_rotation
        groups = [{"params": [self.codebooks], "lr": lr}, {"params": [self.skew], "lr": slow}]
        optimizer = torch.optim.Adam(groups)
        decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
        self.history, generator = [], torch.Generator().manual_seed(seed)
        for rows in itertools.islice(data.batches(batch_size, generator), steps):
            optimizer.zero_grad()
            value = self._loss_of(data, rows, generator, options)
            torch.autograd.backward(value)
            optimizer.step()
            decay.step()
            self.history.append(float(value.detach()))
        return self.fold()

    def _loss_of(
        self, data: Embeddings, rows: Tensor, generator: torch.Generator, options: dict[str, Any]
    ) -> Tensor:
        def codes(documents: Tensor) -> Tensor | None:
            return None if self.frozen is None else self.frozen[documents]

        if data.q is None:
            return recon(self, data.d[rows], codes(rows), **options)
        asked, answers = (rows, rows[:0]) if data.pairs is None else data.pairs[rows].unbind(1)
        q = data.q[asked]
        if data.near is None:
            options = {"tau": TAU, "w_dense": 0.0, "w_like": 0.0, **options}
            return mcl(q, data.d[answers], self, codes=codes(answers), p_ids=answers, **options)
        used = torch.unique(torch.cat([data.draw(asked, generator), answers]))
        lists = torch.arange(len(used), device=used.device).expand(len(q), -1)
        options = {"tau": TAU, **options}
        return distill_vq(q, data.d[used], self, lists, codes=codes(used), **options)

    @torch.no_grad()
    def _assign(self, x: Tensor) -> Tensor:
        return torch.cat([self(part)[1] for part in torch.split(x, 1024)])


def _turned(base: Tensor, skew: Tensor) -> Tensor:
    # Cayley's (I + S)^-1 (I - S) of the skew-symmetric S = upper - upper', times base.
    upper: Tensor = skew.triu(1)
    eye = torch.eye(len(skew), dtype=skew.dtype, device=skew.device)
    turn: Tensor = torch.linalg.solve(eye + upper - upper.T, eye - upper + upper.T)
    return turn @ base


def mcl(
    q: Tensor,
    k: Tensor,
    pq: LearnedPQ,
    n: Tensor | None = None,
    *,
    tau: float | Tensor = 1.0,
    w_dense: float = 1.0,
    w_like: float = 1.0,
    eps: float = 1e-8,
    codes: Tensor | None = None,
    group: Any = None,
    **ids: Any,
) -> Tensor:
    """Matching-oriented contrastive loss (MoPQ, equations 7 to 9; eps as in the authors' code).

    Args:
        q: (b, dim) queries; they are not quantized.
        k: (b, dim) the documents that answer them.
        pq: the quantizer.
        n: (b, H, dim) further documents that do not.
        tau: divides scores.
        w_dense: weight of the loss on k itself; it moves an encoder, never the quantizer.
        w_like: weight of the codewords' log-likelihood.
        eps: weight of the squared error.
        codes: (b, m) of k, if they are to stay.
        group: of processes that share their documents, as in `contrastive`.
        **ids: q_ids, p_ids, n_ids and whatever else `contrastive` takes.

    Returns:
        CE(q, recon) + w_dense CE(q, k) - w_like mean sum log p(code) + eps mean ||k - recon||^2.
    """
    recon_k, _, log_p = pq(k, codes)
    recon_n = None if n is None else pq(n.flatten(0, 1))[0].reshape(n.shape)
    loss: Tensor = contrastive(q, recon_k, recon_n, tau=tau, group=group, **ids)
    if w_dense:
        loss = loss + w_dense * contrastive(q, k, n, tau=tau, group=group, **ids)
    error, likelihood = mean(((k - recon_k) ** 2).sum(1)), mean(log_p.sum(1))
    return loss + weighted_mean(eps * error - w_like * likelihood, len(q), group)


class MatchingLoss(nn.Module):
    """`mcl` as a loss of `trainer.fit`, which then trains encoder and quantizer together.

    Args:
        pq: the quantizer; the optimizer finds its parameters here.
        **options: further arguments of `mcl`.
    """

    def __init__(self, pq: LearnedPQ, **options: Any) -> None:
        super().__init__()
        self.pq, self.options = pq, options

    def forward(
        self,
        q: Tensor,
        p: Tensor,
        n: Tensor | None = None,
        *,
        p_ids: Tensor | None = None,
        n_ids: Tensor | None = None,
        group: Any = None,
    ) -> Tensor:
        """Return `mcl` of (b, dim), (b, dim), (b, H, dim)."""
        return mcl(q, p, self.pq, n, p_ids=p_ids, n_ids=n_ids, group=group, **self.options)


def distill_vq(
    q: Tensor,
    d_emb: Tensor,
    pq: LearnedPQ,
    cand: Tensor,
    ivf: Tensor | None = None,
    *,
    tau: float = 1.0,
    codes: Tensor | None = None,
) -> Tensor:
    """ListNet between scores of documents and scores of what their codes stand for (Distill-VQ).

    Args:
        q: (b, dim) queries.
        d_emb: (U, dim) documents, each once.
        pq: the quantizer.
        cand: (b, C) rows of d_emb: the lists. No label is needed.
        ivf: (P, dim) centroids of an inverted file, trained by the same loss: a document's score
            is then its nearest centroid's.
        tau: divides all scores.
        codes: (U, m) of d_emb, if they are to stay.
    """

    def scores(documents: Tensor) -> Tensor:
        return (q @ documents.T).gather(1, cand) / tau

    teacher = scores(d_emb)
    loss = kd_listnet(scores(pq(d_emb, codes)[0]), teacher)
    if ivf is not None:
        nearest = torch.cdist(d_emb.detach(), ivf.detach()).argmin(1)
        loss = loss + kd_listnet(scores(ivf[nearest]), teacher)
    return loss


def recon(pq: LearnedPQ, x: Tensor, codes: Tensor | None = None) -> Tensor:
    """Return the mean squared length of what the codes of x, (n, dim), lose: the control."""
    made: Tensor = pq(x, codes)[0]
    return ((x - made) ** 2).sum(1).mean()
