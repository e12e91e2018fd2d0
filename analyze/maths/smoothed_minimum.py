"""How the minimum of two counts varies, whose slope jumps where they are equal.

A count of a cell grows by one with an image. Which of two counts is the smaller is then uncertain
wherever they are close, so that neither slope, 0 or 1, says how far their minimum moves: a
jackknife takes it for certain and finds too much variance. For normal variables the minimum's
moments are known (Clark, Operations Research 9, 1961):

    E min(a, b) = b + (a - b) Phi(z) - s phi(z)        z = (b - a) / s, s^2 = Var(a - b)

The derivative by a is Phi(z), the chance that a is the smaller one. What images do one by one to
the minimum is linear with these slopes (the Hajek projection); the rest of its variance is what
they do together. This module must not know what is counted.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

Floats = npt.NDArray[np.float32]


class Minimum(NamedTuple):
    """Properties of min(a, b).

    Attributes:
        first: The chance that a is the smaller, its slope by a. Its slope by b is 1 - first.
        rest: The variance that is not linear in a and b, at least 0.
    """

    first: Floats
    rest: Floats


def minimum(difference: Floats, variance: Floats) -> Minimum:
    """The minimum of two normal variables, from tables in steps of 1 / 1024 of z.

    Args:
        difference: The mean of b - a.
        variance: Its variance; what is below 1e-12 counts as that.
    """
    variance = np.maximum(variance, _LEAST)
    place = np.sqrt(variance)
    np.divide(difference, place, out=place)
    place *= _STEPS
    place += _SURE * _STEPS + 0.5
    np.clip(place, 0, len(_FIRST) - 1, out=place)
    which = place.astype(np.intp)
    variance *= _REST.take(which)
    return Minimum(_FIRST.take(which), variance)


_LEAST = np.float32(1e-12)
_SURE = 8  # Standard deviations beyond which float32 has no chance left.
_STEPS = 1024


def _tables() -> tuple[Floats, Floats]:
    """By z, the slope by a, and the rest for a variance of 1."""
    z = np.arange(-_SURE * _STEPS, _SURE * _STEPS + 1) / _STEPS
    first, density = ndtr(z), np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    # min(a, b) = b + d with d = min(a - b, 0), in units of the standard deviation.
    mean = -z * first - density
    square = (z * z + 1) * first + z * density
    rest = np.maximum(square - mean**2 - first**2, 0)
    return first.astype(np.float32), rest.astype(np.float32)


_FIRST, _REST = _tables()
