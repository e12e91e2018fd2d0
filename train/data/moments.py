"""Means and covariances of all streams' normalized features, from sampled chunks of a cache."""

import dataclasses
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import CacheError
from sparc.common.progress import progress, say
from sparc.common.text import amount
from sparc.train.config import ModelConfig
from sparc.train.data.means import SMALLEST_VARIANCE, require_unit
from sparc.train.data.sampling import shuffled_chunks
from sparc.train.model.network import scale

_ROWS_SUMMED = 1024
"""Rows that are converted to double precision at once."""


FEWEST_ROWS = 0.5
"""Rows for each value of the widest stream. With three streams of 384 values, a half takes a tenth
off the error of cross-reconstruction of what 12 rows for each value take, 1 a quarter, 2 three
quarters; self-reconstruction suffers from few rows."""

FEW_ROWS = 2
"""Likewise, below which a note says so."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moments:
    """Means and covariances; of a pair of streams over the rows that both have."""

    names: tuple[str, ...]
    """The streams, in the model's order."""
    means: Mapping[str, Tensor]
    """By stream, (dim,) float64, over the rows that the stream has."""
    covariances: Tensor
    """Of all streams side by side, (D, D) float64."""
    counts: Tensor
    """Rows that each pair of streams has, (streams, streams) int64."""

    @property
    def rows(self) -> int:
        """Rows that every pair of streams has, at least."""
        return int(self.counts.min())

    def covariance(self, first: str, second: str) -> Tensor:
        """C_st = E[(x_s - mu_s) (x_t - mu_t)^T], (dim of the first, dim of the second)."""
        rows = self.split(self.covariances.T)[self.names.index(first)].T
        return self.split(rows)[self.names.index(second)]

    def split(self, columns: Tensor) -> tuple[Tensor, ...]:
        """(…, D) divided into the streams' columns."""
        return torch.split(columns, [len(self.means[s]) for s in self.names], dim=-1)

    def to(self, device: torch.device) -> "Moments":
        """The same on another device."""
        return dataclasses.replace(
            self,
            means={name: mean.to(device) for name, mean in self.means.items()},
            covariances=self.covariances.to(device),
        )


def data_moments(
    cache: ActivationCache, config: ModelConfig, *, rows: int, seed: int, device: torch.device
) -> Moments:
    """Take the moments of normalized features, from chunks sampled from the whole cache.

    Whole chunks are added until every pair of streams has that many rows, or the cache ends.
    Memory does not depend on the number of rows.

    Args:
        cache: A cache that has the model's streams, complete.
        config: The model, which says what normalized means.
        rows: Rows wanted for every pair of streams.
        seed: Seed of the sample.
        device: Where to compute; sums are in double precision.

    Raises:
        CacheError: A pair of streams has no row in common, a stream is constant, or its values are
            so large or small that no length can be computed.
    """
    sums = _Sums(config, device)
    total = min(rows, cache.info.rows)
    with progress(total, "covariances") as bar:
        for chunk in shuffled_chunks(cache, seed):
            before = sums.least
            if before >= rows:
                break
            sums.add(*_chunk(cache, config, chunk))
            bar.update(min(sums.least, total) - min(before, total))
    return sums.moments(cache)


def fewest_rows(config: ModelConfig) -> int:
    """Rows below which a regression on the covariances only repeats these rows."""
    return math.ceil(FEWEST_ROWS * max(stream.dim for stream in config.streams))


def require_rows(cache: ActivationCache, config: ModelConfig, moments: Moments) -> None:
    """Refuse covariances of fewer than `fewest_rows`.

    Raises:
        CacheError: The widest stream has more than two values for each row.
    """
    widest = max(config.streams, key=lambda stream: stream.dim)
    shared = f"{amount(moments.rows, 'row')} that every pair of streams has"
    if moments.rows < fewest_rows(config):
        raise CacheError(
            f"{cache.folder}: {shared} are too few for the covariance of {widest.name}, which is "
            f"{widest.dim:,} wide: at least {fewest_rows(config):,} are needed"
        )
    if moments.rows < widest.dim * FEW_ROWS:
        say(f"note: {shared} are few for {widest.name}, which is {widest.dim:,} wide")


