"""What two streams have in common, latent by latent, against what chance gives.

`REPORT.md` (section *concepts*) defines every figure. This module must not know names or classes.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from sparc.analyze.concepts.rivals import Rivals, rivals, upper_of_neighbours
from sparc.analyze.maths.exact_tests import benjamini_hochberg, upper_tail

LEAST_IMAGES = 5
"""A latent that is active on fewer images in a stream is not judged there."""

LEAST_SHARED = 5
"""Two streams that share fewer latents show too little of what a shared one looks like."""

LARGEST_Q = 0.01

UPPER_SHARE = 0.95
"""What must exceed chance exceeds this share of what chance gives."""

_LATENTS = 512  # Latents in a block.

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class Figure(NamedTuple):
    """A figure of the latents of two streams, and its chance, (latents,) each; NaN if undefined.

    Attributes:
        value: Of each latent.
        mispaired: The mean of the figure with the latents of like frequency, in both directions.
    """

    value: Floats
    mispaired: Floats

    @property
    def excess(self) -> Floats:
        """How much of the way from chance to 1 is gone."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((self.value - self.mispaired) / (1 - self.mispaired))


class SameNumber(NamedTuple):
    """Latents with the same number in two streams, (latents,) each.

    Attributes:
        both: Images on which it is active in both streams.
        overlap: Jaccard of the images on which it is active in the one stream and in the other.
        limit: What the overlap must exceed; NaN where there is no such latent.
        q: Of the exact test that the images have more in common than by accident; 1 where it was
            not tested.
        shared: Whether it stands for the same in both streams.
    """

    both: Integers
    overlap: Figure
    limit: Floats
    q: Floats
    shared: Flags


class Elsewhere(NamedTuple):
    """What another stream has for each latent of a stream, under any number, (latents,) each.

    Attributes:
        latent: The latent of the other stream with the largest overlap; -1 if none has any.
        overlap: That overlap.
        chance: What the nearest latent reaches by accident: the images of latents of like frequency
            were shifted.
        limit: What the overlap must exceed for the other stream to have it; NaN where unknown.
        lacking: Whether the other stream lacks it.
    """

    latent: Integers
    overlap: Floats
    chance: Floats
    limit: Floats
    lacking: Flags


def same_number(first: sparse.csr_matrix, second: sparse.csr_matrix) -> SameNumber:
    """Compare latents that have the same number.

    Args:
        first: Where the latents of one stream are active, canonical (latents, images).
        second: Those of the other.
    """
    images = first.shape[1]
    a, b = _sizes(first), _sizes(second)
    both = np.asarray(first.multiply(second).sum(axis=1), np.int64).ravel()
    overlap = _jaccard(both, a, b)
    pairings = [_mispaired(first, second, rivals(a, b)), _mispaired(second, first, rivals(b, a))]
    mispaired = np.mean([mean for mean, _ in pairings], axis=0)
    limit = np.stack([high for _, high in pairings]).max(axis=0)
    tested = (a >= LEAST_IMAGES) & (b >= LEAST_IMAGES)
    q = np.ones(len(a))
    q[tested] = benjamini_hochberg(upper_tail(both[tested], images, a[tested], b[tested]))
    with np.errstate(invalid="ignore"):
        shared = (q <= LARGEST_Q) & (overlap > limit)
    return SameNumber(both, Figure(overlap, mispaired), limit, q, shared)


def elsewhere(
    first: sparse.csr_matrix, second: sparse.csr_matrix, same: SameNumber, *, seed: int
) -> Elsewhere:
    """Look in the other stream for each latent of a stream.

    Args:
        first: Where the latents of the stream are active, canonical (latents, images).
        second: Those of the other stream.
        same: The same two streams, compared by number.
        seed: Decides how images are shifted.
    """
    a = _sizes(first)
    latent, overlap = _nearest(first, second)
    _, accident = _nearest(_shifted(first, seed), second)
    alive = np.flatnonzero(a)
    chance = np.full(len(a), np.nan)
    ranked = alive[np.argsort(a[alive], kind="stable")]
    chance[ranked] = upper_of_neighbours(accident[ranked, None], UPPER_SHARE)
    if same.shared.sum() >= LEAST_SHARED:
        usual = float(np.median(same.overlap.value[same.shared]))
        limit = np.maximum(chance, usual / 2)
        limit[~(chance < usual)] = np.nan  # chance reaches as far as what is shared
    else:
        limit = np.full(len(a), np.nan)
    with np.errstate(invalid="ignore"):
        lacking = (a >= LEAST_IMAGES) & (overlap <= limit) & ~same.shared
    return Elsewhere(latent, overlap, chance, limit, lacking)


def _sizes(active: sparse.csr_matrix) -> Integers:
    return np.asarray(np.diff(active.indptr), np.int64)


def _jaccard(both: Any, first: Any, second: Any) -> Floats:
    either = first + second - both
    jaccard: Floats = np.full(np.shape(both), np.nan)
    np.divide(both, either, out=jaccard, where=either > 0)
    return jaccard


def _mispaired(
    first: sparse.csr_matrix, second: sparse.csr_matrix, pairing: Rivals
) -> tuple[Floats, Floats]:
    """The mean overlap of each latent with its rivals, and what those of its like reach."""
    a, b = _sizes(first), _sizes(second)
    mean, high = np.full(len(a), np.nan), np.full(len(a), np.nan)
    if len(pairing.latents) < 2:
        return mean, high
    overlap = np.empty(pairing.others.shape)
    for block in _blocks(len(pairing.latents)):
        latents, others = pairing.latents[block], pairing.others[block]
        both = np.take_along_axis((first[latents] @ second.T).toarray(), others, axis=1)
        overlap[block] = _jaccard(both, a[latents][:, None], b[others])
    overlap[~pairing.known] = np.nan
    mean[pairing.latents] = np.nanmean(overlap, axis=1)
    high[pairing.latents] = upper_of_neighbours(overlap, UPPER_SHARE)
    return mean, high


def _nearest(first: sparse.csr_matrix, second: sparse.csr_matrix) -> tuple[Integers, Floats]:
    """For each latent the one of the other stream with the largest overlap, and that overlap."""
    a, b = _sizes(first), _sizes(second)
    latent, overlap = np.full(len(a), -1), np.zeros(len(a))
    for block in _blocks(len(a)):
        both = (first[block] @ second.T).toarray()
        jaccard = np.nan_to_num(_jaccard(both, a[block][:, None], b))
        nearest = jaccard.argmax(axis=1)  # the smaller one in a tie
        overlap[block] = np.take_along_axis(jaccard, nearest[:, None], axis=1)[:, 0]
        latent[block] = np.where(overlap[block] > 0, nearest, -1)
    return latent, overlap


def _shifted(active: sparse.csr_matrix, seed: int) -> sparse.csr_matrix:
    """Every latent's images moved on, cyclically, by its own random number of places."""
    latents, images = active.shape
    places = np.random.default_rng(seed).integers(1, max(images, 2), size=latents)
    moved = (active.indices + np.repeat(places, np.diff(active.indptr))) % images
    result = sparse.csr_matrix((active.data, moved, active.indptr), shape=active.shape)
    result.sort_indices()
    return result


def _blocks(latents: int) -> Iterator[slice]:
    for start in range(0, latents, _LATENTS):
        yield slice(start, start + _LATENTS)
