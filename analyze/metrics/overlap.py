"""Whether two streams use a latent on the same rows, and with similar values.

See `REPORT.md` for the tables. Means are computed on all rows and without each fold, for their
intervals.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.maths.intervals import (
    Interval,
    degrees_of_freedom,
    jackknife_share,
    mean_of_known,
    with_interval,
)
from sparc.analyze.rows import top_rows
from sparc.analyze.rows.folds import Folds
from sparc.analyze.rows.top_rows import TopRows

SCHEMA = pa.schema(
    [
        pa.field("mode", pa.string(), nullable=False),
        pa.field("first", pa.string(), nullable=False),
        pa.field("second", pa.string(), nullable=False),
        pa.field("latent", pa.int32(), nullable=False),
        pa.field("rows_both", pa.int64(), nullable=False),
        pa.field("rows_either", pa.int64(), nullable=False),
        pa.field("rows_jaccard", pa.float64()),
        pa.field("top_overlap", pa.float64()),
        pa.field("correlation", pa.float64()),
    ]
)

MEANS_SCHEMA = pa.schema(
    [
        pa.field("mode", pa.string(), nullable=False),
        pa.field("control", pa.string(), nullable=False),
        pa.field("first", pa.string(), nullable=False),
        pa.field("second", pa.string(), nullable=False),
        pa.field("measure", pa.string(), nullable=False),
        pa.field("latents", pa.int32(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("value_low", pa.float64()),
        pa.field("value_high", pa.float64()),
    ]
)

ROWS_SCHEMA = pa.schema(
    [
        pa.field("mode", pa.string(), nullable=False),
        pa.field("control", pa.string(), nullable=False),
        pa.field("first", pa.string(), nullable=False),
        pa.field("second", pa.string(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("jaccard", pa.float64()),
        pa.field("jaccard_low", pa.float64()),
        pa.field("jaccard_high", pa.float64()),
        pa.field("cosine", pa.float64()),
        pa.field("cosine_low", pa.float64()),
        pa.field("cosine_high", pa.float64()),
    ]
)

Floats = npt.NDArray[np.float64]


class PairCounts(NamedTuple):
    """Sums over rows, by stream or pair of streams, and latent.

    Pairs are in the order of `itertools.combinations`: (0, 1), (0, 2), (1, 2), and so on.

    Attributes:
        rows: Number of rows.
        active: Rows with a value above zero, (streams, latents) int64.
        value_sum: Sum of values, (streams, latents) float64.
        square_sum: Sum of squared values, (streams, latents) float64.
        both: Rows on which the latent is active in both streams, (pairs, latents) int64.
        product_sum: Sum of the products of their values, (pairs, latents) float64.
        of_rows: Over the rows on which a latent is active in either stream: their number, the sum
            of the Jaccards of the latents active in the two streams, and that of the cosines of
            the two codes, (pairs, 3) float64.
    """

    rows: int
    active: npt.NDArray[np.int64]
    value_sum: Floats
    square_sum: Floats
    both: npt.NDArray[np.int64]
    product_sum: Floats
    of_rows: Floats

    def without(self, others: "PairCounts") -> "PairCounts":
        """The sums over the rows that are not among others'."""
        differences: Any = (a - b for a, b in zip(self, others, strict=True))  # type: ignore[operator]
        return PairCounts(*differences)


def count_pairs(codes: CodeRows, latents: int) -> PairCounts:
    """Count over some rows; `latents` is L."""
    matrices = [codes.matrix(stream, latents).astype(np.float64) for stream in codes.streams]
    products = [a.multiply(b).tocsr() for a, b in combinations(matrices, 2)]
    return PairCounts(
        len(codes.rows),
        _sums(matrices, latents, 0).astype(np.int64),
        _sums(matrices, latents, 1),
        _sums(matrices, latents, 2),
        _sums(products, latents, 0).astype(np.int64),
        _sums(products, latents, 1),
        _sums_of_rows(matrices, products),
    )


