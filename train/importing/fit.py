"""How an imported dictionary does on features: whether it is of these, and whether codes are whole.

A dictionary of another layer, another model or otherwise scaled features has weights like any
other. Its reconstructions show it.
"""

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import CacheError, setting
from sparc.common.text import amount
from sparc.train.data.sampling import complete_chunks
from sparc.train.model.network import Sparc

_ROWS = 4096
"""Rows to look at, in whole chunks."""
_BATCH = 256
_SEED = 42


@dataclasses.dataclass(frozen=True)
class Fit:
    """A one-stream model on rows of its stream.

    Attributes:
        rows: How many.
        active: Active latents of a row, on average.
        cut: Rows in which more latents reach the threshold than a code has.
        explained: Explained variance: 1 is perfect, 0 what the mean feature gives.
    """

    rows: int
    active: float
    cut: int
    explained: float


def fit_on(model: Sparc, cache: ActivationCache) -> Fit:
    """Encode and rebuild rows of a cache.

    Args:
        model: A model of one stream.
        cache: A cache with that stream, of the same width.

    Raises:
        CacheError: No row is valid.
    """
    (stream,) = model.config.names
    rows = cut = active = 0
    errors, sums, squares = 0.0, torch.zeros(model.config.streams[0].dim).double(), 0.0
    threshold = model.threshold([stream])
    for features in _batches(cache, stream):
        normalized = model.normalize(stream, features)
        logits = model.logits(stream, normalized)
        codes = model.select({stream: logits}, "independent")[stream]
        if threshold is not None:
            reaching = ((logits >= threshold) & (logits > 0)).sum(1)
            cut += int((reaching > model.config.width).sum())
        exact = normalized.double()
        errors += float((model.decode(codes, stream).double() - exact).square().sum())
        sums += exact.sum(0)
        squares += float(exact.square().sum())
        active += int((codes.values > 0).sum())
        rows += len(features)
    if not rows:
        raise CacheError(f"{cache.folder}: no row of stream {stream} is valid")
    variance = squares - float(sums.square().sum()) / rows
    explained = 1 - errors / variance if variance > 0 else float("nan")
    return Fit(rows=rows, active=active / rows, cut=cut, explained=explained)


def fit_lines(fit: Fit, model: Sparc, cache: ActivationCache) -> Iterator[str]:
    """The lines that say it."""
    (stream,) = model.config.names
    yield (
        f"{stream} on {amount(fit.rows, 'row')} of {cache.folder}: {fit.active:.1f} latents a row, "
        f"explained variance {fit.explained:.3f}"
    )
    if fit.explained < 0:
        yield (
            "note: the dictionary rebuilds these features worse than their mean does: it was "
            "trained on others, or they were scaled or centred first"
        )
    if fit.cut:
        yield (
            f"note: in {fit.cut:,} of {amount(fit.rows, 'row')} more than {model.config.width} "
            "latents reach the threshold, and the smaller ones are left out: keep more with "
            f"{setting('--k-max')}"
        )


def _batches(cache: ActivationCache, stream: str) -> Iterator[Tensor]:
    rows = 0
    for aligned in complete_chunks(cache, [stream], _SEED):
        yield from torch.split(aligned.tensors()[stream].float(), _BATCH)
        rows += len(aligned)
        if rows >= _ROWS:
            return
