"""Whether a latent stands for the same classes in every stream.

The definition is that of arXiv 2507.06265, section 4, in the form that `REPORT.md` gives. Beside it
stand the agreement of latents paired at random, and the excess over that. Every figure is computed
on all rows and without each fold, for its interval: an index or axis of length 1 + folds says
which, 0 being all rows.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse
from scipy.special import stdtrit

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.maths import half_samples
from sparc.analyze.maths.intervals import Interval, jackknife, nullable, with_interval
from sparc.analyze.maths.mispairing import DRAWS, mispaired, same_latents
from sparc.analyze.metrics.agreement_sums import (
    Restricted,
    sums_by_restriction,
    sums_on_half_samples,
    with_folds,
    with_folds_of_top,
)
from sparc.analyze.rows.folds import Folds
from sparc.analyze.rows.labels import Labels
from sparc.analyze.rows.top_rows import TopRows

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
        pa.field("mispaired", pa.float64()),
        pa.field("mispaired_sd", pa.float64()),
        pa.field("excess", pa.float64()),
        pa.field("excess_low", pa.float64()),
        pa.field("excess_high", pa.float64()),
    ]
)


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


def table(
    counts: ClassCounts,
    lists: Sequence[TopRows],
    labels: Labels,
    code_set: CodeSet,
    *,
    top: int,
    folds: Folds,
    fold_codes: CodeRows,
    seed: int,
) -> pa.Table:
    """Mean agreement by depth, pair, restriction and the latents averaged over, of `SCHEMA`.

    Args:
        counts: Counts over all rows.
        lists: By stream, the labelled rows on which each latent is strongest, with spare entries.
        labels: The labels that were counted.
        code_set: Which codes these are.
        top: Rows in a list of strongest rows.
        folds: The rows that are left out in turn.
        fold_codes: The codes of all rows that are in a fold.
        seed: Decides which latents are paired at random.
    """
    if len(counts.streams) < 2:
        return SCHEMA.empty_table()
    active = np.stack([np.asarray(matrix.sum(axis=0)).ravel() for matrix in counts.counts])
    pairings = [
        same_latents(*active.shape),
        *(mispaired(active, seed=seed, draw=draw) for draw in range(DRAWS)),
    ]
    # The strongest rows of a latent that is seldom active are all its rows.
    lengths = [np.bincount(stream.latents, minlength=counts.latents) for stream in lists]
    cut = np.max(lengths, axis=0) > top
    listed = np.any([pairing.with_partners(cut) for pairing in pairings], axis=0)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        all_rows_later = pool.map(
            partial(with_folds, labels, folds, fold_codes), counts.streams, counts.counts
        )
        top_rows = list(pool.map(partial(with_folds_of_top, labels, folds, top, listed), lists))
        all_rows = list(all_rows_later)
        add_up = partial(sums_by_restriction, labels, all_rows, top_rows, cut, pool)
        paired, *by_chance = map(add_up, pairings)
        on_samples = sums_on_half_samples(labels, all_rows, folds, pairings[0], pool)
    lines = []
    for number, restriction in enumerate(Restricted._fields):
        # Half-samples have no lists of strongest rows.
        samples = on_samples if restriction == "all_rows" else None
        draws = np.stack([draw[number] for draw in by_chance])
        for average in _averages(paired[number], draws, samples, counts, labels, folds):
            which = {"mode": code_set.mode, "control": code_set.control}
            lines.append({**which, "restriction": restriction, **average})
    return pa.Table.from_pylist(lines, schema=SCHEMA)


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


def _averages(
    sums: npt.NDArray[np.float64],
    by_chance: npt.NDArray[np.float64],
    on_samples: npt.NDArray[np.float64] | None,
    counts: ClassCounts,
    labels: Labels,
    folds: Folds,
) -> Iterator[dict[str, Any]]:
    """Every average of one restriction: the columns of `SCHEMA` from depth on.

    Args:
        sums: Of each latent with itself, as `sums_by_restriction` gives them.
        by_chance: Of latents paired at random, (draws, ...).
        on_samples: As `sums`, on samples of the images instead of folds; None where they are too
            few.
        counts: Counts over all rows.
        labels: The labels that were counted.
        folds: The rows that are left out in turn.
    """
    names = [(None, None), *combinations(counts.streams, 2)]
    for number, depth in enumerate(sorted(labels.lifts, reverse=True)):
        for pair, (first, second) in enumerate(names):
            total, alive = sums[number, :, pair]
            chance, chance_alive = np.moveaxis(by_chance[:, number, :, pair], 1, 0)
            with np.errstate(divide="ignore", invalid="ignore"):
                agreement, draws = total / alive, chance / chance_alive
                # If agreement is chance, it varies as a draw that pairs the same number of latents.
                errors = np.sqrt(chance_alive[:, 0].mean() / alive[0] + 1 / DRAWS)
            # Over all latents, those not alive in both streams count as 0 in either figure.
            for kind, share in (("all", alive / counts.latents), ("alive", np.ones_like(alive))):
                means, by_draw = (np.where(share > 0, x * share, 0) for x in (agreement, draws))
                expected, spread = by_draw.mean(axis=0), by_draw[:, 0].std(ddof=1)
                narrowing: Any = 1
                if on_samples is not None:
                    over = counts.latents if kind == "all" else on_samples[number, 1, pair]
                    with np.errstate(divide="ignore", invalid="ignore"):
                        figures = on_samples[number, 0, pair] / over
                    without = means[1 : 1 + half_samples.FOLDS]
                    narrowing = half_samples.narrowing(figures, without, folds.share)
                interval = jackknife(means, folds.share, narrowing=narrowing, least=0, most=1)
                yield {
                    "depth": depth,
                    "first": first,
                    "second": second,
                    "averaged_over": kind,
                    "latents": counts.latents if kind == "all" else int(alive[0]),
                    **with_interval("value", means[0], interval),
                    "mispaired": nullable(expected[0]),
                    "mispaired_sd": nullable(spread),
                    **_excess(means, expected, spread * errors, folds.share, narrowing),
                }


def _excess(
    figure: npt.NDArray[np.float64],
    chance: npt.NDArray[np.float64],
    error: float,
    share: float,
    narrowing: Any,
) -> dict[str, float | None]:
    """The excess (figure - chance) / (1 - chance) with its interval; null where chance is 1.

    The interval covers other images and other pairings. The latents are given, and a few pairs
    drawn at random may agree more than others would, however many rows there are: an interval over
    images alone would, on many rows, miss 0 where a latent of one stream says nothing about that
    of the other.

    Args:
        figure: On all rows and without each fold, (1 + folds,).
        chance: The mean over draws, likewise.
        error: The standard error of their difference over pairings.
        share: The share of the images that one fold has.
        narrowing: What the standard error of the figure over images is multiplied by.
    """
    room = np.where(chance < 1, 1 - chance, np.nan)
    excess = (figure - chance) / room
    over_images = jackknife(excess, share, narrowing=narrowing).high - excess[0]
    margin = np.hypot(over_images, stdtrit(DRAWS - 1, 0.975) * error / room[0])
    interval = Interval(excess[0] - margin, np.minimum(excess[0] + margin, 1))
    return with_interval("excess", excess[0], interval)
