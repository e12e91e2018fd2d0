"""Which latent stands in for a latent, where two streams' latents are paired at random.

The null of agreement: is a latent more alike in two streams than any two latents are? Codes and
labels stay as they are. `REPORT.md` defines the draw so that it can be made from the codes alone.
This module must not know what is compared.
"""

import numpy as np
import numpy.typing as npt

DRAWS = 8
"""How often latents are paired at random."""

_LATENTS = 1 << 9
"""Latents that a draw pairs, at most: more of them narrow the mean less than other images would."""

_NEAREST = 5  # Ranks to either side, at least; one in a hundred of the latents if that is more.


def drawn(shared: npt.NDArray[np.bool_], *, seed: int, draw: int) -> npt.NDArray[np.int64]:
    """The latents that a draw pairs, at random.

    Args:
        shared: Which latents are alive in two streams or more, (latents,).
        seed: With the next one, all that decides.
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
        second: The same of the second stream.
        seed: With the next two, all that decides.
        draw: Which draw, from 0.
        pair: Which pair of streams, from 0 in the order of `itertools.combinations`.

    Returns:
        (latents,); a latent that is dead in either stream is its own partner. None where just one
        latent is alive in both, so that there is no other.
    """
    generator = np.random.default_rng([seed, draw, pair])
    ties, choice = generator.random(len(first)), generator.random(len(first))
    alive = np.flatnonzero((first > 0) & (second > 0))
    if len(alive) == 1:
        return None
    ranked = alive[np.lexsort((ties[alive], second[alive]))]
    rank = np.arange(len(ranked))
    reach = max(_NEAREST, len(ranked) // 100)
    least, most = np.maximum(rank - reach, 0), np.minimum(rank + reach, len(ranked) - 1)
    other = least + np.floor(choice[ranked] * (most - least)).astype(np.int64)
    other += other >= rank  # A latent is no partner of its own.
    result = np.arange(len(first))
    result[ranked] = ranked[other]
    return result
