"""Thresholds of a selector that has them, learned once more for encoders that have moved."""

from collections.abc import Collection

import torch

from sparc.common.cache.reader import ActivationCache
from sparc.train.data.sampling import complete_chunks
from sparc.train.model.network import Sparc
from sparc.train.model.topk import sum_in_order

_BATCH = 256
"""Rows whose thresholds are taken together, as in training."""

_BATCHES = 32
"""Batches that are enough for a mean: thresholds vary little between them."""


def relearn_thresholds(
    model: Sparc, cache: ActivationCache, *, seed: int, own: Collection[str] | None = None
) -> None:
    """Set the thresholds to the means over some batches, in place; other selectors have none.

    Args:
        model: The model.
        cache: A cache with its streams.
        seed: Seed of the sample of chunks, of whose rows those count that are valid in all streams.
        own: Streams whose own thresholds are learned, beside that of the summed logits; None: all.
    """
    if model.thresholds is None:
        return
    selector, config = model.selector, model.config
    streams = [at for at, s in enumerate(config.names, 1) if own is None or s in own]
    places, batches = [0, *streams], 0
    sums = torch.zeros_like(model.thresholds)
    for aligned in complete_chunks(cache, config.names, seed):
        features = aligned.tensors()
        for rows in zip(*(torch.split(features[s], _BATCH) for s in config.names), strict=True):
            parts = zip(config.names, rows, strict=True)
            logits = [model.logits(s, model.normalize(s, x)) for s, x in parts]
            scores = [sum_in_order(logits), *logits]
            for place in places:
                candidates = scores[place].topk(config.width, dim=1).values
                sums[place] += selector.batch_threshold(candidates, config.k)
            batches += 1
        if batches >= _BATCHES:
            break
    # NaN, that is unknown, where no row has all streams.
    model.thresholds[places] = sums[places] / batches
