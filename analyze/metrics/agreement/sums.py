"""Sums of agreement over latents, and how much each image moves them.

The table's averages, and their intervals, are made of these sums. With a and b the counts of
classes of a latent in two streams,

    J = N / (T - N)        N = sum over classes of min(a, b), T = sum over classes of a + b

An image that adds to a class changes J by dJ/dT + dJ/dN * slope, with the slope of
`sparc.analyze.maths.smoothed_minimum`: its influence. The variance of influences over images is the
first part of the variance of a sum of J; what the minima vary beyond that, and whether a latent
that is active on few images is active at all, are the second.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sparc.analyze.maths.matched_counts import match
from sparc.analyze.maths.mispairing import Pair, Pairing
from sparc.analyze.maths.smoothed_minimum import minimum
from sparc.analyze.metrics.agreement.influences import Sides
from sparc.analyze.metrics.agreement.rows import ActiveRows, SampledImages, noise
from sparc.analyze.rows.labels import Labels

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_CELLS = 1 << 18  # Latents times classes in a block, for each pair of streams.


class Restricted(NamedTuple):
    """Sums under each restriction of the rows; the names are those of the column `restriction`."""

    all_rows: "Sums"
    top_rows: "Sums"


class Sums(NamedTuple):
    """Sums over latents; depths are from the deepest, index 0 of pairs is the mean over them.

    Attributes:
        agreement: J, (depths, 1 + pairs).
        alive: How many latents are alive in both streams, or in any two, (1 + pairs,).
        rest: The variance of J that is not linear in what images add, (depths, 1 + pairs).
        absent: The variance of whether a latent is active on any image at all, times J to the
            power 0, 1 and 2, (3, depths, 1 + pairs).
        influences: How much each sampled image moves J, (depths, 1 + pairs, images).
    """

    agreement: Floats
    alive: Floats
    rest: Floats
    absent: Floats
    influences: Floats

    @classmethod
    def zeros(cls, depths: int, pairs: int, images: int) -> "Sums":
        """The sums over no latents."""
        shape = depths, 1 + pairs
        return cls(
            np.zeros(shape),
            np.zeros(1 + pairs),
            np.zeros(shape),
            np.zeros((3, *shape)),
            np.zeros((*shape, images)),
        )

    def plus(self, other: "Sums") -> "Sums":
        """The sums over the latents of both."""
        return Sums(*(a + b for a, b in zip(self, other, strict=True)))


class Counted(NamedTuple):
    """What sums are made of.

    Attributes:
        labels: The labels that were counted.
        all_rows: By stream, all rows.
        strongest: By stream, the strongest rows; not needed of latents that are neither cut nor
            compared with one that is, since their strongest rows are all their rows.
        cut: Which latents are active on more rows than a list of the strongest has, (latents,).
        images: By stream, on how many images each latent is active, at least, (latents,).
        sampled: The images whose influences are measured.
    """

    labels: Labels
    all_rows: Sequence[ActiveRows]
    strongest: Sequence[ActiveRows]
    cut: npt.NDArray[np.bool_]
    images: Sequence[Floats]
    sampled: SampledImages


def sums_by_restriction(
    counted: Counted, pool: ThreadPoolExecutor, pairing: Pairing, *, influences: bool
) -> Restricted:
    """The sums of a pairing on all rows and on the strongest rows.

    Args:
        counted: The rows.
        pool: Takes one block of latents per thread.
        pairing: Which latents are compared.
        influences: Whether to measure variances; if not, only figures are not 0.

    Returns:
        The sums; of a pair of streams without partners, NaN as `agreement`.
    """
    involved = pairing.involves(counted.cut)
    some = pairing.latents[involved]
    add_up = partial(_sums, counted, pairing.pairs, pool)
    if influences:
        noise_all = [noise(counted.all_rows, pair, pairing.latents) for pair in pairing.pairs]
        noise_top = [noise(counted.strongest, pair, some) for pair in pairing.pairs]
        common = add_up(
            counted.all_rows, pairing.latents[~involved], [of[~involved] for of in noise_all]
        )
        of_all = add_up(counted.all_rows, some, [of[involved] for of in noise_all])
        of_top = add_up(counted.strongest, some, noise_top)
    else:
        common = add_up(counted.all_rows, pairing.latents[~involved], None)
        of_all = add_up(counted.all_rows, some, None)
        of_top = add_up(counted.strongest, some, None)
    result = Restricted(common.plus(of_all), common.plus(of_top))
    for number, pair in enumerate(pairing.pairs, start=1):
        if not pair.known:  # Nor is the mean over pairs, which this one is part of.
            for sums in result:
                sums.agreement[:, [0, number]] = np.nan
    return result


def _sums(
    counted: Counted,
    pairs: Sequence[Pair],
    pool: ThreadPoolExecutor,
    streams: Sequence[ActiveRows],
    some: Integers,
    noises: Sequence[Floats] | None,
) -> Sums:
    """Sums over some latents of the first stream of each pair.

    Args:
        counted: The rows.
        pairs: Which latents are compared.
        pool: Takes one block of latents per thread.
        streams: The rows under a restriction.
        some: Which latents.
        noises: By pair, the noise of these latents; None where no variance is wanted.
    """
    depths = sorted(counted.labels.lifts, reverse=True)
    # Numbers as small as those of the counts' columns.
    lifts = [counted.labels.lifts[depth].astype(np.int32) for depth in depths]
    step = max(1, _CELLS // len(lifts[0]))

    def sums_of_block(start: int) -> Sums:
        block = slice(start, start + step)
        of_block = [of[block] for of in noises] if noises is not None else None
        return _sums_of_block(counted, streams, lifts, pairs, some[block], of_block)

    result = Sums.zeros(len(lifts), len(pairs), 0 if noises is None else counted.sampled.number)
    # In the order of the blocks, whichever is done first: rounding depends on the order.
    for sums in pool.map(sums_of_block, range(0, len(some), step)):
        result = result.plus(sums)
    return result


def _sums_of_block(
    counted: Counted,
    streams: Sequence[ActiveRows],
    lifts: Sequence[npt.NDArray[np.int32]],
    pairs: Sequence[Pair],
    latents: Integers,
    noises: Sequence[Floats] | None,
) -> Sums:
    sides = Sides(streams)
    compared = [
        (
            sides.add(pair.first, latents, pair=n),
            sides.add(pair.second, pair.partners[latents], pair=n),
        )
        for n, pair in enumerate(pairs, start=1)
    ]
    alive = np.array([(a.totals > 0) & (b.totals > 0) for a, b in compared])
    partners = alive.sum(axis=0)
    weight = 1 / np.maximum(partners, 1)  # of each pair in the mean over pairs
    sums = Sums.zeros(len(lifts), len(pairs), counted.sampled.number if noises else 0)
    sums.alive[:] = (partners > 0).sum(), *alive.sum(axis=1)
    if noises:
        sides.start_slopes(len(lifts), weight)
    agreement = np.zeros((len(lifts), len(latents)))
    spread = np.zeros(len(latents))  # of the mean over pairs, since the latent may be absent
    for number, (a, b) in enumerate(compared, start=1):
        both, total = alive[number - 1], a.totals + b.totals
        absent = _absent(counted, pairs[number - 1], latents, both)
        spread += weight * np.sqrt(absent)
        matched = match(a.counts, b.counts, positions=noises is not None)
        for depth, lift in enumerate(lifts):
            if depth > 0:  # At the deepest nothing is lifted.
                matched = matched.lifted(lift)
            counts = matched.a, matched.b
            difference = counts[1] - counts[0]
            distance = matched.sums(np.abs(difference))
            # A + B = min + max and |A - B| = max - min.
            value = np.where(both, (total - distance) / np.maximum(total + distance, 1), 0)
            agreement[depth] += value
            sums.agreement[depth, number] += value.sum()
            if noises:
                moves = _linearize(
                    _Cells(matched.begins, difference, counts[0] + counts[1]),
                    total,
                    distance,
                    both,
                    noises[number - 1],
                    counted.sampled.total,
                )
                sums.absent[:, depth, number] += _moments(absent, value)
                sums.rest[depth, number] += moves.rest.sum()
                sums.rest[depth, 0] += moves.rest @ weight**2
                a.set_slopes(depth, number, moves.first.take(matched.of_first))
                b.set_slopes(depth, number, moves.second.take(matched.of_second))
    sums.agreement[:, 0] += (agreement / np.maximum(partners, 1)).sum(axis=1)
    if noises:
        for depth, value in enumerate(agreement * weight):
            sums.absent[:, depth, 0] += _moments(spread**2, value)
        sides.add_influences(sums.influences, counted.labels, counted.sampled)
    return sums


def _absent(
    counted: Counted, pair: Pair, latents: Integers, alive: npt.NDArray[np.bool_]
) -> Floats:
    """The variance of whether latents are active on any image in both streams, (n,).

    With m images on average there are none with a chance of exp(-m).
    """
    first, second = counted.images[pair.first], counted.images[pair.second]
    none = np.exp(-np.minimum(first[latents], second[pair.partners[latents]]))
    return np.where(alive, none * (1 - none), 0)


def _moments(weights: Floats, values: Floats) -> Floats:
    """Weighted sums of values to the power 0, 1 and 2."""
    return np.array([weights.sum(), weights @ values, weights @ values**2])


class _Cells(NamedTuple):
    """Cells of two streams side by side.

    Attributes:
        begins: As in `MatchedCounts`.
        difference: b - a, (cells,).
        sum: a + b, (cells,).
    """

    begins: Integers
    difference: Integers
    sum: Integers


class _Moves(NamedTuple):
    """How J changes with the cells.

    Attributes:
        first: With the count of the first stream, (cells,) float32.
        second: With that of the second.
        rest: The variance of J that is not linear in the counts, (n,).
    """

    first: npt.NDArray[np.float32]
    second: npt.NDArray[np.float32]
    rest: Floats


def _linearize(
    cells: _Cells,
    total: Integers,
    distance: Integers,
    alive: npt.NDArray[np.bool_],
    noise: Floats,
    images: int,
) -> _Moves:
    """Linearize J; with D = T - N, dJ/dN = T / D^2 and dJ/dT = -N / D^2.

    Args:
        cells: The cells.
        total: T = N + D, (n,).
        distance: D - N, (n,).
        alive: Which latents are alive in both streams, (n,); of others nothing moves J.
        noise: As `rows.noise` gives it, (n,).
        images: How many images have a label.
    """
    united = np.maximum(total + distance, 1) / 2
    by_shared = np.where(alive, total / united**2, 0)
    by_total = np.where(alive, (distance - total) / 2 / united**2, 0)
    lengths = np.diff(cells.begins)

    def of_cells(values: Floats) -> npt.NDArray[np.float32]:
        return values.astype(np.float32).repeat(lengths)

    difference = cells.difference.astype(np.float32)
    variance = of_cells(noise)
    variance *= cells.sum.astype(np.float32)
    variance -= difference**2 / np.float32(images)
    smaller = minimum(difference, variance)
    first = of_cells(by_shared)
    first *= smaller.first
    every = of_cells(by_total)
    rest = np.zeros(len(noise))
    some = np.flatnonzero(lengths)
    if len(some):
        rest[some] = np.add.reduceat(smaller.rest, cells.begins[some], dtype=np.float64)
    second = every + of_cells(by_shared)
    second -= first
    first += every
    return _Moves(first, second, rest * by_shared**2)
