"""How far counts of classes in two streams differ, at every depth of the tree of classes.

For two count matrices A and B, (latents, classes), the distance of a latent is the sum over classes
of |A - B|. Lifting classes to their ancestors merges columns of the matrices; depths come from the
deepest to the root, each from the one before. This module must not know what is counted.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy import sparse


def fold_distances(
    difference: sparse.csr_matrix, cases: int, lifts: Sequence[npt.NDArray[np.int64]]
) -> Iterator[npt.NDArray[np.int64]]:
    """The distances on all rows and without each fold, at each depth.

    A fold has few of the counts. With E the difference A - B on all rows, and F the part of it that
    is lost without the fold,

        sum of |E - F| = sum of |E| + sum of (|E - F| - |E|) over the cells where F is not zero.

    Args:
        difference: E, and below it the F of each fold, (cases * latents, classes), canonical; it is
            lifted in place.
        cases: 1 + folds.
        lifts: By depth, from the deepest: for each class, the class that stands for it.

    Yields:
        (cases, latents): on all rows, then without each fold.
    """
    latents, classes = difference.shape[0] // cases, difference.shape[1]
    table = np.zeros(latents * classes, difference.dtype)
    lines = np.tile(np.arange(0, len(table), classes), cases)
    # NumPy looks up int64 positions fastest, and SciPy wants one type for indices and indptr.
    difference.indptr = difference.indptr.astype(np.int64)
    for position, lift in enumerate(lifts):
        if position > 0:  # At the deepest nothing is lifted.
            # Classes are in the order of the tree, so those that merge are neighbours.
            difference.indices = lift.take(difference.indices)
            difference.has_canonical_format = False
            difference.sum_duplicates()
        values, begins = difference.data, difference.indptr
        places = np.repeat(lines, np.diff(begins)) + difference.indices
        all_rows = slice(begins[latents])
        table[places[all_rows]] = values[all_rows]
        whole = table.take(places)
        table[places[all_rows]] = 0
        changes = np.append(0, np.cumsum(np.abs(whole - values) - np.abs(whole)))
        change = np.diff(changes[begins]).reshape(cases, latents)
        # In the first case E itself is taken away, which changes the distance to zero.
        change[0] *= -1
        change[1:] += change[0]
        yield change


def sample_distances(
    difference: sparse.csr_matrix,
    members: npt.NDArray[np.float32],
    lifts: Sequence[npt.NDArray[np.int64]],
) -> Iterator[npt.NDArray[np.float32]]:
    """The distances on samples that are made of folds, at each depth.

    A fold has few of the counts, a sample has many: it is faster to add up folds in a dense table
    with a line for each cell that any of them has.

    Args:
        difference: A - B in each fold, (folds * latents, classes).
        members: Which folds each sample has, (samples, folds), 0 or 1.
        lifts: By depth, from the deepest: for each class, the class that stands for it.

    Yields:
        (samples, latents); whole numbers, exact below 2^24.
    """
    folds, classes = members.shape[1], difference.shape[1]
    latents = difference.shape[0] // folds
    lines = np.repeat(np.arange(difference.shape[0]), np.diff(difference.indptr))
    fold, latent = np.divmod(lines, latents)
    cell = latent * classes + difference.indices
    used = np.zeros(latents * classes, np.bool_)
    used[cell] = True
    owner, class_of = np.divmod(np.flatnonzero(used), classes)
    counts = np.zeros((len(owner), folds), np.float32)
    counts[np.cumsum(used)[cell] - 1, fold] = difference.data
    for position, lift in enumerate(lifts):
        if position > 0 and len(owner):
            # Classes are in the order of the tree, so those that merge are neighbours.
            class_of = lift[class_of]
            changed = (np.diff(owner) != 0) | (np.diff(class_of) != 0)
            begins = np.append(0, 1 + np.flatnonzero(changed))
            counts = _segment_sums(begins, counts)
            owner, class_of = owner[begins], class_of[begins]
        result = np.zeros((latents, len(members)), np.float32)
        if len(owner):
            begins = np.append(0, 1 + np.flatnonzero(np.diff(owner)))
            distances = counts @ members.T
            result[owner[begins]] = _segment_sums(begins, np.abs(distances, out=distances))
        yield np.ascontiguousarray(result.T)


def _segment_sums(
    begins: npt.NDArray[np.int64], lines: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Sums of consecutive lines, in segments that start at `begins`: a faster `np.add.reduceat`."""
    ends, every = np.append(begins, len(lines)), np.arange(len(lines))
    ones = sparse.csr_matrix((np.ones(len(lines), np.float32), every, ends))
    sums: npt.NDArray[np.float32] = ones @ lines
    return sums
