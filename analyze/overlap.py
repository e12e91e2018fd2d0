"""Whether two streams use a latent on the same rows, and with like values.

See `REPORT.md` for the tables.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparc.analyze.codes import CodeRows, CodeSet
from sparc.analyze.latents import LatentCounts
from sparc.analyze.top_rows import TopRows

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
    ]
)

_MEASURES = ("rows_jaccard", "top_overlap", "correlation")


class PairCounts(NamedTuple):
    """Sums over rows, by pair of streams and latent.

    Pairs are in the order of `itertools.combinations`: (0, 1), (0, 2), (1, 2), and so on.

    Attributes:
        both: Rows on which the latent is active in both streams, (pairs, latents) int64.
        product_sum: Sum of the products of their values, (pairs, latents) float64.
    """

    both: npt.NDArray[np.int64]
    product_sum: npt.NDArray[np.float64]


def measure(codes: CodeRows, latents: int) -> PairCounts:
    """Count over some rows; `latents` is L."""
    matrices = [codes.matrix(stream, latents).astype(np.float64) for stream in codes.streams]
    pairs = list(combinations(range(len(matrices)), 2))
    both = np.zeros((len(pairs), latents), np.int64)
    sums = np.zeros((len(pairs), latents), np.float64)
    for position, (a, b) in enumerate(pairs):
        product = matrices[a].multiply(matrices[b]).tocsr()
        both[position] = np.bincount(product.indices, minlength=latents)
        sums[position] = np.bincount(product.indices, weights=product.data, minlength=latents)
    return PairCounts(both, sums)


def merge(parts: Sequence[PairCounts]) -> PairCounts:
    """The counts over the rows of all parts."""
    return PairCounts(
        sum(part.both for part in parts),  # type: ignore[arg-type]
        sum(part.product_sum for part in parts),  # type: ignore[arg-type]
    )


def table(pairs: PairCounts, counts: LatentCounts, code_set: CodeSet) -> pa.Table:
    """A row for each pair of streams and latent, of schema `SCHEMA`.

    Args:
        pairs: Counts of pairs.
        counts: Counts of each stream over the same rows.
        code_set: Which codes these are.
    """
    latents = counts.active.shape[1]
    pieces = [SCHEMA.empty_table()]
    for position, (a, b) in enumerate(combinations(range(len(counts.streams)), 2)):
        both = pairs.both[position]
        either = counts.active[a] + counts.active[b] - both
        with np.errstate(divide="ignore", invalid="ignore"):
            jaccard = both / either
            columns = {
                "mode": [code_set.mode] * latents,
                "first": [counts.streams[a]] * latents,
                "second": [counts.streams[b]] * latents,
                "latent": np.arange(latents, dtype=np.int32),
                "rows_both": both,
                "rows_either": either,
                "rows_jaccard": _nullable(jaccard),
                "top_overlap": _nullable(_top_overlap(counts.top[a], counts.top[b], latents)),
                "correlation": _nullable(_correlation(pairs.product_sum[position], counts, a, b)),
            }
        pieces.append(pa.table(columns, schema=SCHEMA))
    return pa.concat_tables(pieces)


def means(overlap: pa.Table, code_set: CodeSet) -> pa.Table:
    """The mean of each column of `table` over the latents that have it, of `MEANS_SCHEMA`."""
    if not len(overlap):
        return MEANS_SCHEMA.empty_table()
    found = overlap.group_by(["first", "second"], use_threads=False).aggregate(
        [(name, kind) for name in _MEASURES for kind in ("mean", "count")]
    )
    rows = [
        {
            "mode": code_set.mode,
            "control": code_set.control,
            "first": row["first"],
            "second": row["second"],
            "measure": name,
            "latents": row[f"{name}_count"],
            "value": row[f"{name}_mean"],
        }
        for row in found.to_pylist()
        for name in _MEASURES
    ]
    return pa.Table.from_pylist(rows, schema=MEANS_SCHEMA)


def _top_overlap(a: TopRows, b: TopRows, latents: int) -> Any:
    """Common rows of two lists by the length of the longer; NaN where both are empty."""
    keys_a, keys_b = _keys(a), _keys(b)
    common = a.latents[np.isin(keys_a, keys_b, assume_unique=True)]
    longer = np.maximum(
        np.bincount(a.latents, minlength=latents), np.bincount(b.latents, minlength=latents)
    )
    return np.bincount(common, minlength=latents) / longer


def _keys(top: TopRows) -> Any:
    # No cache has 2^40 rows, no dictionary 2^23 latents.
    return (top.latents << 40) | top.rows


def _correlation(products: Any, counts: LatentCounts, a: int, b: int) -> Any:
    """Pearson's correlation over all rows, a latent that is not active having the value zero."""
    n = counts.rows
    covariance = n * products - counts.value_sum[a] * counts.value_sum[b]
    variance_a = n * counts.square_sum[a] - counts.value_sum[a] ** 2
    variance_b = n * counts.square_sum[b] - counts.value_sum[b] ** 2
    alive = (counts.active[a] > 0) & (counts.active[b] > 0)
    # A constant value leaves rounding errors where its variance is zero.
    varies = (variance_a > _ROUNDING * n * counts.square_sum[a]) & (
        variance_b > _ROUNDING * n * counts.square_sum[b]
    )
    result = covariance / np.sqrt(np.maximum(variance_a, 0) * np.maximum(variance_b, 0))
    return np.where(alive & varies, np.clip(result, -1, 1), np.nan)


_ROUNDING = 1e-12


def _nullable(values: npt.NDArray[np.float64]) -> pa.Array:
    return pa.array(values, mask=np.isnan(values))
