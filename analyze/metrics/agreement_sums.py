"""Sums of agreement over latents: on all rows, without each fold, and on samples of the images.

`sparc.analyze.metrics.agreement` makes its averages, and their intervals, of these sums. With A and
B the counts of classes of a latent in two streams, A + B = min + max and |A - B| = max - min, so

    agreement = sum min / sum max = (sum (A + B) - distance) / (sum (A + B) + distance)

with the distance sum |A - B| of `sparc.analyze.maths.lifted_distances`.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.maths import half_samples
from sparc.analyze.maths.lifted_distances import fold_distances, sample_distances
from sparc.analyze.maths.mispairing import Pair, Pairing
from sparc.analyze.rows import top_rows
from sparc.analyze.rows.folds import Folds, active_by_fold
from sparc.analyze.rows.labels import Labels
from sparc.analyze.rows.top_rows import TopRows

Floats = npt.NDArray[np.float64]

_CELLS = 1 << 18  # Latents times classes in a block, for each pair of streams.


class Restricted(NamedTuple):
    """Sums under each restriction of the rows; the names are those of the column `restriction`."""

    all_rows: Floats
    top_rows: Floats


# ---------------------------------------------------------------------- counts by fold


def with_folds(
    labels: Labels, folds: Folds, fold_codes: CodeRows, stream: str, counts: sparse.csc_matrix
) -> sparse.csr_matrix:
    """A stream's counts on all rows, then in each fold: ((1 + folds) * latents, classes).

    Args:
        labels: The labels that were counted.
        folds: The rows that are left out in turn.
        fold_codes: The codes of all rows that are in a fold.
        stream: The stream.
        counts: Its counts on all rows, (classes, latents).
    """
    classes = labels.matrix[fold_codes.rows]
    lost = active_by_fold(fold_codes, stream, counts.shape[1], folds).tocsc().T @ classes
    lost.sort_indices()
    return _canonical(sparse.vstack([counts.T, lost], format="csr"))


def with_folds_of_top(
    labels: Labels, folds: Folds, top: int, latents: npt.NDArray[np.bool_], lists: TopRows
) -> sparse.csr_matrix:
    """The same counts on a stream's strongest rows only, of some latents.

    What belongs to a fold is the difference between the lists of all rows and those without the
    fold: such counts may be negative.

    Args:
        labels: The labels that were counted.
        folds: The rows that are left out in turn.
        top: Rows in a list of strongest rows.
        latents: Which latents, (latents,); the others have no counts.
        lists: The labelled rows on which each latent is strongest, with spare entries.
    """
    some = lists.take(latents[lists.latents])
    shape = len(latents), labels.matrix.shape[0]
    listed = top_rows.changes(some, top, folds, shape) @ labels.matrix
    listed.sort_indices()
    return _canonical(listed)


def _canonical(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """The same matrix; SciPy need not check that its indices ascend and are unique."""
    matrix.has_canonical_format = True
    return matrix


# ---------------------------------------------------------------------- sums over latents


def sums_by_restriction(
    labels: Labels,
    all_rows: Sequence[sparse.csr_matrix],
    strongest: Sequence[sparse.csr_matrix],
    cut: npt.NDArray[np.bool_],
    pool: ThreadPoolExecutor,
    pairing: Pairing,
) -> Restricted:
    """The sums of a pairing on all rows and on the strongest rows.

    Args:
        labels: The labels that were counted.
        all_rows: By stream, the counts of `with_folds`.
        strongest: By stream, those of `with_folds_of_top`; not needed of latents that are neither
            cut nor compared with one that is, since their strongest rows are all their rows.
        cut: Which latents are active on more rows than a list of the strongest has, (latents,).
        pool: Takes one block of latents per thread.
        pairing: Which latents are compared.

    Returns:
        Sums as `_sums` gives them; NaN where a pair of streams has no partners.
    """
    involved = pairing.involves(cut)
    add_up = partial(_sums, labels, len(cut), pairing.pairs, pool)
    common = add_up(all_rows, pairing.latents[~involved])
    of_involved = (
        add_up(matrices, pairing.latents[involved]) for matrices in (all_rows, strongest)
    )
    result = Restricted(*(common + sums for sums in of_involved))
    for number, pair in enumerate(pairing.pairs, start=1):
        if not pair.known:  # Nor is the mean over pairs, which this one is part of.
            for sums in result:
                sums[:, 0, [0, number]] = np.nan
    return result


def _sums(
    labels: Labels,
    latents: int,
    pairs: Sequence[Pair],
    pool: ThreadPoolExecutor,
    matrices: Sequence[sparse.csr_matrix],
    some: npt.NDArray[np.int64],
) -> Floats:
    """Agreement summed over some latents.

    Args:
        labels: The labels that were counted.
        latents: L.
        pairs: Which latents are compared.
        pool: Takes one block of latents per thread.
        matrices: By stream, counts on all rows and in each fold.
        some: Which latents of the first stream of each pair.

    Returns:
        (depths from the deepest, 2, 1 + pairs, 1 + folds): the sum of agreement and the number of
        latents that are alive, over all pairs and for each of them.
    """
    cases, classes = matrices[0].shape[0] // latents, matrices[0].shape[1]
    lifts = _lifts(labels)

    def counts_of(stream: int, block: npt.NDArray[np.int64]) -> sparse.csr_matrix:
        return matrices[stream][(np.arange(cases)[:, None] * latents + block).ravel()]

    def sums_of_block(block: npt.NDArray[np.int64]) -> Floats:
        compared = [((p.first, block), (p.second, p.partners[block])) for p in pairs]
        # A stream takes part in several pairs, mostly with the same latents.
        known = {
            (s, which.tobytes()): counts_of(s, which) for both in compared for s, which in both
        }
        counts = [tuple(known[s, which.tobytes()] for s, which in both) for both in compared]
        terms = (
            (_totals(a, cases), _totals(b, cases), fold_distances(a - b, cases, lifts))
            for a, b in counts
        )
        return _sums_over_latents(terms, len(pairs), len(lifts), (cases, len(block)))

    step = max(1, _CELLS // classes)
    blocks = [some[start : start + step] for start in range(0, len(some), step)]
    result = np.zeros((len(lifts), 2, 1 + len(pairs), cases))
    # In the order of the blocks, whichever is done first: rounding depends on the order.
    for sums in pool.map(sums_of_block, blocks):
        result += sums
    return result


def sums_on_half_samples(
    labels: Labels,
    all_rows: Sequence[sparse.csr_matrix],
    folds: Folds,
    pairing: Pairing,
    pool: ThreadPoolExecutor,
) -> Floats | None:
    """The sums of `_sums` over all latents, on each sample of `half_samples.design`.

    Args:
        labels: The labels that were counted.
        all_rows: By stream, the counts of `with_folds`.
        folds: The folds that make up the samples.
        pairing: Each latent with itself.
        pool: Takes one block of latents per thread.

    Returns:
        (depths from the deepest, 2, 1 + pairs, samples); None where there are too few folds.
    """
    if folds.number < half_samples.FOLDS:
        return None
    latents, classes = len(pairing.latents), all_rows[0].shape[1]
    lifts = _lifts(labels)
    members = half_samples.design()

    def sums_of_block(block: npt.NDArray[np.int64]) -> Floats:
        lines = (np.arange(1, 1 + half_samples.FOLDS)[:, None] * latents + block).ravel()
        counts = [matrix[lines] for matrix in all_rows]
        shape = half_samples.FOLDS, len(block)
        totals = [
            np.asarray(members @ np.asarray(matrix.sum(axis=1)).reshape(shape), np.float64)
            for matrix in counts
        ]
        terms = (
            (totals[a], totals[b], sample_distances(counts[a] - counts[b], members, lifts))
            for a, b, *_ in pairing.pairs
        )
        return _sums_over_latents(terms, len(pairing.pairs), len(lifts), totals[0].shape)

    step = max(1, _CELLS // classes)
    blocks = [pairing.latents[start : start + step] for start in range(0, latents, step)]
    # In the order of the blocks, whichever is done first: rounding depends on the order.
    return sum(pool.map(sums_of_block, blocks), start=np.zeros(()))


def _sums_over_latents(
    terms: Iterable[tuple[npt.NDArray[Any], npt.NDArray[Any], Iterable[npt.NDArray[Any]]]],
    pairs: int,
    depths: int,
    shape: tuple[int, ...],
) -> Floats:
    """Agreement summed over the latents of a block, in each case.

    Args:
        terms: By pair of streams, the counts summed over classes in the first and in the second,
            and at each depth the distance of their counts; (cases, latents) each.
        pairs: How many pairs.
        depths: How many depths.
        shape: Cases and latents.

    Returns:
        (depths, 2, 1 + pairs, cases): as `_sums`.
    """
    result = np.zeros((depths, 2, 1 + pairs, shape[0]))
    agreement, alive = np.zeros((depths, *shape)), np.zeros(shape, np.int64)
    for pair, (a, b, distances) in enumerate(terms, start=1):
        total, both = a + b, (a > 0) & (b > 0)
        alive += both
        result[:, 1, pair] += both.sum(axis=1)
        for sums, values, distance in zip(result, agreement, distances, strict=True):
            value = np.where(both, (total - distance) / np.maximum(total + distance, 1), 0)
            values += value
            sums[0, pair] += value.sum(axis=1)
    result[:, 0, 0] += (agreement / np.maximum(alive, 1)).sum(axis=2)
    result[:, 1, 0] += (alive > 0).sum(axis=1)
    return result


def _totals(counts: sparse.csr_matrix, cases: int) -> npt.NDArray[np.int64]:
    """Counts summed over classes, (cases, latents): on all rows, then without each fold."""
    total: npt.NDArray[np.int64] = np.asarray(counts.sum(axis=1, dtype=np.int64)).reshape(cases, -1)
    total[1:] = total[0] - total[1:]
    return total


def _lifts(labels: Labels) -> list[npt.NDArray[np.int64]]:
    """For each class the class that stands for it, at each depth from the deepest."""
    return [labels.lifts[depth] for depth in sorted(labels.lifts, reverse=True)]