def _chunk(
    cache: ActivationCache, config: ModelConfig, chunk: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Normalized features of a chunk's rows, zero where a row has none; and which rows have one."""
    features, valid = {}, {}
    for stream in config.streams:
        flags = cache.valid(stream.name, chunk)
        normalized = torch.zeros(len(flags), stream.dim)
        if flags.any():
            stored = torch.from_numpy(cache.features(stream.name, chunk)[flags])
            unit = scale(stored.float(), config)
            if config.normalize == "unit":
                numbers = cache.info.chunk_rows(chunk).start + flags.nonzero()[0]
                require_unit(cache, stream.name, unit, numbers)
            normalized[torch.from_numpy(flags)] = unit
        features[stream.name] = normalized
        valid[stream.name] = torch.from_numpy(flags)
    return features, valid


class _Sums:
    """Sums over rows of x, x x^T and 1, for every pair of streams over the rows that both have.

    A missing feature is a row of zeros, so one product of all streams' features side by side gives
    the sums of every pair. Features are taken from a first guess of their mean, which makes the
    covariance of a stream with a large mean exact.
    """

    def __init__(self, config: ModelConfig, device: torch.device) -> None:
        self._dims = {stream.name: stream.dim for stream in config.streams}
        width, streams = sum(self._dims.values()), len(self._dims)
        self._guess: dict[str, Tensor] = {}
        self._products = torch.zeros(width, width, dtype=torch.float64, device=device)
        self._features = torch.zeros(streams, width, dtype=torch.float64, device=device)
        self._rows = torch.zeros(streams, streams, dtype=torch.float64, device=device)

    @property
    def least(self) -> int:
        """Rows that every pair of streams has, at least."""
        return int(self._rows.min())

    def add(self, features: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> None:
        """Add the rows of a chunk."""
        for name, x in features.items():
            if name not in self._guess and valid[name].any():
                self._guess[name] = x[valid[name]].double().mean(0)
        flags = torch.stack([valid[name].double() for name in self._dims], dim=1)
        device = self._products.device
        for first in range(0, len(flags), _ROWS_SUMMED):
            some = slice(first, first + _ROWS_SUMMED)
            parts = []
            for position, (name, x) in enumerate(features.items()):
                guess = self._guess.get(name)
                part = x[some].double()
                if guess is not None:
                    part -= flags[some, position, None] * guess
                parts.append(part)
            rows, here = torch.cat(parts, dim=1).to(device), flags[some].to(device)
            self._products.addmm_(rows.T, rows)
            self._features.addmm_(here.T, rows)
            self._rows.addmm_(here.T, here)

    def moments(self, cache: ActivationCache) -> Moments:
        """What follows from the sums; frees them."""
        names = list(self._dims)
        counts = self._rows.round().long().cpu()
        empty = (counts == 0).nonzero().tolist()
        if empty:
            s, t = (names[position] for position in empty[0])
            which = f"stream {s} has no row" if s == t else f"streams {s} and {t} share no row"
            raise CacheError(f"{cache.folder}: {which}, so there is no covariance to take")
        # Means of all features over the rows that a stream has, a row a stream.
        widths = torch.tensor(list(self._dims.values()), device=self._rows.device)
        of_pair = self._features / self._rows.repeat_interleave(widths, dim=1)
        by_row = of_pair.repeat_interleave(widths, dim=0)
        covariances = self._products
        covariances /= self._rows.repeat_interleave(widths, 0).repeat_interleave(widths, 1)
        covariances -= by_row * by_row.T
        means, start = {}, 0
        for position, (name, dim) in enumerate(self._dims.items()):
            own = slice(start, start + dim)
            start += dim
            means[name] = of_pair[position, own] + self._guess[name].to(of_pair.device)
            variance = float(covariances[own, own].trace())
            square = variance + float(means[name].square().sum())
            rows = int(counts[position, position])
            if rows > 1 and variance <= SMALLEST_VARIANCE * square:
                raise CacheError(
                    f"{cache.folder}: stream {name} is constant over {rows:,} sampled rows, so it "
                    "has no covariance with the others"
                )
        return Moments(names=tuple(names), means=means, covariances=covariances, counts=counts)
