"""Whether a latent stands for the same classes in every stream.

The definition is that of arXiv 2507.06265, section 4, in the form that `REPORT.md` gives. Every
figure is computed on all rows and without each group of rows, for its interval: an index or axis of
length 1 + groups says which, 0 being all rows.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from sparc.analyze import top_rows
from sparc.analyze.codes import CodeRows, CodeSet
from sparc.analyze.groups import Groups
from sparc.analyze.labels import Labels
from sparc.analyze.statistics import jackknife, nullable
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

_CELLS = 1 << 16  # Latents times classes that are held as a dense array, for each group.


class ClassCounts(NamedTuple):
    """What each latent stands for, counted on labelled rows.

    Attributes:
        streams: The streams, in order.
        counts: By stream, A: on how many rows a latent is active that carry a class,
            (classes, latents) integers.
        top: By stream, the labelled rows on which each latent is strongest.
    """

    streams: tuple[str, ...]
    counts: tuple[sparse.csc_matrix, ...]
    top: tuple[TopRows, ...]


def measure(codes: CodeRows, labels: Labels, latents: int, *, top: int) -> ClassCounts:
    """Count over some rows.

    Args:
        codes: The rows.
        labels: The labels of all rows of the cache.
        latents: L.
        top: Rows in a list of strongest rows; 0 for no lists.
    """
    classes = labels.matrix[codes.rows]
    labelled = codes.take(np.flatnonzero(np.diff(classes.indptr)))
    classes = classes[np.flatnonzero(np.diff(classes.indptr))]
    return ClassCounts(
        codes.streams,
        tuple(_count(labelled.matrix(s, latents), classes) for s in codes.streams),
        tuple(top_rows.measure(labelled, s, top) for s in codes.streams if top),
    )


def merge(parts: Sequence[ClassCounts], *, top: int) -> ClassCounts:
    """The counts over the rows of all parts."""
    return ClassCounts(
        parts[0].streams,
        tuple(_sum(matrices) for matrices in zip(*(part.counts for part in parts), strict=True)),
        tuple(top_rows.merge(lists, top) for lists in zip(*(p.top for p in parts), strict=True)),
    )


def table(
    counts: ClassCounts,
    labels: Labels,
    code_set: CodeSet,
    *,
    top: int,
    groups: Groups,
    grouped: CodeRows,
) -> pa.Table:
    """Mean agreement by depth, pair, restriction and the latents averaged over, of `SCHEMA`.

    Args:
        counts: Counts over all rows, whose lists have entries to spare.
        labels: The labels that they were counted with.
        code_set: Which codes these are.
        top: Rows in a list of strongest rows.
        groups: The rows that are left out in turn.
        grouped: The codes of all rows that are in a group.
    """
    rows = []
    if len(counts.streams) > 1:
        for restriction, matrices in (
            ("all_rows", _leave_out(counts, labels, groups, grouped)),
            ("top_rows", _leave_out_of_top(counts, labels, groups, top)),
        ):
            for line in _averages(matrices, counts.streams, labels, groups):
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
    counts: ClassCounts, labels: Labels, groups: Groups, grouped: CodeRows
) -> list[sparse.csc_matrix]:
    """By stream, counts of all rows and of each group, (classes, latents * (1 + groups))."""
    each, latents = 1 + groups.number, counts.counts[0].shape[1]
    classes = labels.matrix[grouped.rows]
    group = groups.of_row[grouped.rows]
    result = []
    for stream, whole in zip(counts.streams, counts.counts, strict=True):
        # A latent in a group counts as a latent of its own.
        active = grouped.matrix(stream, latents)
        group_of = np.repeat(group, np.diff(active.indptr)).astype(np.int32)
        own = sparse.csr_matrix(
            (active.data, active.indices * np.int32(each) + group_of, active.indptr),
            shape=(len(grouped.rows), latents * each),
        )
        result.append(_spread(whole, each) + _count(own, classes))
    return result


def _leave_out_of_top(
    counts: ClassCounts, labels: Labels, groups: Groups, top: int
) -> list[sparse.csc_matrix]:
    """The same of the strongest rows: of a group, what all lists have more than those without it.

    Where a group's rows leave a list, others take their places: such counts may be negative.
    """
    each, latents = 1 + groups.number, counts.counts[0].shape[1]
    result = []
    for lists in counts.top:
        members = top_rows.members(lists, top, groups)
        whole = np.flatnonzero(members[0])
        group, changed = np.nonzero(members[1:] != members[0])
        line = lists.latents * each
        weights = sparse.coo_matrix(
            (
                np.concatenate([np.ones(len(whole)), np.where(members[0, changed], 1, -1)]),
                (
                    np.concatenate([line[whole], line[changed] + group + 1]),
                    lists.rows[np.concatenate([whole, changed])],
                ),
            ),
            shape=(latents * each, labels.matrix.shape[0]),
            dtype=np.int32,
        )
        weights.has_canonical_format = True  # It need not be sorted: no row is twice in a list.
        result.append((weights.tocsr() @ labels.matrix).T)
    return result


def _spread(matrix: sparse.csc_matrix, each: int) -> sparse.csc_matrix:
    """A matrix with `each` columns for every column: the column itself, and empty ones."""
    lengths = np.zeros((matrix.shape[1], each), np.int64)
    lengths[:, 0] = np.diff(matrix.indptr)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    return sparse.csc_matrix(
        (matrix.data, matrix.indices, ends), shape=(matrix.shape[0], lengths.size)
    )


# ---------------------------------------------------------------------- averaging


def _averages(
    matrices: Sequence[sparse.csc_matrix], streams: Sequence[str], labels: Labels, groups: Groups
) -> Iterator[dict[str, Any]]:
    """Every average of one restriction: the columns of `SCHEMA` from depth on."""
    each = 1 + groups.number
    latents = matrices[0].shape[1] // each
    pairs = list(combinations(range(len(streams)), 2))
    depths = sorted(labels.lifts, reverse=True)
    sums = np.zeros((len(depths), 1 + len(pairs), each))
    alive = np.zeros((1 + len(pairs), each), np.int64)
    for block in _blocks(matrices, each):
        totals = [counts.sum(axis=0, dtype=counts.dtype) for counts in block.counts]
        both = np.stack([(totals[a] > 0) & (totals[b] > 0) for a, b in pairs])
        pairs_alive = both.sum(axis=0)
        alive[0] += (pairs_alive > 0).sum(axis=-1)
        alive[1:] += both.sum(axis=-1)
        for place, counts in enumerate(_lifted(block, [labels.lifts[depth] for depth in depths])):
            values = np.zeros(both.shape)
            for value, (a, b) in zip(values, pairs, strict=True):
                smaller = np.minimum(counts[a], counts[b]).sum(axis=0, dtype=counts[a].dtype)
                value[:] = smaller / np.maximum(totals[a] + totals[b] - smaller, 1)
            values[~both] = 0
            sums[place, 0] += (values.sum(axis=0) / np.maximum(pairs_alive, 1)).sum(axis=-1)
            sums[place, 1:] += values.sum(axis=-1)
    names = [(None, None), *((streams[a], streams[b]) for a, b in pairs)]
    for depth, of_depth in zip(depths, sums, strict=True):
        for (first, second), total, counted in zip(names, of_depth, alive, strict=True):
            for kind, over in (("all", np.full(each, latents)), ("alive", counted)):
                with np.errstate(divide="ignore", invalid="ignore"):
                    means = total / over
                interval = jackknife(means, groups.share, least=0, most=1)
                yield {
                    "depth": depth,
                    "first": first,
                    "second": second,
                    "averaged_over": kind,
                    "latents": int(over[0]),
                    "value": nullable(means[0]),
                    "value_low": nullable(interval.low),
                    "value_high": nullable(interval.high),
                }


class _Block(NamedTuple):
    """Counts of some latents.

    Attributes:
        classes: The columns of the classes that any of them has, ascending, (n,).
        counts: By stream, A on all rows and without each group, (n, 1 + groups, latents) integers.
    """

    classes: npt.NDArray[np.int64]
    counts: list[npt.NDArray[Any]]


def _blocks(matrices: Sequence[sparse.csc_matrix], each: int) -> Iterator[_Block]:
    """The latents, so many at a time as dense arrays may hold."""
    classes, columns = matrices[0].shape
    sizes = [np.asarray(abs(matrix).sum(axis=0)).ravel() for matrix in matrices]
    step = each * max(1, _CELLS // classes)
    for start in range(0, columns, step):
        some = slice(start, start + step)
        # Half as wide numbers are twice as fast, where they hold the sums of two streams.
        dtype = np.int16 if max(size[some].max() for size in sizes) < 2**14 else np.int32
        parts = [matrix[:, some] for matrix in matrices]
        used = np.zeros(classes, np.bool_)
        for part in parts:
            used[part.indices] = True
        line = np.cumsum(used) - 1
        latents = parts[0].shape[1] // each
        # In memory the latents lie next to each other: long runs are what arrays are fast on.
        column = np.arange(latents * each).reshape(each, latents).T.ravel()
        counts = []
        for part in parts:
            dense = np.zeros((int(used.sum()), latents * each), dtype)
            columns_of = np.repeat(column, np.diff(part.indptr))
            dense[line[part.indices], columns_of] = part.data
            dense = dense.reshape(len(dense), each, latents)
            np.subtract(dense[:, :1], dense[:, 1:], out=dense[:, 1:])
            counts.append(dense)
        yield _Block(np.flatnonzero(used), counts)


def _lifted(
    block: _Block, lifts: Sequence[npt.NDArray[np.int64]]
) -> Iterator[list[npt.NDArray[Any]]]:
    """The counts at each depth, from the deepest: what one class stands for is summed."""
    classes, counts = block
    shape = counts[0].shape[1:]
    for lift in lifts:
        # What was lifted to the next deeper depth is lifted on from there. The classes are in the
        # order of the tree, so those that are lifted together stand together.
        stand_in = lift[classes]
        begins = np.flatnonzero(np.diff(stand_in, prepend=-1))
        if len(begins) < len(classes):
            ones = np.ones(len(classes), counts[0].dtype)
            ends = np.append(begins, len(classes))
            total = sparse.csr_matrix((ones, np.arange(len(classes)), ends))
            counts = [(total @ c.reshape(len(classes), -1)).reshape(-1, *shape) for c in counts]
            classes = stand_in[begins]
        yield counts
