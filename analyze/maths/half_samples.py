"""By how much the jackknife overestimates a standard error, from balanced half-samples.

The jackknife counts the joint effect of two images on a figure twice, of three images three times
(Efron and Stein, Ann. Statist. 9, 1981). That matters little for a sum, and much for a mean over
latents that are active on a few images each. Disjoint halves show the true variance at half the
size, and quarters how it changes with the size. This module must not know what is measured.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import hadamard

from sparc.analyze.maths.intervals import jackknife_variance

Floats = npt.NDArray[np.float64]

FOLDS = 16
"""Folds of images that samples are made of."""

HALVES = 15
"""Pairs of halves: the first `2 * HALVES` samples, each followed by its complement."""

QUARTERS = 5
"""Partitions into four quarters: the samples after the halves."""


def design() -> npt.NDArray[np.float32]:
    """Which folds each sample has, (50, 16), 0 or 1.

    The halves are the contrasts of a Hadamard matrix (balanced half-samples: McCarthy, Rev. Int.
    Stat. Inst. 37, 1969). Three contrasts, each the product of the other two, make a partition into
    quarters; five such partitions use every contrast once. So the variance of a sum is exactly the
    same from halves, from quarters and from the jackknife of the folds.
    """
    signs = hadamard(FOLDS)
    halves = [(sign * signs[line] > 0) for line in range(1, FOLDS) for sign in (1, -1)]
    quarters = [
        (signs[first] == a) & (signs[second] == b)
        for first, second in _PARTITIONS
        for a in (1, -1)
        for b in (1, -1)
    ]
    return np.array([*halves, *quarters], dtype=np.float32)


# Two contrasts of each partition; the third is their exclusive or. The triples are the lines of a
# spread of the vector space of four bits.
_PARTITIONS = ((1, 6), (2, 12), (4, 11), (8, 5), (3, 9))


def narrowing(samples: Any, without: Any, share: float) -> Floats:
    """The factor, at most 1, that corrects the jackknife's standard error.

    With w_h = v_h h / n, where v_h is the variance of the figure on halves of h of the n images,
    and w_q the same of quarters, w_h / w_q is the change when the size doubles, and

        w = w_h (w_h / w_q)^s        s = log2(n / h)

    extrapolates to n images. Estimated from few samples, w is noisy; its geometric mean with the
    jackknife's variance, which is too large, is less noisy than w and less biased than the latter.

    Args:
        samples: The figure on each sample of `design`, (50, ...).
        without: The figure without each of its 16 folds, (16, ...).
        share: The share of the images in one fold.

    Returns:
        (...); 1 where a figure is undefined on some sample.
    """
    samples = np.asarray(samples, np.float64)
    halves = samples[: 2 * HALVES].reshape(HALVES, 2, *samples.shape[1:])
    quarters = samples[2 * HALVES :].reshape(QUARTERS, 4, *samples.shape[1:])
    half, quarter = share * FOLDS / 2, share * FOLDS / 4
    # Scaled like the variance of a sum, to that on all images.
    w_half = halves.var(axis=1, ddof=1).mean(axis=0) * half
    w_quarter = quarters.var(axis=1, ddof=1).mean(axis=0) * quarter
    with np.errstate(divide="ignore", invalid="ignore"):
        growth = np.clip(w_half / w_quarter, *_GROWTH) ** np.log2(1 / half)
        ratio = w_half * growth / jackknife_variance(without, share)
    known = np.isfinite(ratio) & (ratio > 0)
    return np.where(known, np.clip(np.where(known, ratio, 1) ** 0.25, _LEAST, 1), 1)


_GROWTH = 0.4, 4.0
"""Bounds of w_h / w_q: doubling the images does not divide a variance by more than five, and rarely
more than doubles it; beyond lies noise."""

_LEAST = 0.5
