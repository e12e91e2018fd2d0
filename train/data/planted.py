"""Made-up features whose concepts are known, to see whether training finds them.

A stream has its own directions for the concepts that all streams share, and private concepts. A row
has a few concepts; a shared one has the same strength in every stream. So the right answer is
known: one latent per shared concept, the same in all streams, its decoder along the stream's
direction. This module must not know how training works.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from sparc.train.model.network import Sparc

Floats = npt.NDArray[np.float32]


class Planted(NamedTuple):
    """Features and what they are made of.

    Attributes:
        features: By stream, (rows, dim) float32.
        shared: By stream, the directions of the shared concepts, (concepts, dim), unit norm.
        private: By stream, the directions of its own concepts, (private concepts, dim), unit norm.
    """

    features: dict[str, Floats]
    shared: dict[str, Floats]
    private: dict[str, Floats]


class Recovery(NamedTuple):
    """How well a model recovers the shared concepts.

    Attributes:
        cosine: By stream, the mean over concepts of the largest cosine of a decoder row with the
            concept's direction; 1 is perfect.
        same_latent: The share of concepts that the same latent stands for in every stream.
    """

    cosine: dict[str, float]
    same_latent: float


def plant(
    dims: Mapping[str, int],
    *,
    rows: int,
    shared: int,
    private: int,
    active: float,
    noise: float = 0.0,
    seed: int = 0,
) -> Planted:
    """Make features out of concepts.

    Args:
        dims: By stream, the width of its features.
        rows: Number of rows.
        shared: Concepts that all streams have.
        private: Private concepts per stream.
        active: Mean number of concepts a row has in a stream, of both kinds.
        noise: Standard deviation of the noise, as a share of a feature's norm.
        seed: Seed of everything.
    """
    generator = np.random.default_rng(seed)
    chance = active / (shared + private)
    common = _strengths(generator, rows, shared, chance)
    # No row may be empty: it would be a zero feature.
    common[np.arange(rows), generator.integers(shared, size=rows)] += 1
    result = Planted({}, {}, {})
    for name, dim in dims.items():
        result.shared[name] = _directions(generator, shared, dim)
        result.private[name] = _directions(generator, private, dim)
        own = _strengths(generator, rows, private, chance)
        features = common @ result.shared[name] + own @ result.private[name]
        scale = noise * np.linalg.norm(features, axis=1, keepdims=True) / dim**0.5
        features += scale * generator.standard_normal(features.shape)
        result.features[name] = features.astype(np.float32)
    return result


def recovery(model: Sparc, planted: Planted) -> Recovery:
    """Compare a model's decoders with the planted directions of the shared concepts."""
    cosine, best = {}, []
    for name, directions in planted.shared.items():
        decoder = model.decoder[name].detach().float().cpu()
        decoder = decoder / decoder.norm(dim=1, keepdim=True)
        similarity = torch.from_numpy(directions) @ decoder.T
        largest = similarity.max(dim=1)
        cosine[name] = float(largest.values.mean())
        best.append(largest.indices)
    same = torch.stack([(latents == best[0]) for latents in best]).all(dim=0)
    return Recovery(cosine, float(same.float().mean()))


def _directions(generator: np.random.Generator, count: int, dim: int) -> Floats:
    directions = generator.standard_normal((count, dim))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return directions.astype(np.float32)


def _strengths(generator: np.random.Generator, rows: int, count: int, chance: float) -> Floats:
    present = generator.random((rows, count)) < chance
    return (present * generator.uniform(0.5, 1.5, (rows, count))).astype(np.float32)
