"""One-dimensional logistic regressions, many at a time.

Most inputs of a regression are equal: those of the images on which a latent is not active. They
are the least, and count as one input, as often as they are. This module must not know what is
predicted.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_STEPS, _HALVINGS = 50, 20


class Problem(NamedTuple):
    """Some inputs, each of which alone is to predict the same outcome.

    Attributes:
        x: (n, fits), standardized.
        y: The outcome, (n,) bool, both values present.
    """

    x: Floats
    y: npt.NDArray[np.bool_]


class Fit(NamedTuple):
    """One-dimensional logistic regressions: slope and intercept of each, (fits,)."""

    slope: Floats
    intercept: Floats


def fit(problems: Sequence[Problem]) -> list[Fit]:
    """Regressions with the penalty slope^2 / 2, by Newton's method.

    The fits of a problem end together, when each gains less than 1e-12 an observation by a step.

    Args:
        problems: At least one; a problem may have no fits.

    Returns:
        The regressions of each problem.
    """
    inputs = _Inputs.of(problems)
    numbers = np.array([problem.x.shape[1] for problem in problems], np.int64)
    tolerance = np.repeat([1e-12 * len(problem.y) for problem in problems], numbers)
    problem_of = np.repeat(np.arange(len(problems)), numbers)
    slope, intercept = np.zeros((2, len(problem_of)))
    running = np.arange(len(problem_of))
    loss = inputs.objective(slope, intercept)
    for _ in range(_STEPS):
        if not len(running):
            break
        reached = _step(inputs, slope[running], intercept[running], loss)
        slope[running], intercept[running] = reached.slope, reached.intercept
        gain, loss = loss - reached.loss, reached.loss
        going = np.zeros(len(problems), np.bool_)
        going[problem_of[running[gain >= tolerance[running]]]] = True
        if not going[problem_of[running]].all():
            kept = np.flatnonzero(going[problem_of[running]])
            running, loss, inputs = running[kept], loss[kept], inputs.take(kept)
    ends = np.cumsum(numbers)[:-1]
    return [Fit(*of) for of in zip(np.split(slope, ends), np.split(intercept, ends), strict=True)]


class _Reached(NamedTuple):
    """Where a step leads to: slope, intercept and loss of each fit, (fits,)."""

    slope: Floats
    intercept: Floats
    loss: Floats


def _step(inputs: "_Inputs", slope: Floats, intercept: Floats, loss: Floats) -> _Reached:
    """A step of Newton's method, halved where it would raise the loss, and given up at last."""
    slopes = inputs.derivatives(slope, intercept)
    a, b, c = slopes.by_slopes + 1, slopes.by_both, slopes.by_intercepts
    down_slope, down_intercept = slopes.by_slope + slope, slopes.by_intercept
    inverse = 1 / np.maximum(a * c - b**2, 1e-12)
    step_slope = (c * down_slope - b * down_intercept) * inverse
    step_intercept = (a * down_intercept - b * down_slope) * inverse
    trial = _Reached(slope - step_slope, intercept - step_intercept, np.empty(0))
    trial = trial._replace(loss=inputs.objective(trial.slope, trial.intercept))
    # Steps that raise the loss are halved, and these fits alone tried again.
    for halving in range(1, _HALVINGS):
        worse = np.flatnonzero(trial.loss > loss + _ROUNDING)
        if not len(worse):
            break
        trial.slope[worse] = slope[worse] - 0.5**halving * step_slope[worse]
        trial.intercept[worse] = intercept[worse] - 0.5**halving * step_intercept[worse]
        trial.loss[worse] = inputs.take(worse).objective(trial.slope[worse], trial.intercept[worse])
    better = trial.loss <= loss + _ROUNDING
    before = slope, intercept, loss
    return _Reached(*(np.where(better, x, old) for x, old in zip(trial, before, strict=True)))


_ROUNDING = 1e-12


class _Derivatives(NamedTuple):
    """Derivatives of the losses without the penalty, (fits,)."""

    by_slope: Floats
    by_intercept: Floats
    by_slopes: Floats
    by_both: Floats
    by_intercepts: Floats


