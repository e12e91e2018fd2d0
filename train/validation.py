"""Measuring models on a second cache, with the code that measures training batches.

Changes nothing: no counter of dead latents, no random state, no position of the reader.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import CacheError
from sparc.common.streams.info import StreamInfo
from sparc.common.streams.origin import EncoderDifference, encoder_difference
from sparc.train.config import RowChoice, StreamShape
from sparc.train.data.rows import are_usable, valid_flags
from sparc.train.step.measurer import Measurer
from sparc.train.step.sums import StepSums


def check(
    cache: ActivationCache, streams: Sequence[StreamInfo], *, rows: RowChoice = "all"
) -> None:
    """Refuse a cache that the models of a run cannot be measured on.

    Args:
        cache: The validation cache.
        streams: The streams that the run learns from.
        rows: Which rows are measured.

    Raises:
        CacheError: It lacks a stream, or another encoder made it, or no row is valid in all; with
            `any`, in none.
        IncompleteCacheError: Its extraction has not finished.
    """
    names = [stream.name for stream in streams]
    shapes = [StreamShape(stream.name, stream.dim) for stream in streams]
    require_streams(cache, shapes, streams, called="validation cache ")
    chunks = range(cache.info.chunks)
    if not any(are_usable(valid_flags(cache, chunk, names), rows).any() for chunk in chunks):
        which = "all" if rows == "all" else "one"
        raise CacheError(
            f"validation cache {cache.folder}: no row is valid in {which} of {', '.join(names)}"
        )


def require_streams(
    cache: ActivationCache,
    shapes: Sequence[StreamShape],
    trained_on: Sequence[StreamInfo],
    *,
    called: str = "",
) -> None:
    """Refuse a cache without the streams of a model, whole and made by the same encoders.

    Args:
        cache: The cache.
        shapes: The streams of the model.
        trained_on: The streams that it was trained on, where that is known.
        called: What the cache is, for error messages.

    Raises:
        CacheError: It lacks a stream, or another encoder made it.
        IncompleteCacheError: Its extraction has not finished.
    """
    cache.require_complete([stream.name for stream in shapes])
    origins = {stream.name: stream.origin for stream in trained_on}
    for name, dim in ((stream.name, stream.dim) for stream in shapes):
        stream = cache.streams[name]
        difference = None
        if name in origins:
            difference = encoder_difference(stream.origin, origins[name])
        if difference is None and stream.dim != dim:
            difference = EncoderDifference("dim", stream.dim, dim)
        if difference is not None:
            what, actual, expected = difference
            raise CacheError(
                f"{called}{cache.folder}: stream {name} was made by another encoder "
                f"({what}: {actual!r}, not {expected!r}); extract it as the training cache"
            )


def measure(
    cache: ActivationCache,
    streams: Sequence[str],
    learners: Sequence[Measurer],
    *,
    batch_size: int,
    device: torch.device,
) -> list[StepSums]:
    """Measure models on every row that is valid in all streams, in the order of the cache.

    Models that were trained with `--rows any` are measured on those that are valid in any.

    Args:
        cache: A cache that `check` accepts.
        streams: The streams of the models.
        learners: The models; all are measured in one pass.
        batch_size: Largest batch.
        device: Where the models lie.

    Returns:
        The sums over all rows, one per learner.
    """
    sums: list[StepSums | None] = [None] * len(learners)
    for chunk in range(cache.info.chunks):
        features, present = _rows(cache, chunk, streams, learners[0].settings.rows, device)
        for start in range(0, len(next(iter(features.values()))), batch_size):
            some = slice(start, start + batch_size)
            batch = {name: rows[some] for name, rows in features.items()}
            has = None if present is None else present[some]
            for position, learner in enumerate(learners):
                of_batch, before = learner.measure(batch, present=has), sums[position]
                sums[position] = of_batch if before is None else before + of_batch
    return [of_learner for of_learner in sums if of_learner is not None]


def _rows(
    cache: ActivationCache,
    chunk: int,
    streams: Sequence[str],
    choice: RowChoice,
    device: torch.device,
) -> tuple[dict[str, Tensor], Tensor | None]:
    """The rows of a chunk to measure on, by stream; and which streams they have, None for all."""
    if choice == "all":
        aligned = cache.aligned(chunk, streams)
        return {name: x.to(device).float() for name, x in aligned.tensors().items()}, None
    valid = valid_flags(cache, chunk, streams)
    usable = are_usable(valid, choice)
    features = {
        name: torch.from_numpy(cache.features(name, chunk)[usable]).to(device).float()
        for name in streams
    }
    return features, torch.from_numpy(valid[usable]).to(device)
