"""The partners of a latent: those with which it is active together most, of counts of all pairs.

Counts come as a block, the latents of which are lines. Few pairs of the millions of a block are
wanted. Those that might be are looked for in float32, a few lines at a time, which stay in the
processor's cache; what is computed of them is exact.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

LEAST_IMAGES = 5
"""Images on which both latents of a pair are active, at least."""

LEAST_Z = 3.0
"""Of the phi coefficient of a pair, in standard errors that it has by chance."""

_CELLS = 1 << 16
"""Counts looked at together."""

_MARGIN = 1e-5
"""Relative; float32 rounds a hundred times more closely."""

_LEAST_SHARE = np.float32(1e-30)
"""Below every fraction of counts but 0."""

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Pairs(NamedTuple):
    """Pairs of latents, one of each of two streams; arrays of equal length.

    Attributes:
        first: The latent of the first stream.
        second: That of the second stream; the larger one if the streams are the same.
        both: On how many images both are active.
        phi: The phi coefficient, Pearson's correlation of the two being active.
    """

    first: Integers
    second: Integers
    both: Integers
    phi: npt.NDArray[np.float64]

    @classmethod
    def none(cls) -> "Pairs":
        """No pairs."""
        return cls(*(np.zeros(0, dtype) for dtype in (*3 * [np.int64], np.float64)))

    def take(self, positions: npt.NDArray[np.integer]) -> "Pairs":
        """Some of the pairs, by position."""
        return Pairs(*(column[positions] for column in self))


def concatenate_pairs(pairs: Sequence[Pairs]) -> Pairs:
    """The pairs of several groups, one after the other."""
    return Pairs(*(np.concatenate(columns) for columns in zip(*pairs, strict=True)))


def strongest(
    both: npt.NDArray[np.int32],
    images: int,
    active: Integers,
    latents: range,
    *,
    within: bool,
    most: int,
) -> Pairs:
    """The partners of largest phi of each latent; ties go to the smaller partner.

    Args:
        both: On how many images each of some latents is active with each latent, (n, L).
        images: Number of images.
        active: On how many of them each latent is active, in the latents' stream and in that of
            their partners, (2, L).
        latents: Which latents the lines of `both` are.
        within: Whether the two streams are the same one: then no latent is its own partner.
        most: Partners of a latent at most.
    """
    own, others = active[0][latents.start : latents.stop], active[1]
    # The least count for `LEAST_Z`.
    spread = np.sqrt(own * (images - own))
    mean = _rounded(others / images * (1 - _MARGIN))
    deviation = _rounded(
        LEAST_Z * np.sqrt(others * (images - others) / images) / images * (1 - _MARGIN)
    )
    pairs = [Pairs.none()]
    for lines in blocks_of_lines(both):
        needed = np.multiply.outer(_rounded(own[lines]), mean)
        needed += np.multiply.outer(_rounded(spread[lines]), deviation)
        np.maximum(needed, LEAST_IMAGES, out=needed)
        line, second = _places(_rounded(both[lines]) >= needed, lines.start)
        first, counts = latents.start + line, both[line, second].astype(np.int64)
        phi = _phi(counts, images, own[line], others[second])
        kept = phi * np.sqrt(images) >= LEAST_Z
        if within:
            kept &= first != second
        order = np.flatnonzero(kept)
        order = order[np.lexsort((-phi[order], line[order]))]
        of = line[order]
        order = order[np.arange(len(of)) - np.searchsorted(of, of) < most]
        pairs.append(Pairs(first, second, counts, phi).take(order))
    return concatenate_pairs(pairs)


def nearest(
    both: npt.NDArray[np.int32], active: Integers, latents: Integers
) -> tuple[Integers, Integers]:
    """The latent whose images overlap most with those of each, by Jaccard.

    Args:
        both: On how many images each of some latents is active with each latent, (n, L).
        active: On how many each latent is active, (L,).
        latents: Which latents the lines of `both` are, (n,).

    Returns:
        Latents that share an image with another one, by line, ascending; and their nearest. Ties
        go to the smaller one.
    """
    result = [np.zeros((2, 0), np.int64)]
    # A latent that is never active shares no image; 1 keeps its fractions defined.
    every = np.maximum(active, 1)
    rounded = _rounded(every)
    for lines in blocks_of_lines(both):
        shared = _rounded(both[lines])
        shared[np.arange(len(shared)), latents[lines]] = 0
        jaccard = np.add.outer(_rounded(active[latents[lines]]), rounded)
        jaccard -= shared
        np.divide(shared, jaccard, out=jaccard)
        largest = jaccard.max(axis=1, keepdims=True)
        near = jaccard >= np.maximum(largest * np.float32(1 - _MARGIN), _LEAST_SHARE)
        line, other = _places(near, lines.start)
        common = both[line, other].astype(np.int64)
        # Equal fractions are equal floating point numbers: division rounds correctly.
        exact = common / (active[latents[line]] + active[other] - common)
        order = np.lexsort((other, -exact, line))
        first = np.unique(line[order], return_index=True)[1]
        result.append(np.stack([line, other])[:, order[first]])
    line, other = np.concatenate(result, axis=1)
    return line, other


def blocks_of_lines(matrix: npt.NDArray[Any]) -> Iterator[slice]:
    """Consecutive lines of a matrix, as many at a time as fit the processor's cache."""
    step = max(1, _CELLS // matrix.shape[1])
    for start in range(0, len(matrix), step):
        yield slice(start, min(start + step, len(matrix)))


def _places(flags: npt.NDArray[np.bool_], first_line: int) -> tuple[Integers, Integers]:
    """The lines and columns of what is flagged, in their order; `np.nonzero` takes longer."""
    line, column = np.divmod(np.flatnonzero(flags), flags.shape[1])
    return first_line + line, column


def _rounded(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return values.astype(np.float32)


def _phi(both: Integers, images: int, first: Integers, second: Integers) -> Floats:
    """Pearson's correlation of two events; 0 where one of them always happens."""
    variances = (first * (images - first)).astype(np.float64) * (second * (images - second))
    covariance = images * both - first * second
    result: Floats = covariance / np.sqrt(np.maximum(variances, 1))
    return result