def merge(parts: Sequence[PairCounts]) -> PairCounts:
    """The counts over the rows of all parts."""
    return PairCounts(*(sum(sums) for sums in zip(*parts, strict=True)))


def table(
    pairs: PairCounts, streams: Sequence[str], top: Sequence[TopRows], code_set: CodeSet
) -> pa.Table:
    """A row for each pair of streams and latent, of schema `SCHEMA`.

    Args:
        pairs: Counts of pairs.
        streams: The streams, in order.
        top: The strongest rows, by stream.
        code_set: Which codes these are.
    """
    latents = pairs.active.shape[1]
    columns = _columns(pairs)
    pieces = [SCHEMA.empty_table()]
    for position, (a, b) in enumerate(combinations(range(len(streams)), 2)):
        both = np.ones((1, len(top[a].rows)), np.bool_), np.ones((1, len(top[b].rows)), np.bool_)
        (top_overlap,) = _top_overlap(top[a], top[b], *both, latents)
        columns_of_pair = {
            "mode": [code_set.mode] * latents,
            "first": [streams[a]] * latents,
            "second": [streams[b]] * latents,
            "latent": np.arange(latents, dtype=np.int32),
            "rows_both": pairs.both[position],
            "rows_either": pairs.active[a] + pairs.active[b] - pairs.both[position],
            "rows_jaccard": _nullable(columns.rows_jaccard[position]),
            "top_overlap": _nullable(top_overlap),
            "correlation": _nullable(columns.correlation[position]),
        }
        pieces.append(pa.table(columns_of_pair, schema=SCHEMA))
    return pa.concat_tables(pieces)


def means(
    pairs: PairCounts,
    streams: Sequence[str],
    top: Sequence[TopRows],
    code_set: CodeSet,
    *,
    length: int,
    folds: Folds,
    fold_codes: CodeRows,
) -> pa.Table:
    """The mean of each column of `table` over the latents where it is not null, of `MEANS_SCHEMA`.

    Args:
        pairs: Counts of pairs.
        streams: The streams, in order.
        top: The strongest rows, by stream, with spare entries.
        code_set: Which codes these are.
        length: Rows of such a list, without the spare ones.
        folds: The rows that are left out in turn.
        fold_codes: The codes of all rows that are in a fold.
    """
    latents = pairs.active.shape[1]
    columns = [_columns(pairs)]  # on all rows, then without each fold
    fold = folds.of_row[fold_codes.rows]
    for left_out in range(1, 1 + folds.number):
        of_fold = count_pairs(fold_codes.take(np.flatnonzero(fold == left_out)), latents)
        columns.append(_columns(pairs.without(of_fold)))
    rows_jaccard, correlation, disjoint = map(np.stack, zip(*columns, strict=True))
    members = [top_rows.members(lists, length, folds) for lists in top]
    rows = []
    for position, (a, b) in enumerate(combinations(range(len(streams)), 2)):
        lengths = [_lengths(top[s], members[s][0], latents) for s in (a, b)]
        measures = {
            "rows_jaccard": _Cases(rows_jaccard[:, position]),
            "top_overlap": _Cases(
                _top_overlap(top[a], top[b], members[a], members[b], latents),
                lengths=np.maximum(*lengths),
            ),
            "correlation": _Cases(correlation[:, position], disjoint=disjoint[:, position]),
        }
        rows += [
            {
                "mode": code_set.mode,
                "control": code_set.control,
                "first": streams[a],
                "second": streams[b],
                "measure": name,
                **_mean(cases, folds),
            }
            for name, cases in measures.items()
        ]
    return pa.Table.from_pylist(rows, schema=MEANS_SCHEMA)


