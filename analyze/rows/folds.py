"""The folds of images that are left out in turn, for the intervals of figures on all rows.

How far a figure moves when a fold is left out says how far it would move on other images:
`sparc.analyze.maths.intervals.jackknife`. Whole images are left out, since the rows of one image
are not independent of each other. This module must not know what is measured.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.rows.images import Images

FOLDS = 20
"""How many folds: more of them cost more and hardly narrow an interval (Student's t with 19
degrees of freedom is 7% wider than the normal distribution)."""

MOST_ROWS = 20_000
"""Rows in all folds together, about: a larger set has rows that are never left out."""


class Folds(NamedTuple):
    """Folds of equally many images.

    Attributes:
        of_row: The fold of every row of the cache, from 1; 0 for rows that no fold has, (rows,).
        number: How many folds; 0 where there are too few images to compare.
        share: The share of the analysed images that one fold has.
        images: How many images are analysed, in a fold or not.
    """

    of_row: npt.NDArray[np.uint8]
    number: int
    share: float
    images: int

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """The rows of the cache that are in a fold, ascending."""
        return np.flatnonzero(self.of_row)

    def add(self, rows: npt.NDArray[np.int64], values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Sums of values by fold, (1 + folds,): at index 0 those of rows that no fold has.

        Args:
            rows: Rows of the cache, (n,).
            values: Their values, (n,).
        """
        sums = np.bincount(self.of_row[rows], values, minlength=1 + self.number)
        return sums.astype(np.float64, copy=False)


def assign_folds(images: Images, seed: int) -> Folds:
    """Deal images out at random.

    Args:
        images: The images of a cache.
        seed: With the number of images, all that decides.
    """
    analysed = np.flatnonzero(images.analysed)
    if len(analysed) < 2:
        return no_folds(len(images.of_row), len(analysed))
    number = min(FOLDS, len(analysed))
    rows = int(images.analysed[images.of_row].sum())
    size = max(1, min(len(analysed), MOST_ROWS * len(analysed) // rows) // number)
    generator = np.random.default_rng([seed, len(analysed)])
    dealt = generator.permutation(analysed)[: size * number]
    of_image = np.zeros(len(images), np.uint8)
    of_image[dealt] = 1 + np.arange(len(dealt)) % number
    return Folds(of_image[images.of_row], number, size / len(analysed), len(analysed))


def no_folds(rows: int, images: int = 0) -> Folds:
    """No folds of the rows of a cache: figures without intervals."""
    return Folds(np.zeros(rows, np.uint8), 0, 0.0, images)


def leave_one_out(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """From sums by fold to those over all rows, and over all but each fold's.

    Args:
        sums: (1 + folds, ...), at index 0 those over rows that are in no fold.

    Returns:
        (1 + folds, ...), at index 0 those over all rows.
    """
    total: npt.NDArray[np.float64] = sums.sum(axis=0)
    return np.concatenate([total[None], total - sums[1:]])


def active_by_fold(codes: CodeRows, stream: str, latents: int, folds: Folds) -> sparse.csr_matrix:
    """Where latents are active, a latent counting in each fold as a latent of its own.

    Args:
        codes: Rows that are in a fold.
        stream: Which stream.
        latents: L.
        folds: The folds.

    Returns:
        (n, folds * L) int32, those of the first fold first; 1 where active.
    """
    active = codes.matrix(stream, latents)
    first = (folds.of_row[codes.rows].astype(np.int32) - 1) * np.int32(latents)
    own = active.indices + np.repeat(first, np.diff(active.indptr))
    return sparse.csr_matrix(
        (np.ones(len(own), np.int32), own, active.indptr),
        shape=(len(codes.rows), folds.number * latents),
    )
