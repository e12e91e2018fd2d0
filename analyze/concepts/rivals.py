"""Latents of like frequency: what a latent is compared with to see what chance gives.

This module must not know what is compared.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sparc.analyze.maths.mispairing import reach

Integers = npt.NDArray[np.int64]


MOST = 20
"""Rivals to either side in rank, at most: of more, as many at even distances."""


class Rivals(NamedTuple):
    """For some latents of one stream, the latents of another that they are mispaired with.

    Attributes:
        latents: Latents that are active in both streams, by their frequency in the other, (n,).
        others: The mispaired latents of each, (n, m); where there are fewer, some entries
            mean nothing.
        known: Which entries mean something, (n, m).
    """

    latents: Integers
    others: Integers
    known: npt.NDArray[np.bool_]


def rivals(first: Integers, second: Integers) -> Rivals:
    """The latents that `sparc.analyze.maths.mispairing.partners` draws one from.

    Args:
        first: On how many images each latent is active in the one stream, (latents,).
        second: The same in the other stream, whose latents are the rivals.
    """
    alive = np.flatnonzero((first > 0) & (second > 0))
    ranked = alive[np.argsort(second[alive], kind="stable")]
    near = reach(len(ranked))
    ahead = np.unique(np.linspace(1, near, min(near, MOST)).round().astype(np.int64))
    offsets = np.concatenate([-ahead[::-1], ahead])
    places = np.arange(len(ranked))[:, None] + offsets
    known = (places >= 0) & (places < len(ranked))
    if not len(ranked):
        return Rivals(ranked, places, known)
    return Rivals(ranked, ranked[np.clip(places, 0, len(ranked) - 1)], known)


def upper_of_neighbours(
    values: npt.NDArray[np.float64], share: float, *, around: int = 50
) -> npt.NDArray[np.float64]:
    """A quantile of the values of the latents next in rank, each latent's own included, (n,).

    Args:
        values: Of each latent, in the order of frequency, (n, m); NaN where there is none.
        share: Which quantile, from 0 to 1; always one of the values.
        around: How many latents are taken to either side.
    """
    result = np.empty(len(values))
    for place in range(len(values)):
        near = values[max(0, place - around) : place + around + 1].ravel()
        near = near[~np.isnan(near)]
        higher = math.ceil(share * (len(near) - 1))
        result[place] = np.sort(near)[higher]
    return result
