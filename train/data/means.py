"""Each stream's feature mean and variance, estimated on a sample.

Means initialize the pre-biases; variances are what `--error variance` divides by.
"""

import itertools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import CacheError, setting
from sparc.train.config import ModelConfig, RowChoice
from sparc.train.data.sampling import complete_chunks
from sparc.train.model.network import scale

SAMPLED_CHUNKS = 32
"""Chunks from which means are taken: more rows than a mean needs, few enough to read at once."""

_ROWS_SUMMED = 512
"""Rows that are converted to double precision, twice their size, at once."""

SMALLEST_VARIANCE = 1e-9
"""A stream whose variance is a smaller share of its mean square has nothing to be learnt."""


class _Sums(NamedTuple):
    """Over rows: the sum of features, (dim,) float64, and the sum of their squared norms."""

    features: Tensor
    squares: float
    rows: int


class Statistics(NamedTuple):
    """Of every stream's normalized features."""

    means: dict[str, Tensor]
    """By stream, (dim,) float32: where pre-biases start."""
    variances: tuple[float, ...]
    """E|x - E x|^2 of the streams, in the model's order: what `--error variance` divides by."""


def data_statistics(
    cache: ActivationCache, config: ModelConfig, *, seed: int, rows: RowChoice = "all"
) -> Statistics:
    """The mean and the variance of every stream's normalized features.

    Chunks are sampled from the whole cache: its first rows may all be of one kind.

    Args:
        cache: A complete cache with a row that is valid in all streams of the model, or with `any`
            one for each stream.
        config: The model, which says what normalized means.
        seed: Seed of the sample.
        rows: Whether a stream's figures are over the rows that are valid in all streams, or over
            all rows that have it.

    Raises:
        CacheError: A stream is constant, or its values are so large or small that a norm cannot be
            computed.
    """
    total: dict[str, _Sums] = {}
    for names in [config.names] if rows == "all" else [(name,) for name in config.names]:
        total |= _sample(cache, config, names, seed)
    means, variances = {}, []
    for name in config.names:
        sums = total[name]
        mean = sums.features / sums.rows
        variance = sums.squares / sums.rows - float(mean.square().sum())
        if sums.rows > 1 and variance <= SMALLEST_VARIANCE * sums.squares / sums.rows:
            raise CacheError(
                f"{cache.folder}: stream {name} is constant over {sums.rows:,} sampled rows, so "
                "there is nothing to learn from it; leave it out by naming the others with "
                f"{setting('--stream', 'streams=')}"
            )
        means[name] = mean.float()
        variances.append(variance)
    return Statistics(means, tuple(variances))


def _sample(
    cache: ActivationCache, config: ModelConfig, names: tuple[str, ...], seed: int
) -> dict[str, _Sums]:
    """Sums by stream over the rows of sampled chunks that are valid in all of some streams."""
    total: dict[str, _Sums] = {}
    for aligned in itertools.islice(complete_chunks(cache, names, seed), SAMPLED_CHUNKS):
        for name, stored in aligned.tensors().items():
            features = scale(stored.float(), config)
            if config.normalize == "unit":
                require_unit(cache, name, features, aligned.rows)
            sums, before = _sums(features), total.get(name)
            if before is not None:
                sums = _Sums(
                    before.features + sums.features,
                    before.squares + sums.squares,
                    before.rows + sums.rows,
                )
            total[name] = sums
    return total


def require_unit(
    cache: ActivationCache, stream: str, features: Tensor, rows: npt.NDArray[np.int64]
) -> None:
    """Refuse features whose squares are beyond float32: normalizing makes them zero or NaN."""
    bad = ~(torch.linalg.vector_norm(features, dim=1).sub(1).abs() < 0.01)
    if bool(bad.any()):
        row = rows[int(bad.nonzero()[0])]
        raise CacheError(
            f"{cache.folder}: stream {stream}, row {row}: the squares of these values are beyond "
            "float32, so the feature has no norm; scale the stream's features"
        )


def _sums(features: Tensor) -> _Sums:
    sums, squares = features.new_zeros(features.shape[1], dtype=torch.float64), 0.0
    for some in torch.split(features, _ROWS_SUMMED):
        exact = some.double()
        sums += exact.sum(0)
        squares += float(exact.square().sum())
    return _Sums(sums, squares, len(features))