def row_table(
    pairs: PairCounts,
    streams: Sequence[str],
    code_set: CodeSet,
    *,
    folds: Folds,
    fold_codes: CodeRows,
) -> pa.Table:
    """How alike the codes of a row are, a line for each pair of streams, of `ROWS_SCHEMA`.

    Args:
        pairs: Counts of pairs.
        streams: The streams, in order.
        code_set: Which codes these are.
        folds: The rows that are left out in turn.
        fold_codes: The codes of all rows that are in a fold.
    """
    latents, fold = pairs.active.shape[1], folds.of_row[fold_codes.rows]
    sums = [pairs.of_rows]  # on all rows, then without each fold
    for left_out in range(1, 1 + folds.number):
        of_fold = fold_codes.take(np.flatnonzero(fold == left_out))
        matrices = [of_fold.matrix(s, latents).astype(np.float64) for s in streams]
        products = [a.multiply(b).tocsr() for a, b in combinations(matrices, 2)]
        sums.append(pairs.of_rows - _sums_of_rows(matrices, products))
    numbers, totals = np.stack(sums)[..., :1], np.stack(sums)[..., 1:]
    means = totals / np.where(numbers > 0, numbers, np.nan)
    # Rows on which neither stream is active say nothing: only the others' images are trials.
    trials = np.maximum(1, folds.images * numbers[0] / max(1, pairs.rows))
    interval = jackknife_share(means, folds.share, trials)
    lines = [
        {
            "mode": code_set.mode,
            "control": code_set.control,
            "first": first,
            "second": second,
            "rows": int(pairs.of_rows[pair, 0]),
            **with_interval("jaccard", means[0, pair, 0], interval, (pair, 0)),
            **with_interval("cosine", means[0, pair, 1], interval, (pair, 1)),
        }
        for pair, (first, second) in enumerate(combinations(streams, 2))
    ]
    return pa.Table.from_pylist(lines, schema=ROWS_SCHEMA)


class _Cases(NamedTuple):
    """A column of `SCHEMA` for a pair of streams: on all rows, then without each fold.

    Attributes:
        values: (1 + folds, latents), at most 1; NaN for null.
        lengths: If a value is a share of list entries: how many, on all rows, (latents,).
        disjoint: The values if no row were common, (1 + folds, latents); None where they are 0.
    """

    values: Floats
    lengths: npt.NDArray[np.int64] | None = None
    disjoint: Floats | None = None


def _mean(cases: _Cases, folds: Folds) -> dict[str, float | int | None]:
    """The mean over the latents that have a value: columns of `MEANS_SCHEMA` from `latents` on."""
    figures, known = mean_of_known(cases.values), ~np.isnan(cases.values[0])
    # The number of independent trials if nothing varies: one per latent, or per list entry.
    trials = float(known.sum())
    if cases.lengths is not None and known.any():
        trials = trials**2 / (1 / cases.lengths[known]).sum()
    # With few common rows, the mean lies close to its value without any, so a symmetric interval
    # would have poor coverage: it is made for the share of the way to 1.
    least, degrees = np.zeros(1), None
    if cases.disjoint is not None:
        least = mean_of_known(cases.disjoint)
    shares = (figures - least) / (1 - least)
    if cases.disjoint is not None:
        # Common rows of strong and rare latents dominate a correlation.
        degrees = degrees_of_freedom(shares[1:])
    trials = min(folds.images, max(1.0, trials))
    of_shares = jackknife_share(shares, folds.share, trials, degrees=degrees)
    interval = Interval(*(least[0] + (1 - least[0]) * end for end in of_shares))
    return {"latents": int(known.sum()), **with_interval("value", figures[0], interval)}


def _sums(matrices: Sequence[Any], latents: int, power: int) -> Floats:
    """By matrix (rows, latents) and latent, the sum of a power of the nonzero values."""
    result = np.zeros((len(matrices), latents))
    for line, matrix in zip(result, matrices, strict=True):
        line[:] = np.bincount(matrix.indices, weights=matrix.data**power, minlength=latents)
    return result


