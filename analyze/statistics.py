"""Tests that hold at any sample size, what many of them at once demand, and intervals.

This module must not know what is counted.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, stdtrit

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_NEGLIGIBLE = 1e-17


def upper_tail(found: Any, total: Any, good: Any, drawn: Any) -> Floats:
    """The chance of finding so many, or more, by accident: P(X >= found), X hypergeometric.

    Args:
        found: Good things among those drawn. Arguments broadcast against each other.
        total: All things.
        good: Good things among them.
        drawn: Things drawn, without putting back.

    Returns:
        Probabilities, exact but for rounding (a relative error near 1e-10).
    """
    found, total, good, drawn = np.broadcast_arrays(
        *(np.asarray(x, dtype=np.int64) for x in (found, total, good, drawn))
    )
    mean = good * (drawn / np.maximum(total, 1))
    above = found > mean
    # Terms fall from the mean outwards, so each tail is summed on its falling side.
    beyond = _falling_tail(
        np.where(above, found, drawn - found + 1),
        total,
        np.where(above, good, total - good),
        drawn,
    )
    return np.where(above, beyond, np.clip(1 - beyond, 0, 1))


def fisher(both: Any, total: Any, first: Any, second: Any) -> Floats:
    """Two-sided exact test of a 2 x 2 table: twice the smaller tail, at most 1.

    Doubling never gives less than the smaller tail of a directed test, unlike the sum over tables
    that are as unlikely, and it is the same whichever of the two is called the first.

    Args:
        both: Things with both properties. Arguments broadcast against each other.
        total: All things.
        first: Things with the first property.
        second: Things with the second.
    """
    both, total, first, second = (np.asarray(x, np.int64) for x in (both, total, first, second))
    more = upper_tail(both, total, first, second)
    fewer = upper_tail(first - both, total, first, total - second)
    return np.asarray(np.minimum(1, 2 * np.minimum(more, fewer)))


def adjust(p: Floats, tests: int | None = None) -> Floats:
    """Benjamini and Hochberg's adjusted p-values (J. R. Stat. Soc. B 57, 1995).

    Taking all those of at most q as real makes a share of at most q of them false, on average.

    Args:
        p: P-values, (n,).
        tests: How many tests there were, if the others were not even worth a p-value; n by default.

    Returns:
        (n,), in the order of `p`.
    """
    order = np.argsort(p, kind="stable")
    ranked = p[order] * (tests or len(p)) / np.arange(1, len(p) + 1)
    adjusted = np.minimum(1, np.minimum.accumulate(ranked[::-1])[::-1])
    result = np.empty_like(adjusted)
    result[order] = adjusted
    return result


class OddsRatio(NamedTuple):
    """Natural logarithms of odds ratios with 95% intervals; all of the same shape."""

    log_odds: Floats
    low: Floats
    high: Floats

    @property
    def error(self) -> Floats:
        """Standard errors."""
        return (self.high - self.low) / (2 * NORMAL_95)


NORMAL_95 = 1.959963984540054
"""Half the width of a 95% interval in standard deviations."""


def odds_ratio(both: Any, total: Any, first: Any, second: Any) -> OddsRatio:
    """How much the odds of one property are multiplied by the other; arguments as for `fisher`.

    Half a thing is added to each of the four cells (Haldane and Anscombe), so that an empty one
    leaves the ratio finite; the interval is Woolf's.
    """
    both, total, first, second = (np.asarray(x, np.float64) for x in (both, total, first, second))
    cells = [both, first - both, second - both, total - first - second + both]
    a, b, c, d = (cell + 0.5 for cell in cells)
    log_odds = np.log(a) + np.log(d) - np.log(b) - np.log(c)
    margin = NORMAL_95 * np.sqrt(1 / a + 1 / b + 1 / c + 1 / d)
    return OddsRatio(log_odds, log_odds - margin, log_odds + margin)


class Interval(NamedTuple):
    """95% intervals of some figures; NaN where there is none."""

    low: Floats
    high: Floats


def jackknife(
    figures: Any, share: float, *, least: float = -np.inf, most: float = np.inf
) -> Interval:
    """Intervals of figures from what they are where groups of pictures are left out.

    With G groups, each a share f of all pictures, and T_g the figure without group g,

        variance = (1 - f)^2 / (f (G - 1)) * sum over g of (T_g - mean of T_g)^2

    which is (G - 1) / G times the sum where the groups hold all pictures: the delete-a-group
    jackknife (Kott, J. Official Statistics 17, 2001; Shao and Wu, Ann. Statist. 17, 1989). The
    interval is Student's, with G - 1 degrees of freedom. On average the variance is never too
    small, whatever the figure (Efron and Stein, Ann. Statist. 9, 1981); unlike a bootstrap, no
    picture is counted twice, which would shift figures that depend on how many rows there are.

    Args:
        figures: (1 + G, ...): on all pictures, and without each of the groups. NaN where undefined.
        share: f.
        least: What no such figure can be below.
        most: What none can be above.

    Returns:
        Of shape (...); NaN where a figure is undefined, or there are fewer than two groups.
    """
    whole, without = np.asarray(figures[0], np.float64), np.asarray(figures[1:], np.float64)
    groups = len(without)
    if groups < 2:
        nothing = np.full(whole.shape, np.nan)
        return Interval(nothing, nothing)
    squares = ((without - without.mean(axis=0)) ** 2).sum(axis=0)
    error = np.sqrt((1 - share) ** 2 / (share * (groups - 1)) * squares)
    margin = stdtrit(groups - 1, 0.975) * error
    # An interval need not hold what cannot be, but always the figure itself.
    low = np.minimum(whole, np.maximum(whole - margin, least))
    high = np.maximum(whole, np.minimum(whole + margin, most))
    return Interval(low, high)


def wilson(mean: Any, trials: Any) -> Interval:
    """Intervals of means of numbers between 0 and 1 (Wilson, J. Am. Stat. Assoc. 22, 1927).

    They hold the mean and have a width even where all numbers are 0, or all are 1.

    Args:
        mean: The mean, or several. Arguments broadcast against each other.
        trials: How many independent throws of a coin would have a mean as uncertain as this one.
    """
    mean, square = np.asarray(mean, np.float64), NORMAL_95**2
    middle = (mean + square / (2 * trials)) / (1 + square / trials)
    margin = np.sqrt(mean * (1 - mean) / trials + square / (4 * trials**2)) * NORMAL_95
    margin /= 1 + square / trials
    # Rounding may neither leave the mean outside nor go beyond 0 and 1.
    low = np.minimum(mean, np.maximum(middle - margin, 0))
    return Interval(low, np.maximum(mean, np.minimum(middle + margin, 1)))


def mean_of_known(values: Floats) -> Floats:
    """Means along the last axis of what is not NaN; NaN where there is nothing else."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        result: Floats = np.where(known, values, 0).sum(axis=-1) / known.sum(axis=-1)
    return result


