"""How well a single latent predicts a class, selected on some images and scored on others.

After the one-dimensional probe of arXiv 2507.06265, section 4; `REPORT.md` says what differs.
"""

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
    enough = np.minimum(images, labels.shape[0] - images) >= LEAST_IMAGES
    rows = []
    for column in np.flatnonzero(enough):
        class_id = int(class_ids[column])
        positive = np.zeros(labels.shape[0], dtype=np.bool_)
        positive[columns.indices[columns.indptr[column] : columns.indptr[column + 1]]] = True
        generator = np.random.default_rng([seed, class_id])
        row = {"mode": code_set.mode, "control": code_set.control, "stream": stream}
        result = _probe(matrix, positive, generator)
        rows.append({**row, "class_id": class_id, "images": int(positive.sum()), **result})
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def fit(x: Floats, y: npt.NDArray[np.bool_]) -> Fit:
    """One-dimensional logistic regressions with the penalty slope^2 / 2, by Newton's method.

    Args:
        x: (n, fits), standardized.
        y: (n,), both values present.
    """
    slope, intercept = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    loss = _objective(x, y, slope, intercept)
    for _ in range(_STEPS):
        p = special.expit(x * slope + intercept)
        error, weight = p - y[:, None], p * (1 - p)
        down_slope, down_intercept = (error * x).sum(axis=0) + slope, error.sum(axis=0)
        a, b, c = (weight * x**2).sum(axis=0) + 1, (weight * x).sum(axis=0), weight.sum(axis=0)
        inverse = 1 / np.maximum(a * c - b**2, 1e-12)
        step_slope = (c * down_slope - b * down_intercept) * inverse
        step_intercept = (a * down_intercept - b * down_slope) * inverse
        # A step that raises the loss is halved.
        scale = np.ones_like(slope)
        for _ in range(_HALVINGS):
            trial = slope - scale * step_slope, intercept - scale * step_intercept
            trial_loss = _objective(x, y, *trial)
            worse = trial_loss > loss + 1e-12
            if not worse.any():
                break
            scale = np.where(worse, scale / 2, scale)
        slope, intercept = (
            np.where(worse, old, new) for old, new in zip((slope, intercept), trial, strict=True)
        )
        gain = np.where(worse, 0, loss - trial_loss)
        loss = np.where(worse, loss, trial_loss)
        if gain.max(initial=0) < 1e-12 * len(y):
            break
    return Fit(slope, intercept)


_STEPS, _HALVINGS = 50, 20


def _objective(x: Floats, y: npt.NDArray[np.bool_], slope: Floats, intercept: Floats) -> Floats:
    result: Floats = _losses(x, y, slope, intercept).sum(axis=0) + slope**2 / 2
    return result


def _losses(x: Floats, y: npt.NDArray[np.bool_], slope: Floats, intercept: Floats) -> Floats:
    signs = np.where(y, 1.0, -1.0)[:, None]
    result: Floats = np.logaddexp(0, -signs * (x * slope + intercept))
    return result


def _probe(
    matrix: sparse.csr_matrix, positive: npt.NDArray[np.bool_], generator: np.random.Generator
) -> dict[str, Any]:
    """Latent, log loss and accuracy for one class, from balanced positive and negative images."""
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
    if not len(candidates):  # no latent is active on any of these images
        tested = int((part == TEST).sum())
        losses, right = np.full(tested, np.log(2)), np.zeros(tested, np.bool_)  # a tie is wrong
        return {"latent": None, **_score(losses, right, trained)}
    x = np.asarray(some[:, candidates].todense(), dtype=np.float64)
    mean, spread = x[part == TRAIN].mean(axis=0), x[part == TRAIN].std(axis=0)
    x = (x - mean) / spread
    fitted = fit(x[part == TRAIN], y[part == TRAIN])
    losses = _losses(x, y, *fitted)
    best = int(np.argmin(losses[part == VALIDATION].mean(axis=0)))
    logits = x[:, best] * fitted.slope[best] + fitted.intercept[best]
    # A logit of zero counts as wrong.
    right = np.where(y, logits > 0, logits < 0)
    return {
        "latent": int(candidates[best]),
        **_score(losses[part == TEST, best], right[part == TEST], trained),
    }


def _score(losses: Floats, right: npt.NDArray[np.bool_], trained: int) -> dict[str, float]:
    """Means over the test images with their intervals, by name.

    Args:
        losses: Of the positives and then of as many negatives, each in random order, (n,).
        right: Whether each image is classified right, (n,).
        trained: On how many images the probe was fitted.
    """
    half = len(losses) // 2
    # Each fold has positives and negatives.
    folds = min(FOLDS, half)
    fold = np.tile(np.arange(half) % folds, 2)
    sums, sizes = np.bincount(fold, weights=losses), np.bincount(fold)
    without = (losses.sum() - sums) / (len(losses) - sizes)
    loss, accuracy = float(losses.mean()), float(right.mean())
    # Fitting k parameters to n images costs chi^2_k / (2 n) nats on others (Wilks), of variance
    # 1 / n^2 for slope and intercept. Of a probe near chance that is most of the variance.
    variance = jackknife_variance(without, 1 / folds) + 1 / trained**2
    margin = stdtrit(folds - 1, 0.975) * np.sqrt(variance)
    loss_interval = Interval(np.maximum(loss - margin, 0), loss + margin)
    # Stratified by class, accuracy varies less than on images drawn at random: p (1 - p) of both
    # together by the mean of it within classes. Half an image is added to each count, so that no
    # rate is 0 or 1.
    rates = (right.reshape(2, half).sum(axis=1) + 0.5) / (half + 1)
    rate = rates.mean()
    gain = rate * (1 - rate) / (rates * (1 - rates)).mean()
    accuracy_interval = share_interval(accuracy, len(right) * gain)
    return {
        "log_loss": loss,
        "log_loss_low": float(loss_interval.low),
        "log_loss_high": float(loss_interval.high),
        "accuracy": accuracy,
        "accuracy_low": float(accuracy_interval.low),
        "accuracy_high": float(accuracy_interval.high),
    }


def _candidates(matrix: sparse.csr_matrix, y: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """The latents whose mean differs most between positives and all, in standard deviations."""
    values = matrix.astype(np.float64)
    count = len(y)
    mean = np.asarray(values.sum(axis=0)).ravel() / count
    square = np.asarray(values.multiply(values).sum(axis=0)).ravel() / count
    positive = np.asarray(values[np.flatnonzero(y)].sum(axis=0)).ravel() / max(1, int(y.sum()))
    variance = square - mean**2
    varies = variance > 1e-12 * np.maximum(square, 1e-300)
    distance = np.zeros(len(mean))
    distance[varies] = np.abs(positive - mean)[varies] / np.sqrt(variance[varies])
    order = np.argsort(-distance, kind="stable")[:CANDIDATES]
    result: npt.NDArray[np.int64] = order[varies[order]]
    return result
