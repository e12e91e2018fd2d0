"""The nearest decoder rows of each latent: which latents write almost the same into a stream."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sparc.train.model.network import Sparc

NEAREST = 5
"""Neighbours of a latent in a stream."""

_BLOCK = 512  # Latents compared with all others at a time.


class Nearest(NamedTuple):
    """The nearest other latents of each, the nearest first; of few latents, fewer.

    Attributes:
        latents: Their numbers, (L, n).
        cosines: Of the two decoder rows, (L, n) float32.
    """

    latents: npt.NDArray[np.int64]
    cosines: npt.NDArray[np.float32]


def directions(model: Sparc, stream: str) -> npt.NDArray[np.float32]:
    """The decoder rows of a stream, of unit norm; those of zeros stay so, (L, dim)."""
    rows = np.asarray(model.decoder[stream].detach().cpu().numpy(), np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(norms > 0, norms, 1))


def nearest_directions(
    model: Sparc, alive: Mapping[str, npt.NDArray[np.bool_]]
) -> dict[str, Nearest]:
    """By stream, the nearest decoder rows among the latents that are alive there.

    Args:
        model: The report's model.
        alive: By stream, which latents count, (L,).
    """
    return {stream: _nearest(directions(model, stream), flags) for stream, flags in alive.items()}


def _nearest(rows: npt.NDArray[np.float32], alive: npt.NDArray[np.bool_]) -> Nearest:
    count = min(NEAREST, max(0, int(alive.sum()) - 1))
    latents = np.zeros((len(rows), count), np.int64)
    cosines = np.zeros((len(rows), count), np.float32)
    for start in range(0, len(rows) if count else 0, _BLOCK):
        block = slice(start, start + _BLOCK)
        cosine = rows[block] @ rows.T
        cosine[:, ~alive] = -np.inf
        own = np.arange(len(cosine))
        cosine[own, start + own] = -np.inf
        order = np.argsort(-cosine, axis=1, kind="stable")[:, :count]
        latents[block] = order
        cosines[block] = np.take_along_axis(cosine, order, axis=1)
    return Nearest(latents, cosines)
