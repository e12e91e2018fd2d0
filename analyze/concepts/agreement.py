"""Agreement of each latent: the figure whose means `agreement.parquet` holds, and its chance.

`REPORT.md` (section *agreement*) defines J. Its chance here is the mean over all latents of like
frequency that a draw could pair a latent with, in both directions.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from sparc.analyze.concepts.evidence import Figure
from sparc.analyze.concepts.rivals import rivals
from sparc.analyze.maths.matched_counts import match
from sparc.analyze.metrics.agreement.counts import ClassCounts

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def agreement_of_latents(counts: ClassCounts) -> Mapping[tuple[str, str], Figure]:
    """By pair of streams, the agreement of every latent with itself at the deepest classes."""
    by_latent = [matrix.T.tocsr().astype(np.int64) for matrix in counts.counts]
    return {
        (counts.streams[a], counts.streams[b]): _of_pair(by_latent[a], by_latent[b])
        for a, b in combinations(range(len(by_latent)), 2)
    }


def _of_pair(first: sparse.csr_matrix, second: sparse.csr_matrix) -> Figure:
    a, b = _sizes(first), _sizes(second)
    value = np.full(len(a), np.nan)
    alive = np.flatnonzero((a > 0) & (b > 0))
    value[alive] = _agreement(first, second, alive, alive)
    pairings = [_mispaired(first, second), _mispaired(second, first)]
    return Figure(value, np.mean(pairings, axis=0))


def _mispaired(first: sparse.csr_matrix, second: sparse.csr_matrix) -> Floats:
    a, b = _sizes(first), _sizes(second)
    pairing = rivals(a, b)
    total, number = np.zeros(len(a)), np.zeros(len(a))
    for column in range(pairing.others.shape[1]):
        known = pairing.known[:, column]
        latents, others = pairing.latents[known], pairing.others[known, column]
        total[latents] += _agreement(first, second, latents, others)
        number[latents] += 1
    mean: Floats = np.full(len(a), np.nan)
    np.divide(total, number, out=mean, where=number > 0)
    return mean


def _agreement(
    first: sparse.csr_matrix, second: sparse.csr_matrix, latents: Integers, others: Integers
) -> Floats:
    """J of some latents of one stream with as many of another."""
    if not len(latents):
        return np.zeros(0)
    one, other = first[latents], second[others]
    total = _sizes(one) + _sizes(other)
    distance = match(one, other, positions=False).distances()
    return np.asarray((total - distance) / np.maximum(total + distance, 1))


def _sizes(counts: sparse.csr_matrix) -> Integers:
    sums: Any = counts.sum(axis=1)
    return np.asarray(sums, np.int64).ravel()
