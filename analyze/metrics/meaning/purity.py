"""The most frequent class of a latent's rows, and how much more frequent it is on these.

See `REPORT.md` for the tables. Means are computed on all rows and without each fold, for their
intervals.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.maths.intervals import jackknife, mean_of_known, nullable, with_interval
from sparc.analyze.metrics.meaning.row_counts import RowCounts
from sparc.analyze.rows import top_rows
from sparc.analyze.rows.folds import Folds, active_by_fold
from sparc.analyze.rows.labels import Labels
from sparc.analyze.rows.top_rows import TopRows

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
        pa.field("purity_low", pa.float64()),
        pa.field("purity_high", pa.float64()),
        pa.field("base_rate", pa.float64()),
    ]
)

_CELLS = 1 << 22  # Latents times classes in a block: 16 MB.


class ActiveRows(NamedTuple):
    """On which labelled rows the latents of a stream are active; the same at every depth.

    Attributes:
        in_folds: The active rows in each fold, (folds * latents, rows), 0 or 1.
        listed: The strongest rows: `sparc.analyze.rows.top_rows.changes`.
    """

    in_folds: sparse.csr_matrix
    listed: sparse.csr_matrix


def active_rows(
    lists: TopRows,
    fold_codes: CodeRows,
    stream: str,
    folds: Folds,
    *,
    top: int,
    shape: tuple[int, int],
) -> ActiveRows:
    """Collect what every depth needs of a stream's codes.

    Args:
        lists: The labelled rows on which each latent is strongest, with spare entries.
        fold_codes: The codes of all labelled rows that are in a fold.
        stream: The stream.
        folds: The folds.
        top: Rows in a list of strongest rows.
        shape: L, and the number of rows of the cache.
    """
    latents, rows = shape
    active = active_by_fold(fold_codes, stream, latents, folds).T.tocsr()
    return ActiveRows(
        sparse.csr_matrix(
            (active.data, fold_codes.rows[active.indices], active.indptr),
            shape=(active.shape[0], rows),
        ),
        top_rows.changes(lists, top, folds, shape),
    )


class Tables(NamedTuple):
    """The tables of all depths.

    Attributes:
        purity: A row for each stream, depth, restriction and latent, of `SCHEMA`.
        means: Means over the latents that have labelled rows, of `MEANS_SCHEMA`.
    """

    purity: pa.Table
    means: pa.Table


def tables(
    count: Callable[[int], RowCounts],
    active: Mapping[str, ActiveRows],
    labels: Labels,
    valid: npt.NDArray[np.bool_],
    code_set: CodeSet,
    share: float,
) -> Tables:
    """Purity, and its means with their intervals.

    Args:
        count: From a depth of the classes to the counts over analysed rows at that depth.
        active: By stream, in the order of the counts.
        labels: The labels of all rows of the cache.
        valid: Which rows are analysed.
        code_set: Which codes these are.
        share: The share of the images in one fold.
    """
    pieces: dict[str, list[pa.Table]] = {stream: [] for stream in active}
    lines: dict[str, list[dict[str, Any]]] = {stream: [] for stream in active}
    for depth in labels.lifts:
        if depth == 0:
            continue  # All rows carry the root.
        matrix = labels.at_depth(depth)
        rates = base_rates(matrix[valid])
        # No variable holds the counts, so they are freed before those of the next depth.
        for stream, restriction, purity in _at_depth(count(depth), active, matrix, rates):
            where = {"stream": stream, "restriction": restriction, "depth": depth}
            pieces[stream].append(_piece(purity, where, labels.class_ids, code_set))
            lines[stream].append(_line(purity, where, code_set, share))
    return Tables(
        pa.concat_tables(chain.from_iterable(pieces.values())),
        pa.Table.from_pylist(list(chain.from_iterable(lines.values())), schema=MEANS_SCHEMA),
    )


def _at_depth(
    counts: RowCounts,
    active: Mapping[str, ActiveRows],
    carried: sparse.csr_matrix,
    base_rates: npt.NDArray[np.float64],
) -> Iterator[tuple[str, str, "_Purity"]]:
    """The purity for each stream and restriction, at one depth.

    Args:
        counts: Counts over all rows.
        active: By stream.
        carried: The classes of all rows of the cache, (rows, classes).
        base_rates: Of each class, (classes,).
    """
    for (stream, of), number, carrying in zip(
        active.items(), counts.rows, counts.carrying, strict=True
    ):
        every = _all_rows(number, carrying, of.in_folds, carried)
        yield stream, "all_rows", _measured(every, base_rates)
        strongest = _top_rows(of.listed, carried, len(number))
        yield stream, "top_rows", _measured(strongest, base_rates)


class _Rows(NamedTuple):
    """Labelled rows of each latent of a stream.

    Attributes:
        number: Number of rows: of all, then without each fold, (1 + folds, latents).
        carrying: How many carry each class, (latents, classes).
        lost: By fold, how many of them are lost without it, (folds * latents, classes).
    """

    number: npt.NDArray[np.int64]
    carrying: sparse.csr_matrix
    lost: sparse.csr_matrix


def _all_rows(
    rows: npt.NDArray[np.int64],
    carrying: sparse.csr_matrix,
    in_folds: sparse.csr_matrix,
    carried: sparse.csr_matrix,
) -> _Rows:
    """All rows of each latent of a stream.

    Args:
        rows: Number of rows, (latents,).
        carrying: How many of them carry each class, (latents, classes).
        in_folds: As in `ActiveRows`.
        carried: The classes of all rows of the cache, (rows, classes).
    """
    lost = np.diff(in_folds.indptr).reshape(-1, len(rows))
    return _Rows(np.concatenate([rows[None], rows - lost]), carrying, in_folds @ carried)


def _top_rows(listed: sparse.csr_matrix, carried: sparse.csr_matrix, latents: int) -> _Rows:
    """The strongest rows of each latent of a stream: where some are left out, others move up.

    Args:
        listed: As in `ActiveRows`.
        carried: The classes of all rows of the cache, (rows, classes).
        latents: L.
    """
    number = np.asarray(listed.sum(axis=1, dtype=np.int64)).reshape(-1, latents)
    number[1:] = number[0] - number[1:]
    carrying = listed @ carried
    return _Rows(number, carrying[:latents], carrying[latents:])


class _Purity(NamedTuple):
    """The purity of the latents of a stream, at a depth and under a restriction.

    Attributes:
        rows: Number of labelled rows, (latents,).
        most: The most frequent class.
        purity: On all rows, then without each fold, (1 + folds, latents); NaN without rows.
        base_rate: Of the class, (latents,); NaN without rows.
    """

    rows: npt.NDArray[np.int64]
    most: "_MostFrequent"
    purity: npt.NDArray[np.float64]
    base_rate: npt.NDArray[np.float64]


def _measured(rows: _Rows, base_rates: npt.NDArray[np.float64]) -> _Purity:
    most = _most_frequent(rows.carrying, base_rates)
    largest = np.concatenate([most.rows[None], _most_without(rows)])
    with np.errstate(invalid="ignore"):
        purity = largest / rows.number
    whole = rows.number[0]
    return _Purity(whole, most, purity, np.where(whole > 0, base_rates[most.columns], np.nan))


def _most_without(rows: _Rows) -> npt.NDArray[np.int64]:
    """The number of rows of the most frequent class without each fold, (folds, latents).

    The class may differ from that on all rows. Blocks of latents fit a dense table, from which each
    fold is subtracted in turn.
    """
    latents, classes = rows.carrying.shape
    result = np.empty((rows.lost.shape[0] // latents, latents), np.int64)
    step = max(1, _CELLS // classes)
    for start in range(0, latents, step):
        block = range(start, min(start + step, latents))
        table = rows.carrying[block.start : block.stop].toarray()
        cells, lines = table.reshape(-1), np.arange(0, table.size, classes)
        for fold, most in enumerate(result[:, block.start : block.stop]):
            first = fold * latents
            begins = rows.lost.indptr[first + block.start : first + block.stop + 1]
            inside = slice(begins[0], begins[-1])
            places = np.repeat(lines, np.diff(begins)) + rows.lost.indices[inside]
            cells[places] -= rows.lost.data[inside]  # Positions are unique.
            most[:] = table.max(axis=1)
            cells[places] += rows.lost.data[inside]
    return result


def _piece(
    purity: _Purity,
    where: Mapping[str, Any],
    class_ids: npt.NDArray[np.int64],
    code_set: CodeSet,
) -> pa.Table:
    """The rows of `SCHEMA`."""
    latents, none = len(purity.rows), purity.rows == 0
    # Copies: a view would keep the whole array in memory.
    rows, values = purity.rows.copy(), purity.purity[0].copy()
    columns = {
        "mode": [code_set.mode] * latents,
        "latent": np.arange(latents, dtype=np.int32),
        **{name: [value] * latents for name, value in where.items()},
        "rows": rows,
        "class_id": pa.array(class_ids[purity.most.columns], pa.int32(), mask=none),
        "rows_class": purity.most.rows,
        "purity": pa.array(values, mask=none),
        "base_rate": pa.array(purity.base_rate, mask=none),
        "lift": pa.array(values / purity.base_rate, mask=none),
    }
    return pa.table(columns, schema=SCHEMA)


def _line(
    purity: _Purity, where: Mapping[str, Any], code_set: CodeSet, share: float
) -> dict[str, Any]:
    """The row of `MEANS_SCHEMA`."""
    figures = mean_of_known(purity.purity)
    interval = jackknife(figures, share, least=0, most=1)
    return {
        "mode": code_set.mode,
        "control": code_set.control,
        **where,
        "latents": int(np.count_nonzero(purity.rows)),
        **with_interval("purity", figures[0], interval),
        "base_rate": nullable(mean_of_known(purity.base_rate)),
    }


class _MostFrequent(NamedTuple):
    """The most frequent class of each latent, (latents,): column 0 and 0 rows if it has no rows."""

    columns: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]


def _most_frequent(
    carrying: sparse.csr_matrix, base_rates: npt.NDArray[np.float64]
) -> _MostFrequent:
    """Ties go to the class that is rarer overall, then to the first column."""
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


def base_rates(carried: sparse.csr_matrix) -> npt.NDArray[np.float64]:
    """The share of the labelled rows that carry each class, (classes,)."""
    labelled = int(np.count_nonzero(np.diff(carried.indptr)))
    total = np.asarray(carried.sum(axis=0), dtype=np.float64).ravel()
    result: npt.NDArray[np.float64] = total / max(labelled, 1)
    return result
