"""The classes of each latent's labelled rows, counted part by part."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.rows.labels import Labels


class ClassCounts(NamedTuple):
    """The classes of each latent's rows.

    Attributes:
        streams: The streams, in order.
        counts: By stream, A[l, s, c]: the number of labelled rows on which a latent is active and
            that carry a class, (classes, latents) int.
    """

    streams: tuple[str, ...]
    counts: tuple[sparse.csc_matrix, ...]

    @property
    def latents(self) -> int:
        """L."""
        latents: int = self.counts[0].shape[1]
        return latents


def count_classes(codes: CodeRows, labels: Labels, latents: int) -> ClassCounts:
    """Count over some rows.

    Args:
        codes: The rows.
        labels: The labels of all rows of the cache.
        latents: L.
    """
    classes = labels.matrix[codes.rows]
    labelled = codes.take(np.flatnonzero(np.diff(classes.indptr)))
    classes = classes[np.flatnonzero(np.diff(classes.indptr))]
    return ClassCounts(
        codes.streams,
        tuple(_count(labelled.matrix(s, latents), classes) for s in codes.streams),
    )


def merge(parts: Sequence[ClassCounts]) -> ClassCounts:
    """The counts over the rows of all parts."""
    return ClassCounts(
        parts[0].streams,
        tuple(_sum(matrices) for matrices in zip(*(part.counts for part in parts), strict=True)),
    )


def _count(active: sparse.csr_matrix, classes: sparse.csr_matrix) -> sparse.csc_matrix:
    ones = sparse.csr_matrix(
        (np.ones(active.nnz, np.int32), active.indices, active.indptr), shape=active.shape
    )
    return (classes.T.tocsr() @ ones).tocsc()  # By class, which is the faster order.


def _sum(matrices: Sequence[sparse.csc_matrix]) -> sparse.csc_matrix:
    total = matrices[0]
    for matrix in matrices[1:]:
        total = total + matrix
    return total
