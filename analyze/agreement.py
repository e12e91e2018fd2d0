"""Whether a latent stands for the same classes in every stream.

The definition is that of arXiv 2507.06265, section 4, in the form that `REPORT.md` gives.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from sparc.analyze import top_rows
from sparc.analyze.codes import CodeRows, CodeSet
from sparc.analyze.labels import Labels
from sparc.analyze.top_rows import TopRows

SCHEMA = pa.schema(
    [
        pa.field("mode", pa.string(), nullable=False),
        pa.field("control", pa.string(), nullable=False),
        pa.field("depth", pa.int32(), nullable=False),
        pa.field("first", pa.string()),
        pa.field("second", pa.string()),
        pa.field("restriction", pa.string(), nullable=False),
        pa.field("averaged_over", pa.string(), nullable=False),
        pa.field("latents", pa.int32(), nullable=False),
        pa.field("value", pa.float64()),
    ]
)


class ClassCounts(NamedTuple):
    """What each latent stands for, counted on labelled rows.

    Attributes:
        streams: The streams, in order.
        counts: By stream, A: on how many rows a latent is active that carry a class,
            (latents, classes) integers, canonical.
        top: By stream, the labelled rows on which each latent is strongest.
    """

    streams: tuple[str, ...]
    counts: tuple[sparse.csr_matrix, ...]
    top: tuple[TopRows, ...]


def measure(codes: CodeRows, labels: Labels, latents: int, *, top: int) -> ClassCounts:
    """Count over some rows.

    Args:
        codes: The rows.
        labels: The labels of all rows of the cache.
        latents: L.
        top: Rows in a list of strongest rows.
    """
    classes = labels.matrix[codes.rows]
    labelled = codes.take(np.flatnonzero(np.diff(classes.indptr)))
    classes = classes[np.flatnonzero(np.diff(classes.indptr))]
    return ClassCounts(
        codes.streams,
        tuple(_count(labelled.matrix(s, latents), classes) for s in codes.streams),
        tuple(top_rows.measure(labelled, s, top) for s in codes.streams),
    )


def merge(parts: Sequence[ClassCounts], *, top: int) -> ClassCounts:
    """The counts over the rows of all parts."""
    return ClassCounts(
        parts[0].streams,
        tuple(_sum(matrices) for matrices in zip(*(part.counts for part in parts), strict=True)),
        tuple(top_rows.merge(lists, top) for lists in zip(*(p.top for p in parts), strict=True)),
    )


def table(counts: ClassCounts, labels: Labels, code_set: CodeSet) -> pa.Table:
    """Mean agreement by depth, pair, restriction and the latents averaged over, of `SCHEMA`.

    Args:
        counts: Counts over all rows.
        labels: The labels that they were counted with.
        code_set: Which codes these are.
    """
    rows = []
    for restriction, matrices in (
        ("all_rows", counts.counts),
        ("top_rows", _count_top(counts, labels)),
    ):
        alive = np.stack([matrix.getnnz(axis=1) > 0 for matrix in matrices])
        for depth, values in _by_depth(matrices, labels):
            for first, second, kind, average, latents in _averages(values, alive, counts.streams):
                rows.append(
                    {
                        "mode": code_set.mode,
                        "control": code_set.control,
                        "depth": depth,
                        "first": first,
                        "second": second,
                        "restriction": restriction,
                        "averaged_over": kind,
                        "latents": latents,
                        "value": average,
                    }
                )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _count(active: sparse.csr_matrix, classes: sparse.csr_matrix) -> sparse.csr_matrix:
    ones = sparse.csr_matrix(
        (np.ones(active.nnz, np.int32), active.indices, active.indptr), shape=active.shape
    )
    counts = (classes.T.tocsr() @ ones).tocsc().T  # Class by class: the order that is faster.
    counts.has_canonical_format = True
    return counts


def _count_top(counts: ClassCounts, labels: Labels) -> list[sparse.csr_matrix]:
    latents = counts.counts[0].shape[0]
    result = []
    for top in counts.top:
        ends = np.concatenate([[0], np.cumsum(np.bincount(top.latents, minlength=latents))])
        lists = sparse.csr_matrix(
            (np.ones(len(top.rows), np.int32), top.rows, ends),
            shape=(latents, labels.matrix.shape[0]),
        )
        result.append(_sorted(lists @ labels.matrix))
    return result


def _sum(matrices: Sequence[sparse.csr_matrix]) -> sparse.csr_matrix:
    total = matrices[0]
    for matrix in matrices[1:]:
        total = total + matrix
    return total


def _by_depth(
    matrices: Sequence[sparse.csr_matrix], labels: Labels
) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
    """For each depth, the agreement of every pair of streams in every latent, (pairs, latents)."""
    totals = [np.asarray(matrix.sum(axis=1)).ravel() for matrix in matrices]
    pairs = list(combinations(range(len(matrices)), 2))
    for depth in sorted(labels.lifts, reverse=True):
        # What was lifted to the next deeper depth may be lifted on from there.
        stand_in = labels.lifts[depth]
        if not np.array_equal(stand_in, np.arange(len(stand_in))):
            matrices = [_lift(matrix, stand_in) for matrix in matrices]
        values = np.zeros((len(pairs), matrices[0].shape[0]))
        for position, (a, b) in enumerate(pairs):
            smaller = np.asarray(matrices[a].minimum(matrices[b]).sum(axis=1)).ravel()
            larger = totals[a] + totals[b] - smaller
            values[position] = smaller / np.maximum(larger, 1)
        yield depth, values


def _lift(matrix: sparse.csr_matrix, stand_in: npt.NDArray[np.int64]) -> sparse.csr_matrix:
    """Sum the classes that one class stands for."""
    lifted = sparse.csr_matrix(
        (matrix.data.copy(), stand_in[matrix.indices].astype(np.int32), matrix.indptr.copy()),
        shape=matrix.shape,
    )
    # Columns are in the order of the tree, so what is lifted together lies together.
    lifted.has_sorted_indices = True
    lifted.sum_duplicates()
    return lifted


def _sorted(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    # Transposing twice sorts in linear time.
    result = matrix.tocsc().tocsr()
    result.has_canonical_format = True
    return result


def _averages(
    values: npt.NDArray[np.float64], alive: npt.NDArray[np.bool_], streams: Sequence[str]
) -> Iterator[tuple[str | None, str | None, str, float | None, int]]:
    """Every average of one depth: (first, second, averaged over, value, latents)."""
    latents = alive.shape[1]
    pairs = list(combinations(range(len(streams)), 2))
    if not pairs:
        return
    both = np.stack([alive[a] & alive[b] for a, b in pairs])
    values = np.where(both, values, 0.0)
    pairs_alive = both.sum(axis=0)
    by_latent = values.sum(axis=0) / np.maximum(pairs_alive, 1)
    yield None, None, "all", _mean(by_latent, latents), latents
    counted = int((pairs_alive > 0).sum())
    yield None, None, "alive", _mean(by_latent, counted), counted
    for position, (a, b) in enumerate(pairs):
        yield streams[a], streams[b], "all", _mean(values[position], latents), latents
        counted = int(both[position].sum())
        yield streams[a], streams[b], "alive", _mean(values[position], counted), counted


def _mean(values: npt.NDArray[np.float64], count: int) -> float | None:
    return float(values.sum()) / count if count else None
