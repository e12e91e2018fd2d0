"""Screen low, decide exactly: TopK of float32 logits without most of their products.

All products are computed in bfloat16, several times faster where a CPU has instructions for it.
`bounds` says how far each may be from the float32 logit, so every latent of a row has a ceiling and
a floor between which its score lies. The k-th highest of the floors is a floor of the k-th highest
score, whatever has a ceiling below it is none of the k highest, and the others are candidates:
their scores are computed in float32, and the k highest are selected, of equal ones the first
latents. A row with too many candidates is done again: from a product in float64, whose bounds are a
hundred times narrower.

So whichever way a row takes, it selects the k highest of one set of numbers: the float32 products
of `row_kernels.pair_products` plus biases, summed over the streams. They are not the bits of a
matrix product in float32, whose sums have another order. The two selections differ at most in
latents whose scores are closer to each other than rounding in float32.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sparc.train.kernels.compiled import arrays
from sparc.train.kernels.screening import row_kernels
from sparc.train.kernels.screening.bounds import at_least, exact_term
from sparc.train.kernels.screening.low_logits import LowLogits
from sparc.train.model.topk import largest, sum_in_order

_LATENTS_AT_ONCE = 2048
"""Encoder rows that are copied in float64."""
_LOGITS_AGAIN = 1 << 22
"""Logits of a stream that are computed again at once: each takes about 60 bytes where all tie."""
_MOST_CANDIDATES = 32
"""This many times k candidates of a row are scored at most.

They are half of the latents of a model that is screened at most, and cost less than a product in
float64. Wide streams and many of them need room: bounds add up over streams, while sums of logits
spread with the root of their number."""


class CompiledScreen:
    """Implements `sparc.train.kernels.screening.low_logits.Screen`."""

    def fill(self, logits: LowLogits, latents: slice) -> None:
        """Round the encoder rows, and multiply."""
        weight = logits.encoder[latents]
        rounded = torch.empty(weight.shape, dtype=torch.int16)
        norms, lost = torch.empty(2, len(weight))
        row_kernels.lower(*arrays(weight, rounded, norms, lost))
        torch.mm(logits.rounded, rounded.view(torch.bfloat16).T, out=logits.low[:, latents])
        dim = weight.shape[1]
        logits.of_latents[0, latents] = at_least(norms, dim)
        logits.of_latents[1, latents] = at_least(lost, dim)

    def select(self, streams: Sequence[LowLogits], k: int) -> tuple[Tensor, Tensor]:
        """By low products, and by those in float32 where they do not tell."""
        indices, logits, done = _select_screened(streams, k)
        nothing = sum_in_order([stream.has for stream in streams]) == 0
        if bool(nothing.any()):
            indices[nothing] = torch.arange(k)
            logits.masked_fill_(nothing[:, None, None], 0)
        left = (done | nothing).logical_not_().nonzero().squeeze(1)
        for some in torch.split(left, max(1, _LOGITS_AGAIN // len(streams[0].encoder))):
            if len(some):
                part = [stream.rows(some) for stream in streams]
                indices[some], logits[some] = _select_again(part, k)
        return indices, logits

    def at(self, stream: LowLogits, indices: Tensor) -> Tensor:
        """By the products that decide what is selected."""
        rows = torch.arange(len(indices)).repeat_interleave(indices.shape[1])
        return _logits(stream, rows, indices.reshape(-1)).view(indices.shape)


def _select_screened(streams: Sequence[LowLogits], k: int) -> tuple[Tensor, Tensor, Tensor]:
    """What `select` returns, and for which rows that is done, (rows,) bool."""
    rows, size = streams[0].low.shape
    found = torch.empty(rows, min(size, _MOST_CANDIDATES * k), dtype=torch.int64)
    counts = torch.empty(rows, dtype=torch.int64)
    of_rows = arrays(*(stream.of_rows for stream in streams))
    row_kernels.find_candidates(
        arrays(*(stream.low.view(torch.int16) for stream in streams)),
        of_rows,
        arrays(*(stream.of_latents for stream in streams)),
        k,
        *arrays(found, counts),
    )
    counts.clamp_(min=0)
    which = torch.arange(found.shape[1]) < counts.unsqueeze(1)
    latents = found[which]
    of_pairs = torch.arange(rows).repeat_interleave(counts)
    products = torch.stack([_pair_products(stream, of_pairs, latents) for stream in streams])
    offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    indices = torch.empty(rows, k, dtype=torch.int64)
    logits, done = torch.empty(rows, len(streams), k), torch.empty(rows, dtype=torch.bool)
    row_kernels.select_rows(
        *arrays(offsets, latents, products),
        arrays(*(stream.bias for stream in streams)),
        of_rows,
        *arrays(indices, logits, done),
    )
    return indices, logits, done


def _select_again(streams: Sequence[LowLogits], k: int) -> tuple[Tensor, Tensor]:
    """`select` without a limit of candidates, which products in float64 find."""
    which = _may_be_selected(streams, k)
    rows, latents = which.nonzero(as_tuple=True)
    scores = torch.full(which.shape, -torch.inf)
    scores[which] = sum_in_order([_logits(stream, rows, latents) for stream in streams])
    indices = largest(scores, k)
    of_chosen = torch.arange(len(indices)).repeat_interleave(k)
    logits = [_logits(stream, of_chosen, indices.reshape(-1)) for stream in streams]
    return indices, torch.stack(logits).view(len(streams), -1, k).transpose(0, 1)


def _may_be_selected(streams: Sequence[LowLogits], k: int) -> Tensor:
    """Latents whose ceilings, of products in float64, reach the k-th highest floor, as `low`."""
    ceiling, floor = torch.zeros(2, *streams[0].low.shape)
    for stream in streams:
        norms, _, highest, lowest = stream.of_latents
        products, has = _exact_products(stream), stream.has.unsqueeze(1)
        slack = torch.outer(exact_term(stream.read) * stream.has, norms)
        ceiling += (products + slack).addcmul_(has, highest)
        floor += products.sub_(slack).addcmul_(has, lowest)
    floor = floor.where(floor == floor, -torch.inf)
    # NaN is never below, so that what is not a number has a score, which shows it.
    below: Tensor = ceiling < floor.topk(k, dim=1).values[:, -1:]
    return below.logical_not_()


def _exact_products(stream: LowLogits) -> Tensor:
    """Products in float64, rounded to float32, (rows, latents).

    Not in float32, which PyTorch may be told to take less seriously.
    """
    read, latents = stream.read.double(), len(stream.encoder)
    products = torch.empty(len(read), latents)
    for first in range(0, latents, _LATENTS_AT_ONCE):
        some = slice(first, first + _LATENTS_AT_ONCE)
        products[:, some] = torch.mm(read, stream.encoder[some].double().T)
    return products


def _logits(stream: LowLogits, rows: Tensor, latents: Tensor) -> Tensor:
    """Float32 logits of pairs, (pairs,)."""
    return _pair_products(stream, rows, latents).add_(stream.bias[latents]).mul_(stream.has[rows])


def _pair_products(stream: LowLogits, rows: Tensor, latents: Tensor) -> Tensor:
    """Float32 products of pairs, (pairs,)."""
    products = torch.empty(len(rows))
    row_kernels.pair_products(*arrays(stream.read, rows, stream.encoder, latents, products))
    return products
