"""Made-up features whose concepts are known, to see whether training finds them.

A stream has its own directions for the concepts that all streams share, and private concepts. A row
has a few concepts; a shared one has the same strength in every stream. So the right answer is
known: one latent per shared concept, the same in all streams, its decoder along the stream's
direction, and latents of private concepts that stand for nothing in other streams. This module must
not know how training works.
"""

import itertools
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from sparc.train.model.network import Sparc

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Latents = npt.NDArray[np.int64]


class Planted(NamedTuple):
    """Features and what they are made of.

    Attributes:
        features: By stream, (rows, dim) float32.
        shared: By stream, the directions of the shared concepts, (concepts, dim), unit norm.
        private: By stream, the directions of its own concepts, (private concepts, dim), unit norm.
        shared_strength: How strong the shared concepts are in each row, the same in all streams,
            (rows, concepts); 0 where a row lacks one.
        private_strength: By stream, the same for its own concepts.
    """

    features: dict[str, Floats]
    shared: dict[str, Floats]
    private: dict[str, Floats]
    shared_strength: Floats
    private_strength: dict[str, Floats]


class Recovery(NamedTuple):
    """How well a model recovers the shared concepts.

    Attributes:
        cosine: By stream, the mean over concepts of the largest cosine of a decoder row with the
            concept's direction; 1 is perfect.
        same_latent: The share of concepts that the same latent stands for in every stream.
    """

    cosine: dict[str, float]
    same_latent: float


class Detection(NamedTuple):
    """How well streams that select independently detect the planted concepts.

    A latent detects a concept by the rows on which it is active; the best one has the largest F1.

    Attributes:
        f1: By stream, the mean over shared concepts of the best latent's F1.
        same_latent: The share of shared concepts whose best latent is the same in every stream.
        row_overlap: Of the best latent of a shared concept, the Jaccard index of the rows on which
            it is active in its stream and in another one; the mean over concepts and pairs.
        private_f1: By stream that has private concepts, their mean of the best latent's F1.
        private_overlap: As `row_overlap`, of the best latents of private concepts, less the index
            of two sets as large that are independent.
    """

    f1: dict[str, float]
    same_latent: float
    row_overlap: float
    private_f1: dict[str, float]
    private_overlap: float


def plant(
    dims: Mapping[str, int],
    *,
    rows: int,
    shared: int,
    private: int | Mapping[str, int],
    active: float,
    counts: Literal["binomial", "fixed"] = "binomial",
    private_scale: float = 1.0,
    means: Mapping[str, float] | None = None,
    noise: float = 0.0,
    seed: int = 0,
) -> Planted:
    """Make features out of concepts.

    Args:
        dims: By stream, the width of its features.
        rows: Number of rows.
        shared: Concepts that all streams have.
        private: Private concepts of every stream, or by stream.
        active: Mean number of concepts a row has in the stream with most private ones, of both
            kinds.
        counts: Whether a row has a concept independently of others (`binomial`), or all rows have
            the same number of each kind (`fixed`).
        private_scale: How much stronger private concepts are than shared ones.
        means: By stream, the norm of a vector that all its features have in common; 0 if left out.
        noise: Standard deviation of the noise, as a share of a feature's norm.
        seed: Seed of everything.
    """
    generator = np.random.default_rng(seed)
    own = dict.fromkeys(dims, private) if isinstance(private, int) else private
    chance = active / (shared + max(own.values()))
    draw = _strengths if counts == "binomial" else _fixed_strengths
    common = draw(generator, rows, shared, chance)
    if counts == "binomial":  # no row may be empty: it would be a zero feature
        common[np.arange(rows), generator.integers(shared, size=rows)] += 1
    result = Planted({}, {}, {}, common, {})
    for name, dim in dims.items():
        result.shared[name] = _directions(generator, shared, dim)
        result.private[name] = _directions(generator, own[name], dim)
        strength = private_scale * draw(generator, rows, own[name], chance)
        features = common @ result.shared[name] + strength @ result.private[name]
        scale = noise * np.linalg.norm(features, axis=1, keepdims=True) / dim**0.5
        features += scale * generator.standard_normal(features.shape)
        if means and name in means:
            features += means[name] * _directions(generator, 1, dim)
        result.features[name] = features.astype(np.float32)
        result.private_strength[name] = strength
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


def detection(model: Sparc, planted: Planted, rows: slice) -> Detection:
    """Compare the rows on which latents are active with those that have a concept.

    Args:
        model: A model of the planted streams.
        planted: What was planted.
        rows: The rows to measure on, as a rule not those that the model learned from.
    """
    features = {n: torch.from_numpy(x[rows]) for n, x in planted.features.items()}
    active = {}
    for name, codes in model.encode(features, "independent").items():
        values = codes.values.new_zeros(len(codes.values), model.config.latents)
        active[name] = (values.scatter_(1, codes.indices, codes.values) > 0).numpy()
    f1, best, private_f1, private_best = {}, {}, {}, {}
    for name, fires in active.items():
        scores = _f1(fires, planted.shared_strength[rows] > 0)
        f1[name], best[name] = float(scores.max(0).mean()), scores.argmax(0)
        if planted.private[name].size:
            scores = _f1(fires, planted.private_strength[name][rows] > 0)
            private_f1[name] = float(scores.max(0).mean())
            private_best[name] = scores.argmax(0)
    first, *others = best.values()
    overlaps, excesses = [], []
    for one, two in itertools.permutations(active, 2):
        overlaps.append(_jaccard(active[one], active[two], best[one])[0].mean())
        if one in private_best:
            actual, expected = _jaccard(active[one], active[two], private_best[one])
            excesses.append((actual - expected).mean())
    return Detection(
        f1,
        float(np.all([first == other for other in others], axis=0).mean()),
        float(np.mean(overlaps)),
        private_f1,
        float(np.mean(excesses)) if excesses else 0.0,
    )


def _f1(active: Bools, present: Bools) -> Floats:
    """F1 of every latent for every concept, (latents, concepts)."""
    both = active.T.astype(np.float32) @ present.astype(np.float32)
    total = active.sum(0)[:, None] + present.sum(0)
    scores: Floats = (2 * both / np.maximum(total, 1)).astype(np.float32)
    return scores


def _jaccard(one: Bools, two: Bools, latents: Latents) -> tuple[Doubles, Doubles]:
    """Jaccard indices of the rows of two streams on which latents are active, and by chance."""
    one, two = one[:, latents], two[:, latents]
    both, chance = (one & two).mean(0), one.mean(0) * two.mean(0)
    total = np.maximum(one.mean(0) + two.mean(0), 1e-12)
    return both / (total - both), chance / (total - chance)


def _directions(generator: np.random.Generator, count: int, dim: int) -> Floats:
    directions = generator.standard_normal((count, dim))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return directions.astype(np.float32)


def _strengths(generator: np.random.Generator, rows: int, count: int, chance: float) -> Floats:
    present = generator.random((rows, count)) < chance
    return (present * generator.uniform(0.5, 1.5, (rows, count))).astype(np.float32)


def _fixed_strengths(
    generator: np.random.Generator, rows: int, count: int, chance: float
) -> Floats:
    """As `_strengths`, with the same number of concepts in every row."""
    order = generator.random((rows, count)).argsort(axis=1).argsort(axis=1)
    present = order < round(chance * count)
    return (present * generator.uniform(0.5, 1.5, (rows, count))).astype(np.float32)
