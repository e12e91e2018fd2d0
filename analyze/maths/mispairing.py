"""Latents of two streams paired at random: the null distribution of agreement.

It answers whether a latent is more alike in two streams than two latents of like frequency are.
Codes and labels stay as they are. `REPORT.md` defines the draw so that it can be repeated from the
codes alone. This module must not know what is compared.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

DRAWS = 8
"""Number of random pairings."""

_LATENTS = 1 << 9
"""Latents that a draw pairs, at most: more would narrow the mean less than other images do."""

_NEAREST = 5  # Ranks to either side, at least; one in a hundred of the latents if that is more.


class Pair(NamedTuple):
    """Which latents of two streams are compared.

    Attributes:
        first: The position of the first stream.
        second: That of the second.
        partners: For each latent of the first stream, one of the second, (latents,).
        known: Whether partners exist; if not, `partners` means nothing.
    """

    first: int
    second: int
    partners: npt.NDArray[np.int64]
    known: bool = True


class Pairing(NamedTuple):
    """Which latents are compared, in every pair of streams.

    Attributes:
        latents: Latents of the first stream of each pair, ascending, (n,).
        pairs: Their partners.
    """

    latents: npt.NDArray[np.int64]
    pairs: Sequence[Pair]

    def involves(self, flagged: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Which of `latents` are flagged or have a partner that is, (n,); from (latents,)."""
        partners = [self.latents, *(pair.partners[self.latents] for pair in self.pairs)]
        result: npt.NDArray[np.bool_] = np.any(flagged[np.stack(partners)], axis=0)
        return result

    def with_partners(self, flagged: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Which latents are flagged or compared with one that is, (latents,)."""
        result, some = flagged.copy(), self.latents[self.involves(flagged)]
        result[some] = True
        for pair in self.pairs:
            result[pair.partners[some]] = True
        return result


def same_latents(streams: int, latents: int) -> Pairing:
    """Every latent with itself, in all pairs of streams."""
    every = np.arange(latents)
    pairs = combinations(range(streams), 2)
    return Pairing(every, [Pair(a, b, every) for a, b in pairs])


def mispaired(counts: npt.NDArray[np.integer], *, seed: int, draw: int) -> Pairing:
    """Some latents, each with another one of like frequency.

    Args:
        counts: How often each latent is active in each stream, (streams, latents).
        seed: With the draw, all that decides.
        draw: Which draw, from 0.
    """
    pairs = []
    for number, (a, b, same, _) in enumerate(same_latents(*counts.shape).pairs):
        others = partners(counts[a], counts[b], seed=seed, draw=draw, pair=number)
        pairs.append(Pair(a, b, same, known=False) if others is None else Pair(a, b, others))
    return Pairing(drawn((counts > 0).sum(axis=0) > 1, seed=seed, draw=draw), pairs)


def drawn(shared: npt.NDArray[np.bool_], *, seed: int, draw: int) -> npt.NDArray[np.int64]:
    """The latents that a draw pairs, ascending.

    Args:
        shared: Which latents are alive in two or more streams, (latents,).
        seed: With the draw, all that decides.
        draw: Which draw, from 0.
    """
    order = np.random.default_rng([seed, draw]).permutation(np.flatnonzero(shared))
    return np.sort(order[:_LATENTS])


def partners(
    first: npt.NDArray[np.integer],
    second: npt.NDArray[np.integer],
    *,
    seed: int,
    draw: int,
    pair: int,
) -> npt.NDArray[np.int64] | None:
    """For each latent of the first stream, another latent of the second, of like frequency.

    Latents that are alive in both streams are ranked by their counts in the second one, equal
    counts in random order. The partner of a latent is drawn uniformly from those whose rank differs
    from its own by at most max(5, n // 100), n being the number of these latents.

    Args:
        first: How often each latent is active in the first stream, (latents,); 0 where it is dead.
        second: The same in the second stream.
        seed: With the draw and the pair, all that decides.
        draw: Which draw, from 0.
        pair: Which pair of streams, from 0 in the order of `itertools.combinations`.

    Returns:
        (latents,); a latent that is dead in either stream is its own partner. None if only one
        latent is alive in both.
    """
    generator = np.random.default_rng([seed, draw, pair])
    ties, choice = generator.random(len(first)), generator.random(len(first))
    alive = np.flatnonzero((first > 0) & (second > 0))
    if len(alive) == 1:
        return None
    ranked = alive[np.lexsort((ties[alive], second[alive]))]
    rank = np.arange(len(ranked))
    near = reach(len(ranked))
    least, most = np.maximum(rank - near, 0), np.minimum(rank + near, len(ranked) - 1)
    other = least + np.floor(choice[ranked] * (most - least)).astype(np.int64)
    other += other >= rank  # Never the latent itself.
    result = np.arange(len(first))
    result[ranked] = ranked[other]
    return result


def reach(latents: int) -> int:
    """By how many ranks latents may differ to be of like frequency, of this number of them."""
    return max(_NEAREST, latents // 100)
