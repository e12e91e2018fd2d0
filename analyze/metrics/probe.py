"""How well a single latent predicts a class, selected on some images and scored on others.

After the one-dimensional probe of arXiv 2507.06265, section 4; `REPORT.md` says what differs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse
from scipy.special import stdtrit

from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.maths.intervals import Interval, jackknife_variance, share_interval
from sparc.analyze.metrics.logistic import Fit, Problem, fit
from sparc.analyze.rows.folds import FOLDS
from sparc.analyze.rows.sample import TEST, TRAIN, VALIDATION, split

SCHEMA = pa.schema(
    [
        pa.field("mode", pa.string(), nullable=False),
        pa.field("control", pa.string(), nullable=False),
        pa.field("stream", pa.string(), nullable=False),
        pa.field("class_id", pa.int32(), nullable=False),
        pa.field("images", pa.int64(), nullable=False),
        pa.field("latent", pa.int32()),
        *(
            pa.field(f"{name}{end}", pa.float64(), nullable=False)
            for name in ("log_loss", "accuracy")
            for end in ("", "_low", "_high")
        ),
    ]
)

LEAST_IMAGES = 20
"""A class with fewer images is not probed."""

MOST_IMAGES = 1000
"""Images with a class at most, and the same number without it."""

CANDIDATES = 20
"""Latents that are fitted for a class."""

_ROUNDING = 1e-12
"""Of a mean loss."""

_CLASSES = 32
"""Classes that are fitted together."""

Floats = npt.NDArray[np.float64]


def table(
    matrix: sparse.csr_matrix,
    labels: sparse.csr_matrix,
    class_ids: npt.NDArray[np.int64],
    code_set: CodeSet,
    stream: str,
    seed: int,
) -> pa.Table:
    """The best latent of every class, of schema `SCHEMA`.

    Args:
        matrix: A stream's codes of some images, (images, latents).
        labels: Which classes they carry, (images, classes), 0 or 1.
        class_ids: The `class_id` of each column of `labels`.
        code_set: Which codes these are.
        stream: Which stream.
        seed: Decides images without a class and parts, the same for every stream and set.
    """
    columns = labels.tocsc()
    images = np.diff(columns.indptr)
    # Of very many classes most have too few images; they should take no time.
    enough = np.flatnonzero(np.minimum(images, labels.shape[0] - images) >= LEAST_IMAGES)
    probed: list[_Probed] = []
    for start in range(0, len(enough), _CLASSES):
        prepared = []
        for column in enough[start : start + _CLASSES]:
            positive = np.zeros(labels.shape[0], dtype=np.bool_)
            positive[columns.indices[columns.indptr[column] : columns.indptr[column + 1]]] = True
            generator = np.random.default_rng([seed, class_ids[column]])
            prepared.append(_prepare(matrix, positive, generator))
        fitted = fit([of_class.training() for of_class in prepared])
        probed += map(_probe, prepared, fitted)
    if not probed:
        return SCHEMA.empty_table()
    latents = np.array([of_class.latent for of_class in probed])
    content = {
        "mode": [code_set.mode] * len(probed),
        "control": [code_set.control] * len(probed),
        "stream": [stream] * len(probed),
        "class_id": class_ids[enough].astype(np.int32),
        "images": images[enough].astype(np.int64),
        "latent": pa.array(latents, pa.int32(), mask=latents == _NO_LATENT),
        **_log_losses(probed),
        **_accuracies(probed),
    }
    return pa.table(content, schema=SCHEMA)


class _Probed(NamedTuple):
    """The best latent of a class, and what it says of the test images.

    Attributes:
        latent: The latent; `_NO_LATENT` where none is active on any of the images.
        losses: Of the positives and then of as many negatives, each in random order, (n,).
        right: Whether each image is classified right, (n,).
        trained: On how many images the probe was fitted.
    """

    latent: int
    losses: Floats
    right: npt.NDArray[np.bool_]
    trained: int


_NO_LATENT = -1


class _Prepared(NamedTuple):
    """A class and the latents that may predict it.

    Attributes:
        candidates: The latents, (fits,).
        x: Their standardized values on the images, (n, fits).
        y: Which images have the class, (n,): the first half.
        part: The part of each image, (n,).
    """

    candidates: npt.NDArray[np.int64]
    x: Floats
    y: npt.NDArray[np.bool_]
    part: npt.NDArray[np.int64]

    def training(self) -> Problem:
        """What is fitted."""
        trained = self.part == TRAIN
        return Problem(self.x[trained], self.y[trained])


def _prepare(
    matrix: sparse.csr_matrix, positive: npt.NDArray[np.bool_], generator: np.random.Generator
) -> _Prepared:
    """Balanced positive and negative images of a class, and the latents that are fitted."""
    positives, negatives = np.flatnonzero(positive), np.flatnonzero(~positive)
    count = min(len(positives), len(negatives), MOST_IMAGES)
    chosen = np.concatenate(
        [generator.permutation(positives)[:count], generator.permutation(negatives)[:count]]
    )
    y = np.arange(2 * count) < count
    # Positives and negatives are split alike, so that every part is balanced.
    part = np.concatenate([split(count, generator), split(count, generator)])
    some = matrix[chosen]
    trained = part == TRAIN
    candidates = _candidates(some[np.flatnonzero(trained)], int(trained[:count].sum()))
    # Several times faster than to take columns of the matrix.
    column = np.full(matrix.shape[1], -1)
    column[candidates] = np.arange(len(candidates))
    place = column[some.indices]
    kept = np.flatnonzero(place >= 0)
    line = np.repeat(np.arange(2 * count), np.diff(some.indptr))
    x = np.zeros((2 * count, len(candidates)))
    x[line[kept], place[kept]] = some.data[kept]
    mean, spread = x[trained].mean(axis=0), x[trained].std(axis=0)
    return _Prepared(candidates, (x - mean) / spread, y, part)


def _probe(prepared: _Prepared, fitted: Fit) -> _Probed:
    """The latent that predicts a class best where that is validated, and how well where tested."""
    candidates, x, y, part = prepared
    tested, trained = part == TEST, int((part == TRAIN).sum())
    if not len(candidates):
        # A tie is wrong.
        number = int(tested.sum())
        return _Probed(_NO_LATENT, np.full(number, np.log(2)), np.zeros(number, np.bool_), trained)
    logits = x * fitted.slope + fitted.intercept
    validated = part == VALIDATION
    means = _losses(logits[validated], y[validated]).mean(axis=0)
    # On few images two latents may be mirror images of each other: rounding decides no tie.
    best = int(np.flatnonzero(means <= means.min() + _ROUNDING)[0])
    # A logit of zero counts as wrong.
    of_best, right_side = logits[tested, best], y[tested]
    right = np.where(right_side, of_best > 0, of_best < 0)
    losses = _losses(of_best[:, None], right_side)[:, 0]
    return _Probed(int(candidates[best]), losses, right, trained)


def _losses(logits: Floats, y: npt.NDArray[np.bool_]) -> Floats:
    """The loss of each image in each fit, (n, fits)."""
    result: Floats = np.logaddexp(0, np.where(y[:, None], -logits, logits))
    return result


def _log_losses(probed: Sequence[_Probed]) -> dict[str, Floats]:
    """By column, the mean loss of each class on its test images, with its interval."""
    loss, variance, degrees = np.zeros((3, len(probed)))
    for number, (_, losses, _, trained) in enumerate(probed):
        half = len(losses) // 2
        # Each fold has positives and negatives.
        folds = min(FOLDS, half)
        fold = np.tile(np.arange(half) % folds, 2)
        sums, sizes = np.bincount(fold, weights=losses), np.bincount(fold)
        without = (losses.sum() - sums) / (len(losses) - sizes)
        # Fitting k parameters to n images costs chi^2_k / (2 n) nats on others (Wilks), of variance
        # 1 / n^2 for slope and intercept. Of a probe near chance that is most of the variance.
        variance[number] = jackknife_variance(without, 1 / folds) + 1 / trained**2
        loss[number], degrees[number] = losses.mean(), folds - 1
    margin = stdtrit(degrees, 0.975) * np.sqrt(variance)
    return _columns("log_loss", loss, Interval(np.maximum(loss - margin, 0), loss + margin))


def _accuracies(probed: Sequence[_Probed]) -> dict[str, Floats]:
    """By column, the share of each class's test images that are classified right."""
    number = np.array([len(of_class.right) for of_class in probed])
    half = number // 2
    of_positives = np.array([of.right[: len(of.right) // 2].sum() for of in probed])
    right = np.array([of_class.right.sum() for of_class in probed])
    # Stratified by class, accuracy varies less than on images drawn at random: p (1 - p) of both
    # together by the mean of it within classes. Half an image is added to each count, so that no
    # rate is 0 or 1.
    rates = (np.stack([of_positives, right - of_positives]) + 0.5) / (half + 1)
    rate = rates.mean(axis=0)
    gain = rate * (1 - rate) / (rates * (1 - rates)).mean(axis=0)
    accuracy = right / number
    return _columns("accuracy", accuracy, share_interval(accuracy, number * gain))


def _columns(name: str, figures: Floats, interval: Interval) -> dict[str, Floats]:
    return {name: figures, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _candidates(matrix: sparse.csr_matrix, positives: int) -> npt.NDArray[np.int64]:
    """The latents whose mean differs most between positives and all, in standard deviations.

    Args:
        matrix: Codes of some images, (n, latents).
        positives: How many of them have the class; they are the first.
    """
    count, latents = matrix.shape
    values, ends = matrix.data.astype(np.float64), matrix.indptr[positives]

    def sums(latent: npt.NDArray[np.integer], weights: Floats) -> Floats:
        return np.asarray(np.bincount(latent, weights, latents), np.float64)

    mean = sums(matrix.indices, values) / count
    square = sums(matrix.indices, values**2) / count
    positive = sums(matrix.indices[:ends], values[:ends]) / max(1, positives)
    variance = square - mean**2
    varies = variance > 1e-12 * np.maximum(square, 1e-300)
    distance = np.zeros(len(mean))
    distance[varies] = np.abs(positive - mean)[varies] / np.sqrt(variance[varies])
    # As the first of a stable sort of all.
    largest = np.partition(distance, -CANDIDATES)[-CANDIDATES] if latents > CANDIDATES else 0.0
    near = np.flatnonzero(distance >= largest)
    order = near[np.argsort(-distance[near], kind="stable")][:CANDIDATES]
    result: npt.NDArray[np.int64] = order[varies[order]]
    return result
