"""Whether presence scores separate texts that are in an image from texts that are not.

Pointing cannot tell: the map of an absent text has a peak too. The texts of absent classes are the
control, and the area under the ROC curve (AUC) is the chance that a present text scores higher than
an absent one; 0.5 is chance. This module must not know how scores are made.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sparc.analyze.maths.intervals import Interval, jackknife_share


class ScoredText(NamedTuple):
    """The presence score of a class's text in an image.

    Attributes:
        image: Which image, from 0.
        present: Whether the class is in the image.
        score: The score.
    """

    image: int
    present: bool
    score: float


class Auc(NamedTuple):
    """An AUC with a 95% interval over other images; NaN where it is not defined."""

    value: float
    interval: Interval


def auc(texts: Sequence[ScoredText]) -> Auc:
    """The AUC of present against absent texts, over all pairs; ties count half.

    The interval is that of a share, with the variance of a jackknife that leaves out one image at a
    time, with all its texts.
    """
    images = np.unique([text.image for text in texts], return_inverse=True)[1].ravel()
    present = np.array([text.present for text in texts], np.bool_)
    scores = np.array([text.score for text in texts], np.float64)
    count = int(images.max(initial=-1)) + 1
    higher, lower = scores[present], scores[~present]
    won = (higher[:, None] > lower) + 0.5 * (higher[:, None] == lower)
    # By image of the present and of the absent text: pairs won, of how many.
    firsts, seconds = images[present], images[~present]
    wins = np.zeros((count, count))
    np.add.at(wins, (firsts[:, None], seconds[None]), won)
    pairs = np.outer(np.bincount(firsts, minlength=count), np.bincount(seconds, minlength=count))
    left = _left_out(pairs.astype(np.float64))
    without = np.divide(_left_out(wins), left, out=np.full(count, np.nan), where=left > 0)
    figures: npt.NDArray[np.float64] = np.append(
        _share(float(wins.sum()), float(pairs.sum())), without
    )
    interval = jackknife_share(figures, 1 / count if count else 1.0, count)
    return Auc(float(figures[0]), interval)


def _left_out(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The total without each image, (images,)."""
    total: npt.NDArray[np.float64] = (
        counts.sum() - counts.sum(axis=0) - counts.sum(axis=1) + np.diag(counts)
    )
    return total


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else np.nan
