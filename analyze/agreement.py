"""Whether a latent stands for the same classes in every stream.

The definition is that of arXiv 2507.06265, section 4, in the form that `REPORT.md` gives. Every
figure is computed on all rows and without each group of rows, for its interval: an index or axis of
length 1 + groups says which, 0 being all rows.
"""

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from sparc.analyze import top_rows
from sparc.analyze.codes import CodeRows, CodeSet
from sparc.analyze.groups import Groups, apart
from sparc.analyze.labels import Labels
from sparc.analyze.statistics import jackknife, with_interval
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
        pa.field("value_low", pa.float64()),
        pa.field("value_high", pa.float64()),
    ]
)

_CELLS = 1 << 18  # Latents times pairs of streams times classes that are looked at at a time.


class ClassCounts(NamedTuple):
    """What each latent stands for, counted on labelled rows.

    Attributes:
        streams: The streams, in order.
        counts: By stream, A: on how many rows a latent is active that carry a class,
            (classes, latents) integers.
    """

    streams: tuple[str, ...]
    counts: tuple[sparse.csc_matrix, ...]

    @property
    def latents(self) -> int:
        """L."""
        latents: int = self.counts[0].shape[1]
        return latents


def measure(codes: CodeRows, labels: Labels, latents: int) -> ClassCounts:
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


def table(
    counts: ClassCounts,
    lists: Sequence[TopRows],
    labels: Labels,
    code_set: CodeSet,
    *,
    top: int,
    groups: Groups,
    grouped: CodeRows,
) -> pa.Table:
    """Mean agreement by depth, pair, restriction and the latents averaged over, of `SCHEMA`.

    Args:
        counts: Counts over all rows.
        lists: By stream, the labelled rows on which each latent is strongest, with some to spare.
        labels: The labels that they were counted with.
        code_set: Which codes these are.
        top: Rows in a list of strongest rows.
        groups: The rows that are left out in turn.
        grouped: The codes of all rows that are in a group.
    """
    rows: list[dict[str, Any]] = []
    if len(counts.streams) > 1:
        # Of latents that are seldom active the strongest rows are all rows.
        lengths = [np.bincount(each.latents, minlength=counts.latents) for each in lists]
        cut = np.max(lengths, axis=0) > top
        leave_out = partial(_leave_out, labels, groups, grouped)
        leave_out_of_top = partial(_leave_out_of_top, labels, groups, top, cut)
        add_up = partial(_sums, labels, counts.latents)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            everywhere_later = pool.map(leave_out, counts.streams, counts.counts)
            strongest = list(pool.map(leave_out_of_top, lists))
            everywhere = list(everywhere_later)
            both = add_up(everywhere, np.flatnonzero(~cut), pool)
            cut_latents = np.flatnonzero(cut)
            sums_of = {
                "all_rows": both + add_up(everywhere, cut_latents, pool),
                "top_rows": both + add_up(strongest, cut_latents, pool),
            }
        for restriction, sums in sums_of.items():
            for line in _averages(sums, counts, labels, groups):
                rows.append(
                    {
                        "mode": code_set.mode,
                        "control": code_set.control,
                        "restriction": restriction,
                        **line,
                    }
                )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _count(active: sparse.csr_matrix, classes: sparse.csr_matrix) -> sparse.csc_matrix:
    ones = sparse.csr_matrix(
        (np.ones(active.nnz, np.int32), active.indices, active.indptr), shape=active.shape
    )
    return (classes.T.tocsr() @ ones).tocsc()  # Class by class: the order that is faster.


def _sum(matrices: Sequence[sparse.csc_matrix]) -> sparse.csc_matrix:
    total = matrices[0]
    for matrix in matrices[1:]:
        total = total + matrix
    return total


# ---------------------------------------------------------------------- leaving groups out


def _leave_out(
    labels: Labels, groups: Groups, grouped: CodeRows, stream: str, counts: sparse.csc_matrix
) -> sparse.csr_matrix:
    """A stream's counts of all rows and then of each group, ((1 + groups) * latents, classes)."""
    classes = labels.matrix[grouped.rows]
    lost = apart(grouped, stream, counts.shape[1], groups).tocsc().T @ classes
    lost.sort_indices()
    return _canonical(sparse.vstack([counts.T, lost], format="csr"))


def _leave_out_of_top(
    labels: Labels, groups: Groups, top: int, latents: npt.NDArray[np.bool_], lists: TopRows
) -> sparse.csr_matrix:
    """The same of a stream's strongest rows, of those that are among the `latents`, (latents,).

    Of a group, it is what all lists have more than those without it: such counts may be negative.
    """
    some = lists.take(latents[lists.latents])
    shape = len(latents), labels.matrix.shape[0]
    listed = top_rows.changes(some, top, groups, shape) @ labels.matrix
    listed.sort_indices()
    return _canonical(listed)