def with_interval(
    name: str, figure: Any, interval: Interval, at: Any = ()
) -> dict[str, float | None]:
    """A figure and its interval as tables hold them, in columns `name`, `name_low`, `name_high`.

    Args:
        name: The figure's column.
        figure: The figure.
        interval: Its interval, or those of several figures.
        at: Which of them is meant, as an index.
    """
    ends = interval.low[at], interval.high[at]
    return dict(
        zip((name, f"{name}_low", f"{name}_high"), map(nullable, (figure, *ends)), strict=True)
    )


def nullable(figure: Any) -> float | None:
    """A figure as tables hold it: None where it is not defined."""
    return None if np.isnan(figure) else float(figure)


def _falling_tail(found: Counts, total: Counts, good: Counts, drawn: Counts) -> Floats:
    """`upper_tail` where `found` exceeds the mean."""
    shape = np.shape(found)
    found, total, good, drawn = (np.array(x).ravel() for x in (found, total, good, drawn))
    possible = (found <= np.minimum(good, drawn)) & (found >= 0)
    at = np.flatnonzero(possible)
    k, n, g, d = (x[at].astype(np.float64) for x in (found, total, good, drawn))
    first = _log_choose(g, k) + _log_choose(n - g, d - k) - _log_choose(n, d)
    sums, term = np.ones(len(at)), np.ones(len(at))
    running = np.arange(len(at))
    while len(running):
        term = term * (g - k) * (d - k) / ((k + 1) * (n - g - d + k + 1))
        sums[running] += term
        k = k + 1
        going = term > _NEGLIGIBLE * sums[running]
        running = running[going]
        term, k, n, g, d = (x[going] for x in (term, k, n, g, d))
    result = np.zeros(len(found))
    result[at] = np.minimum(1, np.exp(first) * sums)
    return result.reshape(shape)


def _log_choose(n: Floats, k: Floats) -> Floats:
    result: Floats = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return result
