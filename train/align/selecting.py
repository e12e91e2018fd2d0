"""Mean features of the rows that select a latent, in one pass over sampled rows of a cache."""

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from sparc.common.cache.reader import ActivationCache
from sparc.common.progress import progress
from sparc.train.data.sampling import complete_chunks
from sparc.train.model.network import Sparc
from sparc.train.model.topk import largest, sum_in_order

_BATCH = 256
"""Rows whose logits are in memory at once."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelectingRows:
    """The rows whose k largest summed logits include a latent, by latent, and their features."""

    counts: Tensor
    """Rows that select each latent, (latents,) int64."""
    means: Mapping[str, Tensor]
    """By stream, the mean normalized feature of these rows, (latents, dim) float64; 0 for none."""


@torch.no_grad()
def selecting_rows(model: Sparc, cache: ActivationCache, *, rows: int, seed: int) -> SelectingRows:
    """Average the features of the rows that select each latent, from sampled chunks.

    Rows count that are valid in all streams. They select the k latents with the largest sums of
    logits, whatever selector the model has: streams of a local model share no latents otherwise.

    Args:
        model: The model, on its device. Sums are kept on the CPU, so that their bits do not depend
            on the order in which a GPU adds.
        cache: A cache with its streams.
        rows: Rows wanted; all if there are fewer.
        seed: Seed of the sample of chunks.
    """
    config = model.config
    counts = torch.zeros(config.latents, dtype=torch.int64)
    sums = {
        stream.name: torch.zeros(config.latents, stream.dim, dtype=torch.float64)
        for stream in config.streams
    }
    total, used = min(rows, cache.info.rows), 0
    with progress(total, "rows by latent") as bar:
        for aligned in complete_chunks(cache, config.names, seed):
            features = aligned.tensors()
            for batch in zip(*(torch.split(features[s], _BATCH) for s in sums), strict=True):
                normalized = [model.normalize(s, x) for s, x in zip(sums, batch, strict=True)]
                logits = [model.logits(s, x) for s, x in zip(sums, normalized, strict=True)]
                selected = largest(sum_in_order(logits), config.k).cpu()
                counts += torch.bincount(selected.flatten(), minlength=config.latents)
                for name, x in zip(sums, normalized, strict=True):
                    exact = x.cpu().double()
                    for place in range(config.k):
                        sums[name].index_add_(0, selected[:, place], exact)
                used += len(selected)
                bar.update(min(used, total) - min(used - len(selected), total))
            if used >= rows:
                break
    divisors = counts.clamp(min=1).unsqueeze(1)
    for each in sums.values():
        each.div_(divisors)  # in place: they are as large as both moments of Adam
    return SelectingRows(counts=counts, means=sums)
