"""How well a single latent predicts a class, selected on some images and scored on others.

After the one-dimensional probe of arXiv 2507.06265, section 4; `REPORT.md` says what differs.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse, special
from scipy.special import stdtrit

from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.maths.intervals import Interval, jackknife_variance, share_interval
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

Floats = npt.NDArray[np.float64]


class Fit(NamedTuple):
    """One-dimensional logistic regressions: slope and intercept of each, (fits,)."""

    slope: Floats
    intercept: Floats


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
    probed = []
    for column in enough:
        positive = np.zeros(labels.shape[0], dtype=np.bool_)
        positive[columns.indices[columns.indptr[column] : columns.indptr[column + 1]]] = True
        probed.append(_probe(matrix, positive, np.random.default_rng([seed, class_ids[column]])))
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


def fit(x: Floats, y: npt.NDArray[np.bool_]) -> Fit:
    """One-dimensional logistic regressions with the penalty slope^2 / 2, by Newton's method.

    Args:
        x: (n, fits), standardized.
        y: (n,), both values present.
    """
    slope, intercept = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    inputs, squares = _Inputs(x, y), x**2
    loss = inputs.objective(slope, intercept)
    for _ in range(_STEPS):
        p = inputs.chances(slope, intercept)
        error, weight = p - y[:, None], p * (1 - p)
        down_slope, down_intercept = (error * x).sum(axis=0) + slope, error.sum(axis=0)
        a, b, c = (weight * squares).sum(axis=0) + 1, (weight * x).sum(axis=0), weight.sum(axis=0)
        inverse = 1 / np.maximum(a * c - b**2, 1e-12)
        step_slope = (c * down_slope - b * down_intercept) * inverse
        step_intercept = (a * down_intercept - b * down_slope) * inverse
        trial_slope, trial_intercept = slope - step_slope, intercept - step_intercept
        trial_loss = inputs.objective(trial_slope, trial_intercept)
        # Steps that raise the loss are halved, and these fits alone tried again.
        for halving in range(1, _HALVINGS):
            worse = np.flatnonzero(trial_loss > loss + 1e-12)
            if not len(worse):
                break
            if len(worse) == 1:
                worse = worse.repeat(2)  # the sum of a single column is rounded in another order
            trial_slope[worse] = slope[worse] - 0.5**halving * step_slope[worse]
            trial_intercept[worse] = intercept[worse] - 0.5**halving * step_intercept[worse]
            some = _Inputs(x.take(worse, axis=1), y)
            trial_loss[worse] = some.objective(trial_slope[worse], trial_intercept[worse])
        better = trial_loss <= loss + 1e-12
        slope = np.where(better, trial_slope, slope)
        intercept = np.where(better, trial_intercept, intercept)
        gain = np.where(better, loss - trial_loss, 0)
        loss = np.where(better, trial_loss, loss)
        if gain.max(initial=0) < 1e-12 * len(y):
            break
    return Fit(slope, intercept)


_STEPS, _HALVINGS = 50, 20


class _Inputs:
    """The inputs of some fits; functions of them are computed once for the least of each fit.

    Most inputs are that: those of images on which the latent is not active.

    Args:
        x: (n, fits).
        y: (n,).
    """

    def __init__(self, x: Floats, y: npt.NDArray[np.bool_]) -> None:
        self._y, self._least = y[:, None], x.min(axis=0)
        self._row, self._fit = np.nonzero(x != self._least)
        self._x, self._of_positives = x[self._row, self._fit], y[self._row]

    def chances(self, slope: Floats, intercept: Floats) -> Floats:
        """The chance of the class that each fit gives to each image, (n, fits)."""
        least, others = self._logits(slope, intercept)
        result = np.repeat(special.expit(least)[None], len(self._y), axis=0)
        result[self._row, self._fit] = special.expit(others)
        return result

    def losses(self, slope: Floats, intercept: Floats) -> Floats:
        """The loss of each image in each fit, (n, fits)."""
        least, others = self._logits(slope, intercept)
        result = np.where(self._y, np.logaddexp(0, -least), np.logaddexp(0, least))
        signed = np.where(self._of_positives, -others, others)
        result[self._row, self._fit] = np.logaddexp(0, signed)
        return result

    def objective(self, slope: Floats, intercept: Floats) -> Floats:
        """The sum of losses with the penalty, (fits,)."""
        result: Floats = self.losses(slope, intercept).sum(axis=0) + slope**2 / 2
        return result

    def _logits(self, slope: Floats, intercept: Floats) -> tuple[Floats, Floats]:
        """Of the least inputs, (fits,), and of the others."""
        others = self._x * slope[self._fit] + intercept[self._fit]
        return self._least * slope + intercept, others


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


def _probe(
    matrix: sparse.csr_matrix, positive: npt.NDArray[np.bool_], generator: np.random.Generator
) -> _Probed:
    """The best latent for one class, from balanced positive and negative images."""
    positives, negatives = np.flatnonzero(positive), np.flatnonzero(~positive)
    count = min(len(positives), len(negatives), MOST_IMAGES)
    chosen = np.concatenate(
        [generator.permutation(positives)[:count], generator.permutation(negatives)[:count]]
    )
    y = np.arange(2 * count) < count
    # Positives and negatives are split alike, so that every part is balanced.
    part = np.concatenate([split(count, generator), split(count, generator)])
    some, trained = matrix[chosen], int((part == TRAIN).sum())
    candidates = _candidates(some[part == TRAIN], y[part == TRAIN])
    if not len(candidates):
        tested = int((part == TEST).sum())
        # A tie is wrong.
        return _Probed(_NO_LATENT, np.full(tested, np.log(2)), np.zeros(tested, np.bool_), trained)
    x = np.asarray(some[:, candidates].todense(), dtype=np.float64)
    mean, spread = x[part == TRAIN].mean(axis=0), x[part == TRAIN].std(axis=0)
    x = (x - mean) / spread
    fitted = fit(x[part == TRAIN], y[part == TRAIN])
    losses = _Inputs(x, y).losses(*fitted)
    best = int(np.argmin(losses[part == VALIDATION].mean(axis=0)))
    logits = x[:, best] * fitted.slope[best] + fitted.intercept[best]
    # A logit of zero counts as wrong.
    right = np.where(y, logits > 0, logits < 0)
    tested = part == TEST
    return _Probed(int(candidates[best]), losses[tested, best], right[tested], trained)


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


def _candidates(matrix: sparse.csr_matrix, y: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """The latents whose mean differs most between positives and all, in standard deviations."""
    count, latents = len(y), matrix.shape[1]
    of_positives = matrix[np.flatnonzero(y)]

    def sums(latent: npt.NDArray[np.integer], values: npt.NDArray[Any]) -> Floats:
        return np.asarray(np.bincount(latent, values.astype(np.float64), latents), np.float64)

    mean = sums(matrix.indices, matrix.data) / count
    square = sums(matrix.indices, matrix.data.astype(np.float64) ** 2) / count
    positive = sums(of_positives.indices, of_positives.data) / max(1, int(y.sum()))
    variance = square - mean**2
    varies = variance > 1e-12 * np.maximum(square, 1e-300)
    distance = np.zeros(len(mean))
    distance[varies] = np.abs(positive - mean)[varies] / np.sqrt(variance[varies])
    order = np.argsort(-distance, kind="stable")[:CANDIDATES]
    result: npt.NDArray[np.int64] = order[varies[order]]
    return result
