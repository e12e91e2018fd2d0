"""Whether a latent stands for the same classes in every stream.

The definition is that of arXiv 2507.06265, section 4, in the form that `REPORT.md` gives. Beside it
stand the agreement of latents paired at random, and the excess over that.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.special import stdtrit

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.maths.intervals import Interval, nullable, with_interval
from sparc.analyze.maths.mispairing import DRAWS, mispaired, same_latents
from sparc.analyze.metrics.agreement.counts import ClassCounts
from sparc.analyze.metrics.agreement.rows import (
    SampledImages,
    all_rows,
    images_of_latents,
    sample_images,
    strongest_rows,
)
from sparc.analyze.metrics.agreement.sums import Counted, Restricted, Sums, sums_by_restriction
from sparc.analyze.rows.images import Images
from sparc.analyze.rows.labels import Labels
from sparc.analyze.rows.top_rows import TopRows

Floats = npt.NDArray[np.float64]

SCHEMA = pa.schema(
    [
        pa.field("mode", pa.string(), nullable=False),
        pa.field("control", pa.string(), nullable=False),
        pa.field("depth", pa.int32(), nullable=False),
        pa.field("first", pa.string()),
        pa.field("second", pa.string()),
        pa.field("restriction", pa.string(), nullable=False),
        pa.field("averaged_over", pa.string(), nullable=False),
        pa.field("latents", pa.int32(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("value_low", pa.float64()),
        pa.field("value_high", pa.float64()),
        pa.field("mispaired", pa.float64()),
        pa.field("mispaired_sd", pa.float64()),
        pa.field("excess", pa.float64()),
        pa.field("excess_low", pa.float64()),
        pa.field("excess_high", pa.float64()),
    ]
)


def table(
    counts: ClassCounts,
    lists: Sequence[TopRows],
    labels: Labels,
    code_set: CodeSet,
    *,
    top: int,
    images: Images,
    sample: CodeRows,
    seed: int,
) -> pa.Table:
    """Mean agreement by depth, pair, restriction and the latents averaged over, of `SCHEMA`.

    Args:
        counts: Counts over all rows.
        lists: By stream, the labelled rows on which each latent is strongest, with spare entries.
        labels: The labels that were counted.
        code_set: Which codes these are.
        top: Rows in a list of strongest rows.
        images: The images of the cache.
        sample: The codes of all rows of some images, by which intervals are measured.
        seed: Decides which latents are paired at random.
    """
    if len(counts.streams) < 2:
        return SCHEMA.empty_table()
    active = np.stack([np.asarray(matrix.sum(axis=0)).ravel() for matrix in counts.counts])
    pairings = [
        same_latents(*active.shape),
        *(mispaired(active, seed=seed, draw=draw) for draw in range(DRAWS)),
    ]
    # The strongest rows of a latent that is seldom active are all its rows.
    lengths = [np.bincount(stream.latents, minlength=counts.latents) for stream in lists]
    cut = np.max(lengths, axis=0) > top
    listed = np.any([pairing.with_partners(cut) for pairing in pairings], axis=0)
    sampled = sample_images(images, labels, sample.rows)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        every = list(
            pool.map(
                lambda stream, matrix: all_rows(matrix, stream, sample, labels, images),
                counts.streams,
                counts.counts,
            )
        )
        counted = Counted(
            labels,
            every,
            list(pool.map(lambda of: strongest_rows(of, top, listed, labels, images), lists)),
            cut,
            [images_of_latents(*of, images) for of in zip(every, lists, strict=True)],
            sampled,
        )
        known = sampled.number > 1
        paired, *by_chance = (
            sums_by_restriction(
                counted, pool, pairing, influences=known and number <= _DRAWS_FOR_INTERVALS
            )
            for number, pairing in enumerate(pairings)
        )
    lines = []
    for restriction, own, *draws in zip(Restricted._fields, paired, *by_chance, strict=True):
        for average in _averages(own, draws, counts, labels, sampled):
            which = {"mode": code_set.mode, "control": code_set.control}
            lines.append({**which, "restriction": restriction, **average})
    return pa.Table.from_pylist(lines, schema=SCHEMA)


_DRAWS_FOR_INTERVALS = 2
"""Number of random pairings of which the influences of images are measured. Fewer than `DRAWS` make
the variance of their mean larger, if anything."""


def _averages(
    own: Sums,
    draws: Sequence[Sums],
    counts: ClassCounts,
    labels: Labels,
    sampled: SampledImages,
) -> Iterator[dict[str, Any]]:
    """Every average of one restriction: the columns of `SCHEMA` from depth on.

    Args:
        own: Of each latent with itself.
        draws: Of latents paired at random.
        counts: Counts over all rows.
        labels: The labels that were counted.
        sampled: The images whose influences were measured.
    """
    names = [(None, None), *combinations(counts.streams, 2)]
    variances = _variances(own, draws[:_DRAWS_FOR_INTERVALS], sampled)
    for number, depth in enumerate(sorted(labels.lifts, reverse=True)):
        for pair, (first, second) in enumerate(names):
            at, alive = (number, pair), own.alive[pair]
            chance_alive = np.array([draw.alive[pair] for draw in draws])
            with np.errstate(divide="ignore", invalid="ignore"):
                agreement = own.agreement[at] / alive
                by_draw = np.array([draw.agreement[at] for draw in draws]) / chance_alive
                # If agreement is chance, it varies as a draw that pairs the same number of latents.
                errors = np.sqrt(chance_alive.mean() / alive + 1 / DRAWS)
            # Over all latents, those not alive in both streams count as 0 in either figure.
            for kind, share in (("all", alive / counts.latents), ("alive", 1.0)):
                value = agreement * share if share > 0 else 0.0
                by_draw_of = np.where(share > 0, by_draw * share, 0)
                expected, spread = sum(by_draw_of) / DRAWS, by_draw_of.std(ddof=1)
                latents = counts.latents if kind == "all" else int(alive)
                images = variances.over(at, value if kind == "alive" else 0.0, latents, share)
                margin = _quantile(sampled.number) * np.sqrt(images.value)
                interval = Interval(
                    np.minimum(value, np.maximum(value - margin, 0)), np.minimum(value + margin, 1)
                )
                yield {
                    "depth": depth,
                    "first": first,
                    "second": second,
                    "averaged_over": kind,
                    "latents": latents,
                    **with_interval("value", value, interval),
                    "mispaired": nullable(expected),
                    "mispaired_sd": nullable(spread),
                    **_excess(value, expected, spread * errors, images, sampled.number),
                }


class _Moments(NamedTuple):
    """Variances and the covariance over images of a mean of agreement and of its chance."""

    value: float
    chance: float
    both: float


class _Variances(NamedTuple):
    """Variances of the sums of `Sums.agreement`, and of the means over latents of draws.

    Attributes:
        own: Of the sums, without absent latents, (depths, 1 + pairs).
        absent: As in `Sums`.
        chance: Of the mean over draws of the mean over latents.
        both: The covariance of the sum and this mean.
    """

    own: Floats
    absent: Floats
    chance: Floats
    both: Floats

    def over(self, at: tuple[int, int], centre: float, latents: int, share: float) -> _Moments:
        """The moments of means over latents.

        Args:
            at: Which depth and pair.
            centre: By this a latent that is not active moves the mean less than by its own value.
            latents: How many the sum is divided by.
            share: What the means over alive latents of draws are multiplied by.
        """
        zero, one, two = self.absent[:, *at]
        number = max(latents, 1)
        absent = two - 2 * centre * one + centre**2 * zero
        return _Moments(
            (self.own[at] + absent) / number**2,
            share**2 * self.chance[at],
            share / number * self.both[at],
        )


def _variances(own: Sums, draws: Sequence[Sums], sampled: SampledImages) -> _Variances:
    weights = [1 / (np.maximum(draw.alive, 1) * len(draws)) for draw in draws]
    number, total = sampled.number, sampled.total
    if number < 2:
        unknown = np.full(own.agreement.shape, np.nan)
        return _Variances(unknown, own.absent, unknown, unknown)
    both = list(zip(draws, weights, strict=True))
    chance = np.sum([draw.influences * weight[:, None] for draw, weight in both], axis=0)
    rest = np.sum([draw.rest * weight**2 for draw, weight in both], axis=0)

    def covariance(x: Floats, y: Floats) -> Floats:
        products = (x * y).sum(axis=-1) - x.sum(axis=-1) * y.sum(axis=-1) / number
        return np.asarray(products * total / (number - 1))

    return _Variances(
        covariance(own.influences, own.influences) + own.rest,
        own.absent,
        # What pairs vary by independently is less the more of them there are.
        covariance(chance, chance) + rest * len(draws) / DRAWS,
        covariance(own.influences, chance),
    )


def _excess(
    figure: float, chance: float, error: float, images: _Moments, sampled: int
) -> dict[str, float | None]:
    """The excess (figure - chance) / (1 - chance) with its interval; null where chance is 1.

    The interval covers other images and other pairings. The latents are given, and a few pairs
    drawn at random may agree more than others would, however many rows there are: an interval over
    images alone would, on many rows, miss 0 where a latent of one stream says nothing about that
    of the other.

    Args:
        figure: The mean of agreement.
        chance: The mean over draws.
        error: The standard error of their difference over pairings.
        images: How both vary over images.
        sampled: How many images these were measured on.
    """
    room = 1 - chance if chance < 1 else np.nan
    excess = (figure - chance) / room
    by_figure, by_chance = 1 / room, (figure - 1) / room**2
    variance = by_figure**2 * images.value + by_chance**2 * images.chance
    variance += 2 * by_figure * by_chance * images.both
    margin = np.hypot(
        _quantile(sampled) * np.sqrt(np.maximum(variance, 0)),
        stdtrit(DRAWS - 1, 0.975) * error / room,
    )
    interval = Interval(excess - margin, np.minimum(excess + margin, 1))
    return with_interval("excess", excess, interval)


@cache
def _quantile(images: int) -> float:
    """Half an interval in standard errors that are measured on some images."""
    return float(stdtrit(images - 1, 0.975)) if images > 1 else np.nan
