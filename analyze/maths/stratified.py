"""Exact tests and common odds ratios of 2 x 2 tables that are stratified.

Two properties that both become more frequent with some third quantity, such as how many captions
an image has, go together in the pooled table without having anything to do with each other. Within
strata of that quantity they do not. Everything here conditions on the margins of every stratum:

- `upper_tail` and `fisher` are the conditional tests of a common odds ratio of 1 (Mehta, Patel and
  Gray, J. Am. Stat. Assoc. 80, 1985): the sum of the strata's cells is a sum of independent
  hypergeometric variables.
- `larger_odds` is the conditional test that two sets of strata have one common odds ratio (Zelen,
  Biometrika 58, 1971), against a larger one in the first set.
- `odds_ratio` is the estimate of Mantel and Haenszel (J. Natl. Cancer Inst. 22, 1959) with the
  variance of Robins, Breslow and Greenland (Biometrics 42, 1986).

With one stratum all of them are those of `sparc.analyze.maths.statistics`. A stratum in which one
of the properties does not vary says nothing, and changes nothing. This module must not know what is
counted.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from sparc.analyze.maths import statistics
from sparc.analyze.maths.statistics import NORMAL_95, OddsRatio

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_BLOCK = 1 << 22
"""Probabilities that are held at a time, 32 MiB."""

_STEEPEST = 60.0
"""The steepest tilt: a sum that is as large as it can be would need an infinite one."""


def upper_tail(found: Any, total: Any, first: Any, second: Any) -> Floats:
    """P(X >= found), X the things with both properties in all strata, given the strata's margins.

    Args:
        found: Things with both properties in all strata together, (tests,).
        total: All things of each stratum. This and the following broadcast to (tests, strata).
        first: Those with the first property.
        second: Those with the second.

    Returns:
        (tests,), exact but for rounding (a relative error near 1e-8).
    """
    found, tables = _checked(found, total, first, second)
    return _tails(found, tables).upper


def fisher(found: Any, total: Any, first: Any, second: Any) -> Floats:
    """Two-sided exact test: twice the smaller tail, at most 1; arguments as for `upper_tail`."""
    found, tables = _checked(found, total, first, second)
    tails = _tails(found, tables)
    return np.asarray(np.minimum(1, 2 * np.minimum(tails.upper, tails.lower)))


def larger_odds(
    found: tuple[Any, Any], total: tuple[Any, Any], first: tuple[Any, Any], second: tuple[Any, Any]
) -> Floats:
    """Exact one-sided test that two sets of strata have the same odds ratio.

    Within a set the strata are taken to have one odds ratio. Given all margins and the sum of both
    sets' cells, how the sum divides between the sets does not depend on that ratio.

    Args:
        found: As for `upper_tail`, of the first set and of the second, as all arguments.
        total: All things.
        first: Those with the first property.
        second: Those with the second.

    Returns:
        (tests,): the chance of as many, or more, of the sum in the first set.
    """
    counts, sides = zip(
        *(_checked(*side) for side in zip(found, total, first, second, strict=True)), strict=True
    )
    both = counts[0] + counts[1]
    together = _Tables(*(np.concatenate(x, axis=1) for x in zip(*sides, strict=True)))
    result = np.ones(len(both))
    for at in _blocks(together):
        # How the sum divides, with each set's distribution centred where it was found: terms
        # fall from there, since the odds ratio of the first set is larger there.
        one, other = (
            _tilted(side.take(at), count[at]) for side, count in zip(sides, counts, strict=True)
        )
        whole = _tilted(together.take(at), both[at])
        steeper = one.tilt - other.tilt
        falling = steeper > 0  # Elsewhere the first set has no more than the second.
        steps = np.arange(max(one.mass.shape[1], other.mass.shape[1]))
        terms = one.at(counts[0][at][:, None] + steps) * other.at(counts[1][at][:, None] - steps)
        tail = (terms * np.exp(-np.maximum(steeper, 0)[:, None] * steps)).sum(axis=1)
        scale = (
            one.log_weight
            + other.log_weight
            - whole.log_weight
            - one.tilt * counts[0][at]
            - other.tilt * counts[1][at]
            + whole.tilt * both[at]
        )
        share = tail * np.exp(scale) / whole.at(both[at][:, None])[:, 0]
        result[at] = np.where(falling, np.minimum(share, 1), 1)
    return result


def odds_ratio(both: Any, total: Any, first: Any, second: Any) -> OddsRatio:
    """The odds ratio that all strata have in common, with its 95% interval.

    Half a thing is added to each of the four cells (Haldane and Anscombe), divided between the
    strata that say something in proportion to their sizes.

    Args:
        both: Things with both properties. Arguments broadcast to (..., strata).
        total: All things.
        first: Those with the first property.
        second: Those with the second.

    Returns:
        Of shape (...).
    """
    both, total, first, second = np.broadcast_arrays(
        *(np.asarray(x, np.float64) for x in (both, total, first, second))
    )
    varies = (first > 0) & (first < total) & (second > 0) & (second < total)
    size = np.where(varies | ~varies.any(axis=-1, keepdims=True), total, 0)
    half = size / (2 * size.sum(axis=-1, keepdims=True))
    cells = [both, first - both, second - both, total - first - second + both]
    a, b, c, d = (cell + half for cell in cells)
    things = np.maximum(a + b + c + d, 1e-300)
    concordant, discordant = a * d / things, b * c / things
    p, q = (a + d) / things, (b + c) / things
    r, s = concordant.sum(axis=-1), discordant.sum(axis=-1)
    log_odds = np.log(r) - np.log(s)
    variance = (
        (p * concordant).sum(axis=-1) / (2 * r**2)
        + (p * discordant + q * concordant).sum(axis=-1) / (2 * r * s)
        + (q * discordant).sum(axis=-1) / (2 * s**2)
    )
    margin = NORMAL_95 * np.sqrt(variance)
    return OddsRatio(log_odds, log_odds - margin, log_odds + margin)


# ---------------------------------------------------------------------- distributions


class _Tables(NamedTuple):
    """Margins, each (tests, strata)."""

    total: Counts
    first: Counts
    second: Counts

    @property
    def least(self) -> Counts:
        return np.asarray(np.maximum(0, self.first + self.second - self.total))

    @property
    def most(self) -> Counts:
        return np.minimum(self.first, self.second)

    def take(self, tests: Any) -> "_Tables":
        return _Tables(*(margin[tests] for margin in self))

    def without_second(self) -> "_Tables":
        """Those of having the first property and lacking the second."""
        return self._replace(second=self.total - self.second)


class _Tails(NamedTuple):
    """P(X >= found) and P(X <= found), each (tests,)."""

    upper: Floats
    lower: Floats


class _Tilted(NamedTuple):
    """Distributions of sums, with the weight exp(tilt * x) so that they centre where it matters.

    Attributes:
        mass: (tests, n), what the sums first, first + 1, ... have; they add up to 1.
        first: (tests,).
        tilt: (tests,).
        log_weight: Logarithm of the mean of exp(tilt * x) without the tilt, (tests,).
    """

    mass: Floats
    first: Counts
    tilt: Floats
    log_weight: Floats

    def at(self, sums: Counts) -> Floats:
        """What some sums have, (tests, n)."""
        places = sums - self.first[:, None]
        inside = (places >= 0) & (places < self.mass.shape[1])
        found = np.take_along_axis(self.mass, np.where(inside, places, 0), axis=1)
        return np.where(inside, found, 0.0)


def _checked(found: Any, total: Any, first: Any, second: Any) -> tuple[Counts, _Tables]:
    found = np.asarray(found, np.int64)
    margins = np.broadcast_arrays(*(np.asarray(x, np.int64) for x in (total, first, second)))
    shape = (len(found), margins[0].shape[-1])
    return found, _Tables(*(np.broadcast_to(margin, shape) for margin in margins))


def _tails(found: Counts, tables: _Tables) -> _Tails:
    upper, lower = np.ones(len(found)), np.ones(len(found))
    varies = tables.least < tables.most
    single = varies.sum(axis=1) <= 1
    at = np.flatnonzero(single)
    if len(at):
        # One stratum decides: the others have what they must.
        which = varies[at].argmax(axis=1)
        lines = np.arange(len(at))
        some = tables.take(at)
        fixed = some.least.sum(axis=1) - some.least[lines, which]
        count = found[at] - fixed
        total, first, second = (margin[lines, which] for margin in some)
        upper[at] = statistics.upper_tail(count, total, first, second)
        lower[at] = statistics.upper_tail(first - count, total, first, total - second)
    mean = (tables.first * (tables.second / np.maximum(tables.total, 1))).sum(axis=1)
    above = found > mean
    for side, some, count, into in (
        (above, tables, found, (upper, lower)),
        (~above, tables.without_second(), tables.first.sum(axis=1) - found, (lower, upper)),
    ):
        at = np.flatnonzero(side & ~single)
        beyond, point = _falling_tail(count[at], some.take(at))
        into[0][at] = beyond
        into[1][at] = np.clip(1 - beyond + point, 0, 1)
    return _Tails(upper, lower)


def _falling_tail(found: Counts, tables: _Tables) -> tuple[Floats, Floats]:
    """P(X >= found) and P(X = found) where `found` is the mean at least."""
    beyond, point = np.zeros(len(found)), np.zeros(len(found))
    possible = np.flatnonzero(found <= tables.most.sum(axis=1))
    for block in _blocks(tables.take(possible)):
        at = possible[block]
        tilted = _tilted(tables.take(at), found[at])
        steps = np.arange(tilted.mass.shape[1])
        mass = tilted.at(found[at][:, None] + steps)
        scale = np.exp(tilted.log_weight - tilted.tilt * found[at])
        # Above the mean the tilt is positive, so that undoing it lets the terms fall.
        tail = (mass * np.exp(-np.maximum(tilted.tilt, 0)[:, None] * steps)).sum(axis=1)
        beyond[at] = np.minimum(tail * scale, 1)
        point[at] = np.minimum(mass[:, 0] * scale, 1)
    return beyond, point


def _blocks(tables: _Tables) -> Iterator[npt.NDArray[np.int64]]:
    """Tests of like size, as many as fit into memory at a time."""
    if not len(tables.total):
        return
    # At the middle a distribution is as wide as it can be.
    spread = np.sqrt(np.minimum(tables.most, tables.total / 16 + 1))
    size = np.minimum(tables.most - tables.least, 18 * spread + 40).sum(axis=1)
    power = np.ceil(np.log2(size + 2)).astype(np.int64)
    for each in np.unique(power):
        tests = np.flatnonzero(power == each)
        step = max(1, _BLOCK >> int(each))
        for start in range(0, len(tests), step):
            yield tests[start : start + step]


def _tilted(tables: _Tables, centre: Counts) -> _Tilted:
    """The distribution of the sum over the strata, tilted so that its mean is near `centre`."""
    total, first, second = (margin.astype(np.float64) for margin in tables)
    tilt = _tilt(total, first, second, centre)
    mean = _tilted_mean(total, first, second, tilt[:, None])
    cells = np.stack([mean, first - mean, second - mean, total - first - second + mean])
    deviation = np.sqrt(1 / (1 / np.maximum(cells, 1e-9)).sum(axis=0))
    # What is left out on either side is less than rounding.
    width = np.ceil(9 * deviation + 20)
    low = np.maximum(tables.least, np.floor(mean - width)).astype(np.int64)
    high = np.minimum(tables.most, np.ceil(mean + width)).astype(np.int64)
    length = int((high - low).sum(axis=1).max()) + 1
    padded = 1 << (length - 1).bit_length()
    log_weight = np.zeros(len(centre))
    transform: Any = 1.0
    for s in range(low.shape[1]):
        x = low[:, s, None] + np.arange(int((high[:, s] - low[:, s]).max()) + 1)
        inside = x <= high[:, s, None]
        n, k, d = (margin[:, s, None] for margin in tables)
        x = np.where(inside, x, low[:, s, None])
        terms = (
            _log_choose(k, x) + _log_choose(n - k, d - x) - _log_choose(n, d) + tilt[:, None] * x
        )
        terms[~inside] = -np.inf
        largest = terms.max(axis=1, keepdims=True)
        mass = np.exp(terms - largest)
        whole = mass.sum(axis=1, keepdims=True)
        log_weight += largest[:, 0] + np.log(whole[:, 0])
        transform = transform * np.fft.rfft(mass / whole, n=padded, axis=1)
    mass = np.maximum(np.fft.irfft(transform, n=padded, axis=1)[:, :length], 0)
    return _Tilted(mass, low.sum(axis=1), tilt, log_weight)


def _tilt(total: Floats, first: Floats, second: Floats, centre: Counts) -> Floats:
    """The log odds ratio with which the sum is expected to be `centre`, by bisection, (tests,)."""
    low, high = np.full(len(centre), -_STEEPEST), np.full(len(centre), _STEEPEST)
    for _ in range(40):
        middle = (low + high) / 2
        below = _tilted_mean(total, first, second, middle[:, None]).sum(axis=1) < centre
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray((low + high) / 2)


def _tilted_mean(total: Floats, first: Floats, second: Floats, tilt: Floats) -> Floats:
    """The cell that gives a table of these margins an odds ratio of exp(tilt)."""
    positive = tilt >= 0
    odds = np.exp(np.abs(tilt))
    first = np.where(positive, first, total - first)
    b = (first + second) * (odds - 1) + total
    root = np.sqrt(np.maximum(b**2 - 4 * odds * (odds - 1) * first * second, 0))
    cell = 2 * odds * first * second / np.maximum(b + root, 1e-300)
    return np.asarray(np.where(positive, cell, second - cell))


def _log_choose(n: Counts, k: Counts) -> Floats:
    result: Floats = gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)
    return result