def _sums_of_rows(matrices: Sequence[Any], products: Sequence[Any]) -> Floats:
    """`PairCounts.of_rows` from the codes (rows, latents) of each stream, and their products."""
    sizes = [np.diff(matrix.indptr) for matrix in matrices]
    norms = [np.sqrt(np.asarray(m.multiply(m).sum(axis=1)).ravel()) for m in matrices]
    result = np.zeros((len(products), 3))
    for line, product, (a, b) in zip(
        result, products, combinations(range(len(matrices)), 2), strict=True
    ):
        both, dot = np.diff(product.indptr), np.asarray(product.sum(axis=1)).ravel()
        either, lengths = sizes[a] + sizes[b] - both, norms[a] * norms[b]
        some = lengths > 0  # A zero vector has a cosine of 0.
        cosines = np.divide(dot, lengths, out=np.zeros(len(dot)), where=some)
        line[:] = (
            np.count_nonzero(either),
            (both / np.maximum(either, 1)).sum(),
            np.minimum(cosines, 1).sum(),
        )
    return result


class _Columns(NamedTuple):
    """Columns of `SCHEMA` that follow from sums alone, (pairs, latents) each; NaN for null.

    Attributes:
        rows_jaccard: As in `SCHEMA`.
        correlation: As in `SCHEMA`.
        disjoint: The correlation of a latent if its rows in the two streams were disjoint.
    """

    rows_jaccard: Floats
    correlation: Floats
    disjoint: Floats


def _columns(pairs: PairCounts) -> _Columns:
    first, second = np.triu_indices(len(pairs.active), 1)
    either = pairs.active[first] + pairs.active[second] - pairs.both
    disjoint = pairs._replace(product_sum=np.zeros_like(pairs.product_sum))
    with np.errstate(divide="ignore", invalid="ignore"):
        return _Columns(
            rows_jaccard=pairs.both / either,
            correlation=_correlation(pairs, first, second),
            disjoint=_correlation(disjoint, first, second),
        )


def _top_overlap(
    a: TopRows,
    b: TopRows,
    members_a: npt.NDArray[np.bool_],
    members_b: npt.NDArray[np.bool_],
    latents: int,
) -> Floats:
    """Common rows of two streams' lists, divided by the longer's length; NaN if both are empty.

    Args:
        a: The lists of one stream.
        b: Those of the other.
        members_a: Which entries belong to the lists, in each case, (cases, entries).
        members_b: The same for the other stream.
        latents: L.

    Returns:
        (cases, latents).
    """
    _, at_a, at_b = np.intersect1d(
        a.keys(a.rows), b.keys(b.rows), assume_unique=True, return_indices=True
    )
    common_latents = a.latents[at_a]
    result = np.empty((len(members_a), latents))
    for line, in_a, in_b in zip(result, members_a, members_b, strict=True):
        common = np.bincount(common_latents[in_a[at_a] & in_b[at_b]], minlength=latents)
        lengths = _lengths(a, in_a, latents), _lengths(b, in_b, latents)
        with np.errstate(invalid="ignore"):
            line[:] = common / np.maximum(*lengths)
    return result


def _lengths(lists: TopRows, among: npt.NDArray[np.bool_], latents: int) -> npt.NDArray[np.int64]:
    """The number of entries that are `among` them in the list of each latent, (latents,)."""
    return np.bincount(lists.latents[among], minlength=latents)


def _correlation(pairs: PairCounts, first: Any, second: Any) -> Any:
    """Pearson's correlation over all rows; a latent that is not active has the value zero."""
    n = pairs.rows
    variance = n * pairs.square_sum - pairs.value_sum**2
    # The variance of a constant value is a rounding error.
    varies = (pairs.active > 0) & (variance > _ROUNDING * n * pairs.square_sum)
    spread = np.sqrt(np.maximum(variance, 0))
    covariance = n * pairs.product_sum - pairs.value_sum[first] * pairs.value_sum[second]
    result = covariance / (spread[first] * spread[second])
    return np.where(varies[first] & varies[second], np.clip(result, -1, 1), np.nan)


_ROUNDING = 1e-12


def _nullable(values: Floats) -> pa.Array:
    return pa.array(values, mask=np.isnan(values))
