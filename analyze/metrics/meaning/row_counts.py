"""The classes of each latent's labelled rows, counted part by part, at every depth in one pass."""

import operator
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.codes.parts import Parts, in_batches
from sparc.analyze.maths.reduction import Reducer
from sparc.analyze.rows.labels import Labels


class RowCounts(NamedTuple):
    """The classes of each latent's labelled rows, at one depth or, for `count_all_rows`, at all.

    Attributes:
        rows: Number of labelled rows on which a latent is active, (streams, latents) int64.
        carrying: By stream, how many of them carry each class, (latents, classes).
    """

    rows: npt.NDArray[np.int64]
    carrying: tuple[sparse.csr_matrix, ...]

    def at_depth(self, labels: Labels, depth: int) -> "RowCounts":
        """The counts at a depth, from those of the columns of `Labels.at_every_depth`."""
        return RowCounts(self.rows, tuple(labels.lifted(matrix, depth) for matrix in self.carrying))


def count_all_rows(parts: Parts, labels: Labels, reducer: Reducer) -> RowCounts:
    """Count over the rows of all parts, at every depth in one pass: `RowCounts.at_depth`."""
    return reducer.reduce(_count_part, merge, (parts, labels), len(parts))


def _count_part(shared: tuple[Parts, Labels], part: int) -> RowCounts:
    parts, labels = shared

    def count(codes: CodeRows) -> RowCounts:
        return count_rows(codes, labels.at_every_depth(codes.rows), parts.latents)

    return in_batches(parts.codes(part), count, merge)


def count_rows(codes: CodeRows, carried: sparse.csr_matrix, latents: int) -> RowCounts:
    """Count over some rows.

    Args:
        codes: The rows.
        carried: Their classes, (n, classes): `Labels.at_depth` or `Labels.at_every_depth`.
        latents: L.
    """
    labelled = np.flatnonzero(np.diff(carried.indptr))
    codes = codes.take(labelled)
    classes = carried[labelled].T.tocsr()
    active = [_active(codes.matrix(stream, latents)) for stream in codes.streams]
    return RowCounts(
        np.stack([np.bincount(matrix.indices, minlength=latents) for matrix in active]),
        # By class, which is the faster order.
        tuple((classes @ matrix).T.tocsr() for matrix in active),
    )


def merge(parts: Sequence[RowCounts]) -> RowCounts:
    """The counts over the rows of all parts."""
    rows = np.sum([part.rows for part in parts], axis=0)
    of_streams = zip(*(part.carrying for part in parts), strict=True)
    return RowCounts(rows, tuple(reduce(operator.add, matrices) for matrices in of_streams))


def _active(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """1 where a latent is active, int32."""
    return (matrix > 0).astype(np.int32)
