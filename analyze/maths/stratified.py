"""Exact tests and common odds ratios of stratified 2 x 2 tables.

Two properties that both become more frequent with a third quantity, such as the number of captions
of an image, are associated in the pooled table even if they are independent within strata of that
quantity. Everything here conditions on the margins of every stratum:

- `upper_tail` and `fisher` are the conditional tests of a common odds ratio of 1 (Mehta, Patel and
  Gray, J. Am. Stat. Assoc. 80, 1985): the sum of the strata's cells is a sum of independent
  hypergeometric variables.
- `larger_odds` is the conditional test that two sets of strata have one common odds ratio (Zelen,
  Biometrika 58, 1971), against a larger one in the first set.
- `odds_ratio` is the estimate of Mantel and Haenszel (J. Natl. Cancer Inst. 22, 1959) with the
  variance of Robins, Breslow and Greenland (Biometrics 42, 1986).

With one stratum all of them are those of `sparc.analyze.maths.exact_tests`. Strata in which a
property does not vary are uninformative, and change nothing. This module must not know what is
counted.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from sparc.analyze.maths import exact_tests
from sparc.analyze.maths.exact_tests import NORMAL_95, OddsRatio

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_BLOCK = 1 << 22
"""Probabilities held at a time, 32 MiB."""

_STEEPEST = 60.0
"""The largest tilt: the largest possible sum would need an infinite one."""


def upper_tail(both: Any, total: Any, first: Any, second: Any) -> Floats:
    """One-sided exact test: P(X >= both), X the sum over strata, given the strata's margins.

    Args:
        both: Items with both properties, in all strata together, (tests,).
        total: All items of each stratum. This and the following broadcast to (tests, strata).
        first: Items with the first property.
        second: Items with the second.

    Returns:
        P-values, (tests,), exact but for rounding (a relative error near 1e-8).
    """
    both, tables = _checked(both, total, first, second)
    return _tails(both, tables).upper


def fisher(both: Any, total: Any, first: Any, second: Any) -> Floats:
    """Two-sided exact test: twice the smaller tail, at most 1; arguments as for `upper_tail`."""
    both, tables = _checked(both, total, first, second)
    tails = _tails(both, tables)
    return np.asarray(np.minimum(1, 2 * np.minimum(tails.upper, tails.lower)))


def larger_odds(
    both: tuple[Any, Any], total: tuple[Any, Any], first: tuple[Any, Any], second: tuple[Any, Any]
) -> Floats:
    """Exact one-sided test of one common odds ratio in two sets of strata (Zelen).

    Within a set, strata are assumed to have a common odds ratio. Given all margins and the sum of
    both sets' cells, the division of the sum between the sets does not depend on that ratio.

    Args:
        both: As for `upper_tail`, of the first set and of the second, like all arguments.
        total: All items.
        first: Items with the first property.
        second: Items with the second.

    Returns:
        P-values against a larger odds ratio in the first set, (tests,).
    """
    counts, sides = zip(
        *(_checked(*side) for side in zip(both, total, first, second, strict=True)), strict=True
    )
    sums = counts[0] + counts[1]
    together = _Tables(*(np.concatenate(x, axis=1) for x in zip(*sides, strict=True)))
    result = np.ones(len(sums))
    for at in _blocks(together):
        # The division of the sum, with each set's distribution centred on the observed count: from
        # there terms fall, if the first set has the larger odds ratio.
        one, other = (
            _tilted(side.take(at), count[at]) for side, count in zip(sides, counts, strict=True)
        )
        whole = _tilted(together.take(at), sums[at])
        steeper = one.tilt - other.tilt
        falling = steeper > 0  # Otherwise the first set has no larger odds ratio: p is 1.
        steps = np.arange(max(one.mass.shape[1], other.mass.shape[1]))
        terms = one.at(counts[0][at][:, None] + steps) * other.at(counts[1][at][:, None] - steps)
        tail = (terms * np.exp(-np.maximum(steeper, 0)[:, None] * steps)).sum(axis=1)
        scale = (
            one.log_weight
            + other.log_weight
            - whole.log_weight
            - one.tilt * counts[0][at]
            - other.tilt * counts[1][at]
            + whole.tilt * sums[at]
        )
        share = tail * np.exp(scale) / whole.at(sums[at][:, None])[:, 0]
        result[at] = np.where(falling, np.minimum(share, 1), 1)
    return result


def odds_ratio(both: Any, total: Any, first: Any, second: Any) -> OddsRatio:
    """The common odds ratio of all strata (Mantel and Haenszel), with its 95% interval.

    1/2 is added to each of the four cells, divided among informative strata in proportion to their
    sizes; see `exact_tests.odds_ratio`.

    Args:
        both: Items with both properties. Arguments broadcast to (..., strata).
        total: All items.
        first: Items with the first property.
        second: Items with the second.

    Returns:
        Odds ratios of shape (...).
    """
    both, total, first, second = np.broadcast_arrays(
        *(np.asarray(x, np.float64) for x in (both, total, first, second))
    )
    varies = (first > 0) & (first < total) & (second > 0) & (second < total)
    size = np.where(varies | ~varies.any(axis=-1, keepdims=True), total, 0)
    half = size / (2 * size.sum(axis=-1, keepdims=True))
    cells = [both, first - both, second - both, total - first - second + both]
    a, b, c, d = (cell + half for cell in cells)
    n = np.maximum(a + b + c + d, 1e-300)
    concordant, discordant = a * d / n, b * c / n
    p, q = (a + d) / n, (b + c) / n
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
        """The tables of the first property and the lack of the second."""
        return self._replace(second=self.total - self.second)


class _Tails(NamedTuple):
    """P(X >= both) and P(X <= both), each (tests,)."""

    upper: Floats
    lower: Floats


class _Tilted(NamedTuple):
    """Exponentially tilted distributions of sums: weighted by exp(tilt * x), to centre them.

    Attributes:
        mass: Probabilities of the sums first, first + 1, ..., (tests, n).
        first: The smallest sum, (tests,).
        tilt: (tests,).
        log_weight: The untilted log-mean of exp(tilt * x), (tests,).
    """

    mass: Floats
    first: Counts
    tilt: Floats
    log_weight: Floats

    def at(self, sums: Counts) -> Floats:
        """The probabilities of some sums, (tests, n)."""
        places = sums - self.first[:, None]
        inside = (places >= 0) & (places < self.mass.shape[1])
        mass = np.take_along_axis(self.mass, np.where(inside, places, 0), axis=1)
        return np.where(inside, mass, 0.0)


def _checked(both: Any, total: Any, first: Any, second: Any) -> tuple[Counts, _Tables]:
    both = np.asarray(both, np.int64)
    margins = np.broadcast_arrays(*(np.asarray(x, np.int64) for x in (total, first, second)))
    shape = (len(both), margins[0].shape[-1])
    return both, _Tables(*(np.broadcast_to(margin, shape) for margin in margins))


def _tails(both: Counts, tables: _Tables) -> _Tails:
    upper, lower = np.ones(len(both)), np.ones(len(both))
    varies = tables.least < tables.most
    single = varies.sum(axis=1) <= 1
    at = np.flatnonzero(single)
    if len(at):
        # Only one stratum varies.
        which = varies[at].argmax(axis=1)
        lines = np.arange(len(at))
        some = tables.take(at)
        fixed = some.least.sum(axis=1) - some.least[lines, which]
        count = both[at] - fixed
        total, first, second = (margin[lines, which] for margin in some)
        upper[at] = exact_tests.upper_tail(count, total, first, second)
        lower[at] = exact_tests.upper_tail(first - count, total, first, total - second)
    mean = (tables.first * (tables.second / np.maximum(tables.total, 1))).sum(axis=1)
    above = both > mean
    for side, some, count, into in (
        (above, tables, both, (upper, lower)),
        (~above, tables.without_second(), tables.first.sum(axis=1) - both, (lower, upper)),
    ):
        at = np.flatnonzero(side & ~single)
        beyond, point = _falling_tail(count[at], some.take(at))
        into[0][at] = beyond
        into[1][at] = np.clip(1 - beyond + point, 0, 1)
    return _Tails(upper, lower)


def _falling_tail(both: Counts, tables: _Tables) -> tuple[Floats, Floats]:
    """P(X >= both) and P(X = both) where `both` is at least the mean."""
    beyond, point = np.zeros(len(both)), np.zeros(len(both))
    possible = np.flatnonzero(both <= tables.most.sum(axis=1))
    for block in _blocks(tables.take(possible)):
        at = possible[block]
        tilted = _tilted(tables.take(at), both[at])
        steps = np.arange(tilted.mass.shape[1])
        mass = tilted.at(both[at][:, None] + steps)
        scale = np.exp(tilted.log_weight - tilted.tilt * both[at])
        # Above the mean the tilt is positive, so undoing it makes the terms fall.
        tail = (mass * np.exp(-np.maximum(tilted.tilt, 0)[:, None] * steps)).sum(axis=1)
        beyond[at] = np.minimum(tail * scale, 1)
        point[at] = np.minimum(mass[:, 0] * scale, 1)
    return beyond, point


def _blocks(tables: _Tables) -> Iterator[npt.NDArray[np.int64]]:
    """Blocks of tests whose distributions have similar lengths and fit into memory."""
    if not len(tables.total):
        return
    # A bound on the width of any tilted distribution: it is widest in the middle.
    spread = np.sqrt(np.minimum(tables.most, tables.total / 16 + 1))
    size = np.minimum(tables.most - tables.least, 18 * spread + 40).sum(axis=1)
    power = np.ceil(np.log2(size + 2)).astype(np.int64)
    for exponent in np.unique(power):
        tests = np.flatnonzero(power == exponent)
        step = max(1, _BLOCK >> int(exponent))
        for start in range(0, len(tests), step):
            yield tests[start : start + step]


def _tilted(tables: _Tables, centre: Counts) -> _Tilted:
    """The distribution of the sum over the strata, tilted so that its mean is near `centre`."""
    total, first, second = (margin.astype(np.float64) for margin in tables)
    tilt = _tilt(total, first, second, centre)
    mean = _tilted_mean(total, first, second, tilt[:, None])
    cells = np.stack([mean, first - mean, second - mean, total - first - second + mean])
    deviation = np.sqrt(1 / (1 / np.maximum(cells, 1e-9)).sum(axis=0))
    # The mass beyond this width is below rounding.
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
    """The log odds ratio at which the expected sum is `centre`, by bisection, (tests,)."""
    low, high = np.full(len(centre), -_STEEPEST), np.full(len(centre), _STEEPEST)
    for _ in range(40):
        middle = (low + high) / 2
        below = _tilted_mean(total, first, second, middle[:, None]).sum(axis=1) < centre
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray((low + high) / 2)


def _tilted_mean(total: Floats, first: Floats, second: Floats, tilt: Floats) -> Floats:
    """The cell at which tables of these margins have the odds ratio exp(tilt)."""
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
