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
        classes: Which class, ascending for a latent, (cells,) integers.
        counts: The count b of the second stream in the upper bits, a of the first in the lower,
            (cells,).
        of_first: Where the cells of the first stream's counts are among these; empty where
            that is not wanted.
        of_second: The same of the second stream.
    """

    begins: Integers
    classes: npt.NDArray[np.integer]
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
        # The uppermost bit is no sign.
        upper = self.counts.view(np.uint64) >> np.uint64(_BITS)
        return upper.view(np.int64)

    def lifted(self, lift: npt.NDArray[np.integer]) -> "MatchedCounts":
        """Add up the classes that one class stands for; they are neighbours.

        Args:
            lift: The class that each class becomes, (classes,); its type is that of the result's
                classes.
        """
        classes = lift.take(self.classes)
        first = np.ones(len(classes), np.bool_)
        np.not_equal(classes[1:], classes[:-1], out=first[1:])
        first[self.begins[:-1][self.begins[1:] > self.begins[:-1]]] = True
        starts = np.flatnonzero(first)
        if len(starts) == len(classes):
            return self._replace(classes=classes)
        place = np.cumsum(first, dtype=np.int64)
        place -= 1
        return MatchedCounts(
            starts.searchsorted(self.begins),
            classes.take(starts),
            _sums(self.counts, np.append(starts, len(classes))),
            place.take(self.of_first),
            place.take(self.of_second),
        )

    def sums(self, values: Integers) -> Integers:
        """The sum of a value of each cell over the cells of each latent, (n,)."""
        return _sums(values, self.begins)

    def distances(self) -> Integers:
        """The sum of |a - b| of each latent, (n,)."""
        difference = self.a - self.b
        return self.sums(np.abs(difference, out=difference))


def match(first: sparse.csr_matrix, second: sparse.csr_matrix, *, positions: bool) -> MatchedCounts:
    """Put the cells of two canonical int64 matrices, (n, classes), side by side.

    Args:
        first: The counts of the first stream; the sum of a latent's is below 2^32.
        second: Those of the second.
        positions: Whether `of_first` and `of_second` are wanted.
    """
    both = first + second * (1 << _BITS)
    result = MatchedCounts(both.indptr.astype(np.int64), both.indices, both.data, _NONE, _NONE)
    if positions:
        of = np.flatnonzero(result.a > 0), np.flatnonzero(result.b > 0)
        result = result._replace(of_first=of[0], of_second=of[1])
    return result


_NONE = np.zeros(0, np.int64)


def _sums(values: Integers, begins: Integers) -> Integers:
    """Sums of consecutive ranges, from where they begin and their end, (1 + n,) to (n,).

    Sums of all values up to one may pass 2^63: they wrap, and so does their difference.
    """
    total = np.empty(len(values) + 1, np.int64)
    total[0] = 0
    values.cumsum(out=total[1:])
    at = total.take(begins)
    return at[1:] - at[:-1]
