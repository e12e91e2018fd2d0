"""Folds of images that the jackknife leaves out in turn: `sparc.analyze.maths.intervals.jackknife`.

Whole images are left out, since the rows of one image are not independent. This module must not
know what is measured.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.maths.packing import Packed, pack
from sparc.analyze.rows.images import Images

FOLDS = 20
"""Number of folds. More would hardly narrow an interval: Student's t with 19 degrees of freedom is
7% wider than the normal distribution."""

MOST_ROWS = 20_000
"""Rows in all folds together, about; other rows of a larger set are never left out."""


class Folds(NamedTuple):
    """Folds with the same number of images.

    Attributes:
        of_row: The fold of every row of the cache, from 1; 0 for rows in no fold, (rows,).
        number: Number of folds; 0 with fewer than two images.
        share: The share of the analysed images in one fold.
        images: Number of analysed images, in a fold or not.
    """

    of_row: npt.NDArray[np.uint8]
    number: int
    share: float
    images: int

    def __reduce__(self) -> tuple[Any, ...]:
        # Packed, since other processes may be far away: most rows are in no fold.
        return _unpacked, (pack(self.of_row), self.number, self.share, self.images)

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """The rows of the cache that are in a fold, ascending."""
        return np.flatnonzero(self.of_row)

    def add(self, rows: npt.NDArray[np.int64], values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Sums of values by fold, (1 + folds,): at index 0 over rows in no fold.

        Args:
            rows: Rows of the cache, (n,).
            values: Their values, (n,).
        """
        sums = np.bincount(self.of_row[rows], values, minlength=1 + self.number)
        return sums.astype(np.float64, copy=False)


def _unpacked(of_row: Packed, number: int, share: float, images: int) -> Folds:
    return Folds(of_row.array, number, share, images)


def assign_folds(images: Images, seed: int) -> Folds:
    """Assign images to folds at random.

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
    chosen = generator.permutation(analysed)[: size * number]
    of_image = np.zeros(len(images), np.uint8)
    of_image[chosen] = 1 + np.arange(len(chosen)) % number
    return Folds(of_image[images.of_row], number, size / len(analysed), len(analysed))


def no_folds(rows: int, images: int = 0) -> Folds:
    """No folds: figures get no intervals."""
    return Folds(np.zeros(rows, np.uint8), 0, 0.0, images)


def leave_one_out(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """From sums by fold to sums without each fold.

    Args:
        sums: (1 + folds, ...): over rows in no fold, then over each fold.

    Returns:
        (1 + folds, ...): over all rows, then over all rows but each fold's.
    """
    total: npt.NDArray[np.float64] = sums.sum(axis=0)
    return np.concatenate([total[None], total - sums[1:]])


def active_by_fold(codes: CodeRows, stream: str, latents: int, folds: Folds) -> sparse.csr_matrix:
    """Where latents are active, with separate columns for each fold.

    Args:
        codes: Rows that are in a fold.
        stream: Which stream.
        latents: L.
        folds: The folds.

    Returns:
        (n, folds * L) int32, by fold; 1 where a latent is active.
    """
    active = codes.matrix(stream, latents)
    first = (folds.of_row[codes.rows].astype(np.int32) - 1) * np.int32(latents)
    own = active.indices + np.repeat(first, np.diff(active.indptr))
    return sparse.csr_matrix(
        (np.ones(len(own), np.int32), own, active.indptr),
        shape=(len(codes.rows), folds.number * latents),
    )