class _Inputs(NamedTuple):
    """The inputs of some fits.

    Attributes:
        x: Inputs that are not the least of their fit, one fit after the other, (entries,).
        positive: Whether the outcome is there, (entries,).
        fit: The fit of each, (entries,).
        begins: Where the inputs of each fit begin, and the end, (1 + fits,).
        least: The least input, (fits,).
        positives: How often it is the input and the outcome is there, (fits,).
        negatives: How often the outcome is not there, (fits,).
    """

    x: Floats
    positive: npt.NDArray[np.bool_]
    fit: Integers
    begins: Integers
    least: Floats
    positives: Integers
    negatives: Integers

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> "_Inputs":
        """The inputs of some problems."""
        x, positive, counts, least, positives, negatives = zip(*map(_sparse, problems), strict=True)
        number = np.concatenate(counts)
        return cls(
            np.concatenate(x),
            np.concatenate(positive),
            np.repeat(np.arange(len(number)), number),
            np.append(0, np.cumsum(number)),
            np.concatenate(least),
            np.concatenate(positives),
            np.concatenate(negatives),
        )

    def take(self, fits: Integers) -> "_Inputs":
        """Some of the fits."""
        lengths = np.diff(self.begins)[fits]
        ends = np.append(0, np.cumsum(lengths))
        places = np.repeat(self.begins[fits] - ends[:-1], lengths) + np.arange(ends[-1])
        return _Inputs(
            self.x[places],
            self.positive[places],
            np.repeat(np.arange(len(fits)), lengths),
            ends,
            self.least[fits],
            self.positives[fits],
            self.negatives[fits],
        )

    def objective(self, slope: Floats, intercept: Floats) -> Floats:
        """The sum of losses with the penalty, (fits,)."""
        least, others = self._logits(slope, intercept)
        result: Floats = (
            self._sums(np.logaddexp(0, np.where(self.positive, -others, others)))
            + self.positives * np.logaddexp(0, -least)
            + self.negatives * np.logaddexp(0, least)
            + slope**2 / 2
        )
        return result

    def derivatives(self, slope: Floats, intercept: Floats) -> _Derivatives:
        """How the losses change with slope and intercept."""
        least, others = map(expit, self._logits(slope, intercept))
        error, weight = others - self.positive, others * (1 - others)
        number = self.positives + self.negatives
        of_least = number * least - self.positives
        weight_of_least = number * least * (1 - least)
        weighted = weight * self.x
        return _Derivatives(
            self._sums(error * self.x) + of_least * self.least,
            self._sums(error) + of_least,
            self._sums(weighted * self.x) + weight_of_least * self.least**2,
            self._sums(weighted) + weight_of_least * self.least,
            self._sums(weight) + weight_of_least,
        )

    def _logits(self, slope: Floats, intercept: Floats) -> tuple[Floats, Floats]:
        """Of the least inputs, (fits,), and of the others."""
        others = self.x * slope[self.fit] + intercept[self.fit]
        return self.least * slope + intercept, others

    def _sums(self, values: Floats) -> Floats:
        """Sums over the inputs of each fit, (fits,)."""
        result = np.zeros(len(self.least))
        some = np.flatnonzero(np.diff(self.begins))
        if len(some):
            result[some] = np.add.reduceat(values, self.begins[some])
        return result


class _OfProblem(NamedTuple):
    """As in `_Inputs`, with the number of inputs of each fit."""

    x: Floats
    positive: npt.NDArray[np.bool_]
    number: Integers
    least: Floats
    positives: Integers
    negatives: Integers


def _sparse(problem: Problem) -> _OfProblem:
    x = np.ascontiguousarray(problem.x.T)
    least = x.min(axis=1, initial=np.inf)
    places = np.flatnonzero(x != least[:, None])
    fit, row = np.divmod(places, x.shape[1])
    positive = problem.y[row]
    number = np.bincount(fit, minlength=len(x))
    of_positives = np.bincount(fit[positive], minlength=len(x))
    positives = int(problem.y.sum())
    return _OfProblem(
        x.ravel()[places],
        positive,
        number,
        least,
        positives - of_positives,
        len(problem.y) - positives - (number - of_positives),
    )
