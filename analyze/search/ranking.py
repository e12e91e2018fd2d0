"""Which images have the highest scores: each counts by its best row."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Matches(NamedTuple):
    """The images with the highest scores.

    Attributes:
        rows: Rows of the cache, one of each image, by descending score, (n,).
        scores: Cosine of their codes with the query's, (n,) float32.
    """

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]


def best(scores: npt.NDArray[np.float32], of_row: npt.NDArray[np.integer], number: int) -> Matches:
    """The images with the highest scores, by their best row; equal ones in the order of rows.

    Args:
        scores: By row of the cache, (rows,); rows of score 0 never match.
        of_row: The image of every row, (rows,).
        number: How many images.
    """
    wanted = 4 * number
    while True:
        rows = _highest(scores, wanted)
        rows = rows[np.argsort(-scores[rows], kind="stable")]
        first = np.sort(np.unique(of_row[rows], return_index=True)[1])
        if len(first) >= number or wanted >= len(scores):
            rows = rows[first[:number]]
            return Matches(rows, scores[rows])
        wanted *= 4


def _highest(scores: npt.NDArray[np.float32], number: int) -> npt.NDArray[np.int64]:
    """The `number` rows with the highest scores above zero, and all that tie with the last."""
    # The n-th largest maximum of a block is a lower bound for the n-th largest score.
    size = max(1, min(1024, len(scores) // (4 * number)))
    maxima = np.maximum.reduceat(scores, np.arange(0, len(scores), size))
    least = np.partition(maxima, -number)[-number] if number <= len(maxima) else np.float32(0)
    return np.flatnonzero(scores >= least if least > 0 else scores > 0)
