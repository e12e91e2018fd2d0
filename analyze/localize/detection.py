"""Does the number beside a map tell a text that is in the image from one that is not?

Pointing cannot see this: a map of an absent text has a peak too. So the texts of absent classes are
the control, and the area under the ROC curve (AUC) says how well present and absent ones separate:
the chance that a present text has the higher number, 0.5 for a number that knows nothing. This
module must not know how the numbers are made.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sparc.analyze.maths.statistics import Interval, jackknife


class Judged(NamedTuple):
    """The calibrated number of a class's text in an image.

    Attributes:
        image: Number of the image.
        present: Whether the class is in the image.
        number: The number.
    """

    image: int
    present: bool
    number: float


class Auc(NamedTuple):
    """An AUC with a 95% interval over other images; NaN where it is not defined."""

    value: float
    interval: Interval


def auc(judged: Sequence[Judged]) -> Auc:
    """The AUC of present against absent texts, over all pairs of one and one; ties count half.

    The interval is a jackknife that leaves out one image at a time, with all of its texts.
    """
    images = np.unique([each.image for each in judged], return_inverse=True)[1].ravel()
    present = np.array([each.present for each in judged], np.bool_)
    numbers = np.array([each.number for each in judged], np.float64)
    count = int(images.max(initial=-1)) + 1
    higher, lower = numbers[present], numbers[~present]
    won = (higher[:, None] > lower) + 0.5 * (higher[:, None] == lower)
    # By image of the present and of the absent text: what is won, out of how many pairs.
    firsts, seconds = images[present], images[~present]
    wins = np.zeros((count, count))
    np.add.at(wins, (firsts[:, None], seconds[None]), won)
    pairs = np.outer(np.bincount(firsts, minlength=count), np.bincount(seconds, minlength=count))
    left = _left_out(pairs.astype(np.float64))
    without = np.divide(_left_out(wins), left, out=np.full(count, np.nan), where=left > 0)
    figures: npt.NDArray[np.float64] = np.append(_share(wins.sum(), pairs.sum()), without)
    found = jackknife(figures, 1 / count if count else 1.0, least=0.0, most=1.0)
    return Auc(float(figures[0]), found)


def _left_out(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The total without each image, (images,)."""
    total: npt.NDArray[np.float64] = (
        counts.sum() - counts.sum(axis=0) - counts.sum(axis=1) + np.diag(counts)
    )
    return total


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else np.nan
