"""Chunks in random order, to sample rows from a whole cache: neighbours may be alike."""

from collections.abc import Iterator, Sequence

import numpy as np

from sparc.common.cache.reader import ActivationCache, Aligned


def shuffled_chunks(cache: ActivationCache, seed: int) -> list[int]:
    """All chunks of a cache in random order."""
    generator = np.random.Generator(np.random.PCG64(seed))
    return [int(chunk) for chunk in generator.permutation(cache.info.chunks)]


def complete_chunks(cache: ActivationCache, streams: Sequence[str], seed: int) -> Iterator[Aligned]:
    """The rows that are valid in all of some streams, a chunk at a time, in random order.

    Chunks without such a row are left out.
    """
    for chunk in shuffled_chunks(cache, seed):
        aligned = cache.aligned(chunk, streams)
        if len(aligned):
            yield aligned
