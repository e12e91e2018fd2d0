"""Counts of classes in two streams side by side, at every depth of the tree of classes.

Lifting classes to their ancestors merges cells; depths come from the deepest to the root, each from
the one before. This module must not know what is counted.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

Integers = npt.NDArray[np.int64]

_BITS = 32  # Two counts share an integer, so that they are merged at once.
_MASK = (1 << _BITS) - 1


class MatchedCounts(NamedTuple):
    """Cells of latents and their partners side by side: latents with a class that either has.

    Attributes:
        begins: Where the cells of each latent begin, and their end, (1 + n,).
        classes: Which class, ascending for a latent, (cells,).
        counts: The count b of the second stream in the upper bits, a of the first in the lower.
        of_first: Where the cells of the first stream's counts are among these; empty where
            that is not wanted.
        of_second: The same of the second stream.
    """

    begins: Integers
    classes: Integers
    counts: Integers
    of_first: Integers
    of_second: Integers

    @property
    def a(self) -> Integers:
        """The counts of the first stream."""
        return self.counts & _MASK

    @property
    def b(self) -> Integers:
        """The counts of the second stream."""
        return self.counts >> _BITS & _MASK  # the mask, since the uppermost bit is no sign

    def lifted(self, lift: Integers) -> "MatchedCounts":
        """Add up the classes that one class stands for; they are neighbours."""
        classes = lift.take(self.classes)
        first = np.ones(len(classes), np.bool_)
        np.not_equal(classes[1:], classes[:-1], out=first[1:])
        first[self.begins[:-1][np.diff(self.begins) > 0]] = True
        starts = np.flatnonzero(first)
        if len(starts) == len(classes):
            return self._replace(classes=classes)
        before = np.zeros(len(first) + 1, np.int64)
        np.cumsum(first, out=before[1:])
        position = before[1:] - 1
        return MatchedCounts(
            before[self.begins],
            classes[starts],
            np.add.reduceat(self.counts, starts),
            position[self.of_first],
            position[self.of_second],
        )

    def distances(self) -> Integers:
        """The sum of |a - b| of each latent, (n,)."""
        total = np.zeros(len(self.counts) + 1, np.int64)
        difference = self.a - self.b
        np.cumsum(np.abs(difference, out=difference), out=total[1:])
        return np.diff(total[self.begins])


def match(first: sparse.csr_matrix, second: sparse.csr_matrix, *, positions: bool) -> MatchedCounts:
    """Put the cells of two canonical int64 matrices, (n, classes), side by side.

    Args:
        first: The counts of the first stream; the sum of a latent's is below 2^32.
        second: Those of the second.
        positions: Whether `of_first` and `of_second` are wanted.
    """
    both = first + second * (1 << _BITS)
    result = MatchedCounts(
        both.indptr.astype(np.int64), both.indices.astype(np.int64), both.data, _NONE, _NONE
    )
    if positions:
        of = np.flatnonzero(result.a), np.flatnonzero(result.b)
        result = result._replace(of_first=of[0], of_second=of[1])
    return result


_NONE = np.zeros(0, np.int64)
