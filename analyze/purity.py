"""Which class the rows of a latent mostly carry, and how much more often than any rows do.

See `REPORT.md` for the tables.
"""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from sparc.analyze.codes import CodeRows, CodeSet
from sparc.analyze.labels import Labels
from sparc.analyze.pictures import incidence
from sparc.analyze.top_rows import TopRows

SCHEMA = pa.schema(
    [
        pa.field("mode", pa.string(), nullable=False),
        pa.field("stream", pa.string(), nullable=False),
        pa.field("latent", pa.int32(), nullable=False),
        pa.field("restriction", pa.string(), nullable=False),
        pa.field("depth", pa.int32(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("class_id", pa.int32()),
        pa.field("rows_class", pa.int64(), nullable=False),
        pa.field("purity", pa.float64()),
        pa.field("base_rate", pa.float64()),
        pa.field("lift", pa.float64()),
    ]
)

MEANS_SCHEMA = pa.schema(
    [
        pa.field("mode", pa.string(), nullable=False),
        pa.field("control", pa.string(), nullable=False),
        pa.field("stream", pa.string(), nullable=False),
        pa.field("restriction", pa.string(), nullable=False),
        pa.field("depth", pa.int32(), nullable=False),
        pa.field("latents", pa.int32(), nullable=False),
        pa.field("purity", pa.float64()),
        pa.field("base_rate", pa.float64()),
    ]
)


class CarriedClasses(NamedTuple):
    """Which classes each row carries, at each depth but the root's.

    Attributes:
        class_ids: The `class_id` of each column, (classes,).
        matrices: By depth, (rows, classes) int32, 1 where a row carries a class.
    """

    class_ids: npt.NDArray[np.int64]
    matrices: Mapping[int, sparse.csr_matrix]


class RowCounts(NamedTuple):
    """What the rows of each latent carry at one depth, counted on labelled rows.

    Attributes:
        rows: Labelled rows on which a latent is active, (streams, latents) int64.
        carrying: By stream, how many of them carry a class, (latents, classes).
    """

    rows: npt.NDArray[np.int64]
    carrying: tuple[sparse.csr_matrix, ...]


def carried_classes(labels: Labels) -> CarriedClasses:
    """Lift the labels of all rows of the cache.

    Unlike agreement, which sums classes, this counts rows: one with two classes below an ancestor
    carries the ancestor once.
    """
    matrices = {}
    for depth, stand_in in labels.lifts.items():
        if depth > 0:
            own = labels.matrix
            matrix = sparse.csr_matrix((own.data, stand_in[own.indices], own.indptr), own.shape)
            matrix = matrix.copy()  # The labels keep their own arrays.
            matrix.sum_duplicates()
            matrix.data[:] = 1
            matrices[depth] = matrix
    return CarriedClasses(labels.class_ids, matrices)


def measure(codes: CodeRows, carried: sparse.csr_matrix, latents: int) -> RowCounts:
    """Count over some rows, at one depth: what all depths take together is several times as large.

    Args:
        codes: The rows.
        carried: What all rows of the cache carry at that depth.
        latents: L.
    """
    codes = codes.take(np.flatnonzero(np.diff(carried.indptr)[codes.rows]))
    classes = carried[codes.rows].T.tocsr()
    active = [_active(codes.matrix(stream, latents)) for stream in codes.streams]
    return RowCounts(
        np.stack([np.bincount(matrix.indices, minlength=latents) for matrix in active]),
        # Class by class: the order that is faster.
        tuple((classes @ matrix).T.tocsr() for matrix in active),
    )


def merge(parts: Sequence[RowCounts]) -> RowCounts:
    """The counts over the rows of all parts."""
    rows = np.sum([part.rows for part in parts], axis=0)
    of_streams = zip(*(part.carrying for part in parts), strict=True)
    return RowCounts(rows, tuple(reduce(operator.add, matrices) for matrices in of_streams))


def table(
    count: Callable[[sparse.csr_matrix], RowCounts],
    lists: Mapping[str, TopRows],
    carried: CarriedClasses,
    valid: npt.NDArray[np.bool_],
    code_set: CodeSet,
) -> pa.Table:
    """A row for each stream, depth, restriction and latent, of schema `SCHEMA`.

    Args:
        count: Counts over all analysed rows, given what they carry at a depth. It is asked for one
            depth after the other, and the counts of no two are held at a time.
        lists: By stream, the labelled rows on which each latent is strongest.
        carried: What all rows of the cache carry.
        valid: Which rows are analysed.
        code_set: Which codes these are.
    """
    pieces: dict[str, list[pa.Table]] = {stream: [] for stream in lists}
    for depth, matrix in carried.matrices.items():
        for stream, piece in _at_depth(depth, count(matrix), lists, carried, valid, code_set):
            pieces[stream].append(piece)
    return pa.concat_tables(piece for of_stream in pieces.values() for piece in of_stream)


def _at_depth(
    depth: int,
    counts: RowCounts,
    lists: Mapping[str, TopRows],
    carried: CarriedClasses,
    valid: npt.NDArray[np.bool_],
    code_set: CodeSet,
) -> Iterator[tuple[str, pa.Table]]:
    """Streams, and their rows of the table at one depth."""
    matrix, latents = carried.matrices[depth], counts.rows.shape[1]
    base_rates = _base_rates(matrix[valid])
    for s, (stream, top) in enumerate(lists.items()):
        listed = incidence(top.latents, top.rows, (latents, len(valid)))
        length = np.diff(listed.indptr).astype(np.int64)
        for restriction, rows, carrying in (
            ("all_rows", counts.rows[s], counts.carrying[s]),
            ("top_rows", length, (listed @ matrix).tocsr()),
        ):
            most = _most_frequent(carrying, base_rates)
            none = rows == 0
            purity = most.rows / np.maximum(rows, 1)
            # No base rate is zero where a latent has rows: one of them carries the class.
            base_rate = np.where(none, 1, base_rates[most.columns])
            columns = {
                "mode": [code_set.mode] * latents,
                "stream": [stream] * latents,
                "latent": np.arange(latents, dtype=np.int32),
                "restriction": [restriction] * latents,
                "depth": np.full(latents, depth, np.int32),
                "rows": rows,
                "class_id": pa.array(carried.class_ids[most.columns], pa.int32(), mask=none),
                "rows_class": most.rows,
                "purity": pa.array(purity, mask=none),
                "base_rate": pa.array(base_rate, mask=none),
                "lift": pa.array(purity / base_rate, mask=none),
            }
            yield stream, pa.table(columns, schema=SCHEMA)


def means(purity: pa.Table, code_set: CodeSet) -> pa.Table:
    """The means of `table` over the latents that have labelled rows, of `MEANS_SCHEMA`."""
    groups = ["stream", "restriction", "depth"]
    found = purity.group_by(groups, use_threads=False).aggregate(
        [("purity", "count"), ("purity", "mean"), ("base_rate", "mean")]
    )
    rows = [
        {
            "mode": code_set.mode,
            "control": code_set.control,
            **{name: row[name] for name in groups},
            "latents": row["purity_count"],
            "purity": row["purity_mean"],
            "base_rate": row["base_rate_mean"],
        }
        for row in found.to_pylist()
    ]
    return pa.Table.from_pylist(rows, schema=MEANS_SCHEMA)


class _MostFrequent(NamedTuple):
    """The class that most rows of each latent carry; column 0 and no rows where there is none."""

    columns: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]


def _most_frequent(
    carrying: sparse.csr_matrix, base_rates: npt.NDArray[np.float64]
) -> _MostFrequent:
    """Of classes that as many rows carry, the one that is rarer overall; then the first column."""
    latents = carrying.shape[0]
    most = carrying.max(axis=1).toarray().ravel().astype(np.int64)
    lines = np.repeat(np.arange(latents), np.diff(carrying.indptr))
    reached = np.flatnonzero(carrying.data == most[lines])
    lines, columns = lines[reached], carrying.indices[reached]
    order = np.lexsort((columns, base_rates[columns], lines))
    named, first = np.unique(lines[order], return_index=True)
    result = np.zeros(latents, np.int64)
    result[named] = columns[order[first]]
    return _MostFrequent(result, most)


def _active(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """1 where a latent is active, int32."""
    return (matrix > 0).astype(np.int32)


def _base_rates(carried: sparse.csr_matrix) -> npt.NDArray[np.float64]:
    """The share of the labelled rows that carry each class, (classes,)."""
    labelled = int(np.count_nonzero(np.diff(carried.indptr)))
    total = np.asarray(carried.sum(axis=0), dtype=np.float64).ravel()
    result: npt.NDArray[np.float64] = total / max(labelled, 1)
    return result
