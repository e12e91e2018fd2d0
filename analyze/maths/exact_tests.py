"""Exact tests of 2 x 2 tables, the false discovery rate of many tests, and odds ratios.

Items may have a first and a second property; arguments are counts of items, and broadcast against
each other. This module must not know what is counted.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NORMAL_95 = 1.959963984540054
"""Half the width of a 95% interval in standard deviations."""

_NEGLIGIBLE = 1e-17


def upper_tail(both: Any, total: Any, first: Any, second: Any) -> Floats:
    """One-sided exact test (Fisher): P(X >= both), X hypergeometric with the table's margins.

    Args:
        both: Items with both properties.
        total: All items.
        first: Items with the first property.
        second: Items with the second.

    Returns:
        P-values, exact but for rounding (a relative error near 1e-10).
    """
    both, total, first, second = np.broadcast_arrays(
        *(np.asarray(x, dtype=np.int64) for x in (both, total, first, second))
    )
    mean = first * (second / np.maximum(total, 1))
    above = both > mean
    # Terms fall away from the mean, so each tail is summed on its falling side.
    beyond = _falling_tail(
        np.where(above, both, second - both + 1),
        total,
        np.where(above, first, total - first),
        second,
    )
    return np.where(above, beyond, np.clip(1 - beyond, 0, 1))


def fisher(both: Any, total: Any, first: Any, second: Any) -> Floats:
    """Two-sided exact test: twice the smaller tail, at most 1; arguments as for `upper_tail`.

    Unlike the sum over equally unlikely tables, doubling never gives less than the one-sided test
    (Yates, J. R. Stat. Soc. A 147, 1984).
    """
    both, total, first, second = (np.asarray(x, np.int64) for x in (both, total, first, second))
    more = upper_tail(both, total, first, second)
    fewer = upper_tail(first - both, total, first, total - second)
    return np.asarray(np.minimum(1, 2 * np.minimum(more, fewer)))


def benjamini_hochberg(p: Floats, tests: int | None = None) -> Floats:
    """P-values adjusted for the false discovery rate (J. R. Stat. Soc. B 57, 1995).

    Rejecting where the result is at most q bounds the expected share of false discoveries by q.

    Args:
        p: P-values, (n,).
        tests: Number of tests, if more than n; the others count as not significant.

    Returns:
        Adjusted p-values, (n,).
    """
    order = np.argsort(p, kind="stable")
    ranked = p[order] * (tests or len(p)) / np.arange(1, len(p) + 1)
    adjusted = np.minimum(1, np.minimum.accumulate(ranked[::-1])[::-1])
    result = np.empty_like(adjusted)
    result[order] = adjusted
    return result


class OddsRatio(NamedTuple):
    """Natural logarithms of odds ratios with 95% intervals, all of one shape."""

    log_odds: Floats
    low: Floats
    high: Floats

    @property
    def error(self) -> Floats:
        """Standard errors."""
        return (self.high - self.low) / (2 * NORMAL_95)


def odds_ratio(both: Any, total: Any, first: Any, second: Any) -> OddsRatio:
    """The odds ratio of the two properties; arguments as for `upper_tail`.

    1/2 is added to each of the four cells (Haldane, Ann. Hum. Genet. 20, 1956; Anscombe, Biometrika
    43, 1956), so that empty cells leave the ratio finite; the interval is that of Woolf (Ann. Hum.
    Genet. 19, 1955).
    """
    both, total, first, second = (np.asarray(x, np.float64) for x in (both, total, first, second))
    cells = [both, first - both, second - both, total - first - second + both]
    a, b, c, d = (cell + 0.5 for cell in cells)
    log_odds = np.log(a) + np.log(d) - np.log(b) - np.log(c)
    margin = NORMAL_95 * np.sqrt(1 / a + 1 / b + 1 / c + 1 / d)
    return OddsRatio(log_odds, log_odds - margin, log_odds + margin)


def _falling_tail(both: Counts, total: Counts, first: Counts, second: Counts) -> Floats:
    """`upper_tail` where `both` exceeds its mean."""
    shape = np.shape(both)
    both, total, first, second = (np.array(x).ravel() for x in (both, total, first, second))
    possible = (both <= np.minimum(first, second)) & (both >= 0)
    at = np.flatnonzero(possible)
    k, n, g, d = (x[at].astype(np.float64) for x in (both, total, first, second))
    log_first = _log_choose(g, k) + _log_choose(n - g, d - k) - _log_choose(n, d)
    sums, term = np.ones(len(at)), np.ones(len(at))
    running = np.arange(len(at))
    while len(running):
        term = term * (g - k) * (d - k) / ((k + 1) * (n - g - d + k + 1))
        sums[running] += term
        k = k + 1
        going = term > _NEGLIGIBLE * sums[running]
        running = running[going]
        term, k, n, g, d = (x[going] for x in (term, k, n, g, d))
    result = np.zeros(len(both))
    result[at] = np.minimum(1, np.exp(log_first) * sums)
    return result.reshape(shape)


def _log_choose(n: Floats, k: Floats) -> Floats:
    result: Floats = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return result
