"""Tests that hold at any sample size, what many of them at once demand, and intervals.

This module must not know what is counted.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, gammaln, stdtrit

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
    figures: Any,
    share: float,
    *,
    narrowing: Any = 1,
    least: float = -np.inf,
    most: float = np.inf,
) -> Interval:
    """Intervals of figures from what they are where folds of images are left out.

    With G folds, each a share f of all images, and T_g the figure without fold g,

        variance = (1 - f)^2 / (f (G - 1)) * sum over g of (T_g - mean of T_g)^2

    which is (G - 1) / G times the sum where the folds hold all images: the delete-a-group
    jackknife (Kott, J. Official Statistics 17, 2001; Shao and Wu, Ann. Statist. 17, 1989). The
    interval is Student's, with G - 1 degrees of freedom. On average the variance is never too
    small, whatever the figure (Efron and Stein, Ann. Statist. 9, 1981); unlike a bootstrap, no
    image is counted twice, which would shift figures that depend on how many rows there are.

    Args:
        figures: (1 + G, ...): on all images, and without each of the folds. NaN where undefined.
        share: f.
        narrowing: What the standard error is multiplied by: `half_samples.narrowing`.
        least: What no such figure can be below.
        most: What none can be above.

    Returns:
        Of shape (...); NaN where a figure is undefined, or there are fewer than two folds.
    """
    whole, folds = np.asarray(figures[0], np.float64), len(figures) - 1
    error = narrowing * np.sqrt(jackknife_variance(figures[1:], share))
    if folds < 2:
        return Interval(error, error)
    margin = stdtrit(folds - 1, 0.975) * error
    # An interval need not hold what cannot be, but always the figure itself.
    low = np.minimum(whole, np.maximum(whole - margin, least))
    high = np.maximum(whole, np.minimum(whole + margin, most))
    return Interval(low, high)


def jackknife_variance(without: Any, share: float) -> Floats:
    """The variance in `jackknife`; NaN where there is none.

    Args:
        without: Figures without each of the folds, (G, ...).
        share: The share of all images that one fold has.
    """
    without = np.asarray(without, np.float64)
    folds = len(without)
    if folds < 2:
        return np.full(without.shape[1:], np.nan)
    squares = ((without - without.mean(axis=0)) ** 2).sum(axis=0)
    return np.asarray((1 - share) ** 2 / (share * (folds - 1)) * squares)


def share_interval(mean: Any, trials: Any) -> Interval:
    """Mid-P 95% intervals of means of numbers between 0 and 1.

    The ends are the shares p at which the chance of a more extreme count, plus half the chance of
    this count, is 2.5% (Lancaster, J. Am. Stat. Assoc. 56, 1961; Berry and Armitage, The
    Statistician 44, 1995). They contain the mean and have a width even where all numbers are 0, or
    all are 1, and no true share close to 0 or 1 is missed much more often than 5%, unlike with
    Wilson's interval. Counts need not be whole, so that they can stand for an effective number of
    trials (Korn and Graubard, Survey Methodology 24, 1998).

    Args:
        mean: The mean, or several. Arguments broadcast against each other.
        trials: How many independent throws of a coin would have a mean as uncertain as this one,
            above 0.

    Returns:
        NaN where the mean or the trials are NaN.
    """
    mean, trials = np.broadcast_arrays(np.asarray(mean, np.float64), np.asarray(trials, np.float64))
    # The upper end of a share is the lower end of what is missing to 1, turned round.
    low, high = _mid_p_low(mean, trials), 1 - _mid_p_low(1 - mean, trials)
    return Interval(np.minimum(low, mean), np.maximum(high, mean))


def _mid_p_low(mean: Floats, trials: Floats) -> Floats:
    """The lower ends of `share_interval`, by bisection: 50 halvings leave 1e-15."""
    found, missing = mean * trials, (1 - mean) * trials
    low, high = np.zeros(mean.shape), np.ones(mean.shape)
    some = found > 0
    for _ in range(50):
        middle = (low + high) / 2
        as_many = betainc(np.where(some, found, 1), missing + 1, middle)
        more = np.where(missing > 0, betainc(found + 1, np.maximum(missing, 1e-300), middle), 0)
        above = (as_many + more) / 2 > _TAIL
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    result: Floats = np.where(np.isnan(mean) | np.isnan(trials), np.nan, np.where(some, low, 0))
    return result


_TAIL = 0.025


def mean_share(values: Any, images: Any) -> tuple[float, Interval]:
    """The mean of numbers between 0 and 1 and its 95% interval, over images rather than rows.

    The rows of one image succeed and fail together. With n images, and d_i the sum over the rows of
    image i of what they differ from the mean, the variance is linearized:

        variance = n / (n - 1) * sum of d_i^2 / rows^2

    The interval is that of `share_interval`, with as many trials as would give a share that
    variance, fewer where few images tell it (Korn and Graubard), or one image much of it:
    `degrees_of_freedom`. Where nothing varies, an image is a trial.

    Args:
        values: One number for each row, (rows,), between 0 and 1.
        images: The image of each row, (rows,) integers.

    Returns:
        The mean, and an interval of NaN where there are fewer than two images.
    """
    values = np.asarray(values, np.float64)
    of_image = np.unique(images, return_inverse=True)[1]
    number, rows = int(of_image.max(initial=-1)) + 1, len(values)
    mean = float(values.mean()) if rows else np.nan
    if number < 2:
        return mean, Interval(np.array(np.nan), np.array(np.nan))
    off = np.bincount(of_image, weights=values - mean)
    variance = number / (number - 1) * float(off @ off) / rows**2
    trials = float(number)
    if variance > _STEADY:
        # Where every image has one row, 0 or 1, this is the number of images.
        trials *= mean * (1 - mean) / (variance * (number - 1))
        few_images = stdtrit(rows - 1, 0.975) / stdtrit(number - 1, 0.975)
        few_decide = stdtrit(degrees_of_freedom(values), 0.975) / stdtrit(
            degrees_of_freedom(off), 0.975
        )
        trials *= float(min(few_images, few_decide)) ** 2
    return mean, share_interval(mean, trials)


def jackknife_share(
    figures: Any, share: float, trials: float, *, degrees: float | None = None
) -> Interval:
    """`jackknife` for means of numbers between 0 and 1, which may lie at 0 or at 1.

    The interval is that of `share_interval`, with as many trials as would give a share the variance
    of the jackknife.

    Args:
        figures: As for `jackknife`, (1 + G, ...).
        share: The share of the images that a fold has.
        trials: How many there are where nothing varies: the images, or fewer.
        degrees: Degrees of freedom of the variance; G - 1 by default, which is true if many things
            of like weight add up.
    """
    whole = np.clip(np.asarray(figures[0], np.float64), 0, 1)
    variance = jackknife_variance(figures[1:], share)
    folds = len(figures) - 1
    if folds < 2:
        return Interval(variance, variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        effective = whole * (1 - whole) / variance
        effective *= (NORMAL_95 / stdtrit(folds - 1 if degrees is None else degrees, 0.975)) ** 2
    steady = (variance <= _STEADY) | (effective <= 0)
    return share_interval(whole, np.where(steady, trials, effective))


def degrees_of_freedom(terms: Any) -> float:
    """How many degrees of freedom a variance has that is estimated from some terms.

    With K the kurtosis of n terms, 2 n / (K - 1), at most n - 1, after Satterthwaite (Biometrics
    Bulletin 2, 1946): the variance of the estimate is about (K - 1) / n of its square, and that of
    a chi-squared distribution 2 / degrees. There are few where few terms decide.

    Args:
        terms: (n,): of a jackknife, the figure without each fold.
    """
    terms = np.asarray(terms, np.float64)
    if len(terms) < 2:
        return 1.0
    squares = (terms - terms.mean()) ** 2
    if squares.sum() <= _STEADY:
        return len(terms) - 1.0
    kurtosis = len(terms) * (squares**2).sum() / squares.sum() ** 2
    return float(min(len(terms) - 1, 2 * len(terms) / max(kurtosis - 1, _STEADY)))


_STEADY = 1e-30
"""What varies by no more than this does not vary but by rounding."""


def unseen_share(images: int) -> float:
    """The largest share of images that something not found on any of them may have (95%).

    With a share p it is missed on n images with the chance (1 - p)^n, which is 5% at
    p = 1 - 0.05^(1/n), near 3 / n: an exact one-sided bound.

    Args:
        images: n.
    """
    if images == 0:
        return 1.0
    return float(-np.expm1(np.log(0.05) / images))


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
