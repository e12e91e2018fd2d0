"""95% intervals: the jackknife over folds of images, and intervals of shares.

This module must not know what is measured.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, stdtrit

from sparc.analyze.maths.exact_tests import NORMAL_95

Floats = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """The ends of 95% intervals of some figures; NaN where there is none."""

    low: Floats
    high: Floats


def jackknife(
    figures: Any,
    share: float,
    *,
    least: float = -np.inf,
    most: float = np.inf,
) -> Interval:
    """Intervals of figures, from their values without each fold of images.

    With G folds, each a share f of all images, and T_g the figure without fold g,

        variance = (1 - f)^2 / (f (G - 1)) * sum over g of (T_g - mean of T_g)^2

    which is (G - 1) / G times the sum where the folds hold all images: the delete-a-group
    jackknife (Kott, J. Official Statistics 17, 2001; Shao and Wu, Ann. Statist. 17, 1989). The
    interval is Student's, with G - 1 degrees of freedom. On average the variance is never too
    small, whatever the figure (Efron and Stein, Ann. Statist. 9, 1981). Unlike in a bootstrap, no
    image is counted twice, which would bias figures that depend on the number of rows.

    Args:
        figures: (1 + G, ...): on all images, then without each fold. NaN where undefined.
        share: f.
        least: Lower bound of such figures.
        most: Upper bound of such figures.

    Returns:
        (...); NaN where a figure is undefined, or there are fewer than two folds.
    """
    whole, folds = np.asarray(figures[0], np.float64), len(figures) - 1
    error = np.sqrt(jackknife_variance(figures[1:], share))
    if folds < 2:
        return Interval(error, error)
    margin = stdtrit(folds - 1, 0.975) * error
    # Clipped to possible values, but never so far that it misses the figure itself.
    low = np.minimum(whole, np.maximum(whole - margin, least))
    high = np.maximum(whole, np.minimum(whole + margin, most))
    return Interval(low, high)


def jackknife_variance(without: Any, share: float) -> Floats:
    """The variance in `jackknife`, (...); NaN with fewer than two folds.

    Args:
        without: Figures without each fold, (G, ...).
        share: The share of all images in one fold.
    """
    without = np.asarray(without, np.float64)
    folds = len(without)
    if folds < 2:
        return np.full(without.shape[1:], np.nan)
    squares = ((without - without.mean(axis=0)) ** 2).sum(axis=0)
    return np.asarray((1 - share) ** 2 / (share * (folds - 1)) * squares)


def share_interval(mean: Any, trials: Any) -> Interval:
    """Mid-P 95% intervals of means of values between 0 and 1.

    The ends are the shares p at which the chance of a more extreme count, plus half the chance of
    this count, is 2.5% (Lancaster, J. Am. Stat. Assoc. 56, 1961; Berry and Armitage, The
    Statistician 44, 1995). They contain the mean, have a width even where all values are 0 or all
    are 1, and, unlike Wilson's interval, keep their coverage close to 0 and 1. Counts need not be
    whole: `trials` may be an effective sample size (Korn and Graubard, Survey Methodology 24,
    1998).

    Args:
        mean: The mean, or several. Arguments broadcast against each other.
        trials: The number of independent Bernoulli trials whose mean has the same variance, above
            0.

    Returns:
        NaN where the mean or the trials are NaN.
    """
    mean, trials = np.broadcast_arrays(np.asarray(mean, np.float64), np.asarray(trials, np.float64))
    # The upper end for p is one minus the lower end for 1 - p.
    low, high = _mid_p_low(mean, trials), 1 - _mid_p_low(1 - mean, trials)
    return Interval(np.minimum(low, mean), np.maximum(high, mean))


def _mid_p_low(mean: Floats, trials: Floats) -> Floats:
    """The lower ends of `share_interval`, by bisection: 50 halvings leave 1e-15."""
    successes, failures = mean * trials, (1 - mean) * trials
    low, high = np.zeros(mean.shape), np.ones(mean.shape)
    some = successes > 0
    for _ in range(50):
        middle = (low + high) / 2
        at_least = betainc(np.where(some, successes, 1), failures + 1, middle)
        more = betainc(successes + 1, np.maximum(failures, 1e-300), middle)
        above = (at_least + np.where(failures > 0, more, 0)) / 2 > _TAIL
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    result: Floats = np.where(np.isnan(mean) | np.isnan(trials), np.nan, np.where(some, low, 0))
    return result


_TAIL = 0.025


def mean_share(values: Any, images: Any) -> tuple[float, Interval]:
    """The mean of values between 0 and 1 over rows, with an interval over images.

    The rows of one image are not independent. With n images, and d_i the sum over the rows of image
    i of their deviations from the mean, the linearized variance of a cluster sample is

        variance = n / (n - 1) * sum of d_i^2 / rows^2

    The interval is that of `share_interval`, with the number of trials that gives a share this
    variance, and fewer where it rests on few images (Korn and Graubard) or mostly on a few of them
    (`degrees_of_freedom`). Where nothing varies, every image is a trial.

    Args:
        values: A value for each row, (rows,), between 0 and 1.
        images: The image of each row, (rows,) integers.

    Returns:
        The mean, and its interval, NaN with fewer than two images.
    """
    values = np.asarray(values, np.float64)
    of_image = np.unique(images, return_inverse=True)[1]
    number, rows = int(of_image.max(initial=-1)) + 1, len(values)
    mean = float(values.mean()) if rows else np.nan
    if number < 2:
        return mean, Interval(np.array(np.nan), np.array(np.nan))
    deviations = np.bincount(of_image, weights=values - mean)
    variance = number / (number - 1) * float(deviations @ deviations) / rows**2
    trials = float(number)
    if variance > _STEADY:
        # If every image has one row, 0 or 1, the result is the number of images.
        trials *= mean * (1 - mean) / (variance * (number - 1))
        few_images = stdtrit(rows - 1, 0.975) / stdtrit(number - 1, 0.975)
        few_decide = stdtrit(degrees_of_freedom(values), 0.975) / stdtrit(
            degrees_of_freedom(deviations), 0.975
        )
        trials *= float(min(few_images, few_decide)) ** 2
    return mean, share_interval(mean, trials)


def jackknife_share(
    figures: Any, share: float, trials: Any, *, degrees: float | None = None
) -> Interval:
    """`jackknife` for means of values between 0 and 1, which may be 0 or 1 themselves.

    The interval is that of `share_interval`, with the number of trials that gives a share the
    variance of the jackknife.

    Args:
        figures: As for `jackknife`, (1 + G, ...).
        share: The share of the images in one fold.
        trials: The number of trials where nothing varies, one or (...): the images, or fewer.
        degrees: Degrees of freedom of the variance; G - 1 by default, which holds for sums of many
            terms of similar weight.
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
    """The effective degrees of freedom of a variance that is estimated from n terms.

    With K the kurtosis of the terms, 2 n / (K - 1), at most n - 1, after Satterthwaite (Biometrics
    Bulletin 2, 1946): the relative variance of the estimate is about (K - 1) / n, that of a scaled
    chi-squared variable 2 / degrees. They are few where few terms dominate.

    Args:
        terms: (n,); in a jackknife, the figure without each fold.
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
"""Variances up to this are rounding errors."""


def unseen_share(images: int) -> float:
    """The exact 95% upper bound on the frequency of something that no image of n has.

    An event of frequency p is absent from n images with probability (1 - p)^n, which is 5% at
    p = 1 - 0.05^(1/n), near 3 / n: the rule of three (Hanley and Lippman-Hand, JAMA 249, 1983).

    Args:
        images: n.
    """
    if images == 0:
        return 1.0
    return float(-np.expm1(np.log(0.05) / images))


def mean_of_known(values: Floats) -> Floats:
    """Means along the last axis, ignoring NaN; NaN where all are."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        result: Floats = np.where(known, values, 0).sum(axis=-1) / known.sum(axis=-1)
    return result


def with_interval(
    name: str, figure: Any, interval: Interval, at: Any = ()
) -> dict[str, float | None]:
    """A figure and its interval as the columns `name`, `name_low` and `name_high` of a table.

    Args:
        name: The figure's column.
        figure: The figure.
        interval: Its interval, or those of several figures.
        at: The index of the figure's own among them.
    """
    ends = interval.low[at], interval.high[at]
    return dict(
        zip((name, f"{name}_low", f"{name}_high"), map(nullable, (figure, *ends)), strict=True)
    )


def nullable(figure: Any) -> float | None:
    """A figure as tables hold it: None for NaN."""
    return None if np.isnan(figure) else float(figure)