def _canonical(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """The same matrix; SciPy need not look whether its indices ascend and are unique."""
    matrix.has_canonical_format = True
    return matrix


# ---------------------------------------------------------------------- averaging


def _sums(
    labels: Labels,
    latents: int,
    matrices: Sequence[sparse.csr_matrix],
    some: npt.NDArray[np.int64],
    pool: Executor,
) -> npt.NDArray[np.float64]:
    """The sums over some latents that averages are made of.

    Args:
        labels: The labels that they were counted with.
        latents: L.
        matrices: By stream, counts of all rows and of each group.
        some: Which latents.
        pool: Takes a block of latents in each thread.

    Returns:
        (depths from the deepest, 2, 1 + pairs, 1 + groups): agreement, and how many are alive; over
        all pairs and for each of them.
    """
    each, classes = matrices[0].shape[0] // latents, matrices[0].shape[1]
    lifts = [labels.lifts[depth] for depth in sorted(labels.lifts, reverse=True)]

    def of_block(block: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        lines = (np.arange(each)[:, None] * latents + block).ravel()
        return _sums_of_block([matrix[lines] for matrix in matrices], each, lifts)

    step = max(1, _CELLS // classes)
    blocks = [some[start : start + step] for start in range(0, len(some), step)]
    result = np.zeros((len(lifts), 2, 1 + math.comb(len(matrices), 2), each))
    # In the order of the blocks, whichever comes first: sums depend on their order.
    for sums in pool.map(of_block, blocks):
        result += sums
    return result


def _sums_of_block(
    counts: Sequence[sparse.csr_matrix], each: int, lifts: Sequence[npt.NDArray[np.int64]]
) -> npt.NDArray[np.float64]:
    """`_sums` of the counts of some latents, (each * latents, classes), by stream.

    Args:
        counts: By stream, counts of all rows and of each group.
        each: 1 + groups.
        lifts: From the deepest.
    """
    pairs = list(combinations(range(len(counts)), 2))
    result = np.zeros((len(lifts), 2, 1 + len(pairs), each))
    totals = [np.asarray(m.sum(axis=1, dtype=np.int64)).reshape(each, -1) for m in counts]
    for total in totals:
        total[1:] = total[0] - total[1:]
    agreement = np.zeros((len(lifts), *totals[0].shape))
    alive = np.zeros(totals[0].shape, np.int64)
    for pair, (a, b) in enumerate(pairs, start=1):
        total, both = totals[a] + totals[b], (totals[a] > 0) & (totals[b] > 0)
        alive += both
        result[:, 1, pair] += both.sum(axis=1)
        distances = _distances(counts[a] - counts[b], each, lifts)
        for sums, values, distance in zip(result, agreement, distances, strict=True):
            value = np.where(both, (total - distance) / np.maximum(total + distance, 1), 0)
            values += value
            sums[0, pair] += value.sum(axis=1)
    result[:, 0, 0] += (agreement / np.maximum(alive, 1)).sum(axis=2)
    result[:, 1, 0] += (alive > 0).sum(axis=1)
    return result


def _distances(
    difference: sparse.csr_matrix, each: int, lifts: Sequence[npt.NDArray[np.int64]]
) -> Iterator[npt.NDArray[np.int64]]:
    """At each depth, how far the counts of two streams are apart: the sum over classes of |A - B|.

    Agreement follows from it: A + B is min + max and |A - B| is max - min, so

        sum of min / sum of max = (sum of A + B - distance) / (sum of A + B + distance).

    A group has few of the counts. With E the difference A - B on all rows and F what it is less
    without the group,

        sum of |E - F| = sum of |E| + sum, where F is not zero, of |E - F| - |E|.

    Args:
        difference: E, and below it the F of each group, (each * latents, classes), canonical; it is
            lifted in place.
        each: 1 + groups.
        lifts: From the deepest.

    Returns:
        (each, latents): on all rows, and without each group.
    """
    latents, classes = difference.shape[0] // each, difference.shape[1]
    table = np.zeros(latents * classes, difference.dtype)
    lines = np.tile(np.arange(0, len(table), classes), each)
    # NumPy looks up places of this type, SciPy wants one type for both.
    difference.indptr = difference.indptr.astype(np.int64)
    for position, lift in enumerate(lifts):
        if position > 0:  # At the deepest nothing is lifted.
            # What was lifted to the next deeper depth is lifted on from there. The classes are in
            # the order of the tree, so those that are lifted together stand together.
            difference.indices = lift.take(difference.indices)
            difference.has_canonical_format = False
            difference.sum_duplicates()
        values, begins = difference.data, difference.indptr
        places = np.repeat(lines, np.diff(begins)) + difference.indices
        of_all = slice(begins[latents])
        table[places[of_all]] = values[of_all]
        found = table.take(places)
        table[places[of_all]] = 0
        changes = np.append(0, np.cumsum(np.abs(found - values) - np.abs(found)))
        change = np.diff(changes[begins]).reshape(each, latents)
        # Without all rows nothing is left: that changes the distance to zero.
        change[0] *= -1
        change[1:] += change[0]
        yield change


def _averages(
    sums: npt.NDArray[np.float64], counts: ClassCounts, labels: Labels, groups: Groups
) -> Iterator[dict[str, Any]]:
    """Every average of one restriction: the columns of `SCHEMA` from depth on."""
    names = [(None, None), *combinations(counts.streams, 2)]
    for depth, of_depth in zip(sorted(labels.lifts, reverse=True), sums, strict=True):
        for (first, second), total, alive in zip(names, *of_depth, strict=True):
            for kind, over in (("all", np.full(len(alive), counts.latents)), ("alive", alive)):
                with np.errstate(divide="ignore", invalid="ignore"):
                    means = total / over
                interval = jackknife(means, groups.share, least=0, most=1)
                yield {
                    "depth": depth,
                    "first": first,
                    "second": second,
                    "averaged_over": kind,
                    "latents": int(over[0]),
                    **with_interval("value", means[0], interval),
                }
