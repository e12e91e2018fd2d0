"""How well a linear probe predicts classes from features, codes and reconstructions.

The probe is ridge regression, one class against the rest. Its strength is selected on validation
images, its mean average precision measured on test images.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import linalg, sparse

from sparc.analyze.maths.intervals import jackknife_share, mean_of_known, with_interval
from sparc.analyze.rows.sample import TEST, TRAIN, VALIDATION, SplitImages

SCHEMA = pa.schema(
    [
        pa.field("space", pa.string(), nullable=False),
        pa.field("mode", pa.string()),
        pa.field("control", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("target", pa.string(), nullable=False),
        pa.field("images", pa.int64(), nullable=False),
        pa.field("classes", pa.int64(), nullable=False),
        pa.field("ridge", pa.float64()),
        pa.field("mean_average_precision", pa.float64()),
        pa.field("mean_average_precision_low", pa.float64()),
        pa.field("mean_average_precision_high", pa.float64()),
    ]
)

Space = Literal["raw", "codes", "reconstruction"]

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""Strengths tried: the penalty on squared weights, divided by the number of training images."""

Floats = npt.NDArray[np.float64]


def row(
    space: Space,
    mode: str | None,
    control: str,
    source: str,
    target: str,
    inputs: Any,
    images: SplitImages,
) -> pa.Table:
    """The precision of a probe on some inputs, one line of `SCHEMA`.

    Args:
        space: What the inputs are.
        mode: How their codes were selected; None for raw features.
        control: Which control they are.
        source: The stream that they come from.
        target: The stream whose features were reconstructed; otherwise the source.
        inputs: (images, dim) dense or sparse.
        images: The images.
    """
    ridge, precisions = None, np.full(1, np.nan)
    if images.labels.shape[1]:
        ridge, precisions = _probe(inputs, images)
    folds = len(precisions) - 1
    tested = int((images.parts == TEST).sum())
    # Like a share it varies less towards 0 and 1, where a symmetric interval has poor coverage.
    interval = jackknife_share(precisions, 1 / max(1, folds), tested)
    line = {
        "space": space,
        "mode": mode,
        "control": control,
        "source": source,
        "target": target,
        "images": len(images.parts),
        "classes": images.labels.shape[1],
        "ridge": ridge,
        **with_interval("mean_average_precision", precisions[0], interval),
    }
    return pa.Table.from_pylist([line], schema=SCHEMA)


def average_precision(
    scores: Floats, labels: npt.NDArray[np.bool_], folds: npt.NDArray[np.int64] | None = None
) -> Floats:
    """Average precision of every class; in a tie, images without the class rank first.

    Args:
        scores: (images, classes).
        labels: (images, classes).
        folds: The fold of each image, from 1, (images,).

    Returns:
        (1 + folds, classes): on all images, then without each fold. NaN where no image has the
        class.
    """
    fold = np.zeros(len(scores), np.int64) if folds is None else folds
    result = np.empty((1 + int(fold.max(initial=0)), scores.shape[1]))
    by_class = zip(np.ascontiguousarray(scores.T), np.ascontiguousarray(labels.T), strict=True)
    for column, (score, carried) in enumerate(by_class):
        # By descending score, in a tie images without the class first: before an image with it
        # stand all those without it that have the same score or more.
        positives = np.flatnonzero(carried)
        positives = positives[np.argsort(-score[positives], kind="stable")]
        others = np.flatnonzero(~carried)
        if len(result) == 1:
            before = len(others) - np.sort(score[others]).searchsorted(score[positives])
            result[0, column] = _precision(before)
            continue
        others = others[np.argsort(-score[others])]
        before = len(others) - score[others][::-1].searchsorted(score[positives])
        result[0, column] = _precision(before)
        result[1:, column] = _precisions_without(
            before, fold[positives], fold[others], len(result) - 1
        )
    return result


class Ridge(NamedTuple):
    """A ridge regression of one strength, fitted to the training images.

    Attributes:
        others: What its weights are multiplied by, of the other images, (others, n) dense or
            sparse.
        weights: (n, classes).
        shift: What is subtracted then, (classes,).
        offset: The mean of the targets, (classes,).
    """

    others: Any
    weights: Floats
    shift: Floats
    offset: Floats

    def scores(self, some: npt.NDArray[np.bool_]) -> Floats:
        """The scores of some of the other images, (n, classes), flagged in (others,)."""
        result: Floats = self.others[np.flatnonzero(some)] @ self.weights
        return self.offset + (result - self.shift)


def fit_ridges(
    inputs: Any,
    labels: npt.NDArray[np.bool_],
    training: npt.NDArray[np.bool_],
    ridges: Sequence[float],
) -> list[Ridge]:
    """Ridge regressions on standardized inputs.

    Means and standard deviations are those of the training images; inputs that are constant on them
    are left out.

    Args:
        inputs: (images, dim) dense or sparse.
        labels: (images, classes).
        training: Which images are fitted, (images,).
        ridges: Penalties on the squared weights, to be multiplied by the number of training images.

    Returns:
        One of each strength.
    """
    targets = labels[training].astype(np.float64)
    offset = targets.mean(axis=0)
    targets -= offset
    x = _scaled(inputs, training)
    inside, outside = x[np.flatnonzero(training)], x[np.flatnonzero(~training)]
    count, dim = inside.shape
    nothing = np.zeros_like(offset)
    if not dim:
        return [Ridge(outside, np.zeros((0, len(offset))), nothing, offset) for _ in ridges]
    mean = np.asarray(inside.mean(axis=0)).ravel()
    if not sparse.issparse(x):
        inside, outside, mean = inside - mean, outside - mean, np.zeros(dim)
    penalties = [ridge * count for ridge in ridges]
    # Sparse inputs are centred in their Gram matrix, which is dense anyway: of dimensions, or of
    # images where there are fewer of them.
    if dim <= count:
        gram = _dense(inside.T @ inside) - count * np.outer(mean, mean)
        solutions = _solutions(gram, inside.T @ targets, penalties)
        return [Ridge(outside, weights, mean @ weights, offset) for weights in solutions]
    along = np.asarray(inside @ mean).ravel() - mean @ mean / 2
    beyond = np.asarray(outside @ mean).ravel() - mean @ mean / 2
    gram = _dense(inside @ inside.T) - along[:, None] - along
    left = _dense(outside @ inside.T) - beyond[:, None] - along
    solutions = _solutions(gram, targets, penalties)
    return [Ridge(left, weights, nothing, offset) for weights in solutions]


def _solutions(gram: Floats, right: Floats, penalties: Sequence[float]) -> Iterator[Floats]:
    """Solve (gram + penalty I) x = right for each penalty, by Cholesky decomposition.

    For a handful of penalties this is several times faster than an eigendecomposition.
    """
    # LAPACK would copy what is not in Fortran's order, each time and column by column.
    gram, right = np.asfortranarray(gram), np.asfortranarray(right)
    shifted = np.empty_like(gram)
    for penalty in penalties:
        shifted[:] = gram
        shifted[np.diag_indices_from(shifted)] += penalty
        factor = linalg.cho_factor(shifted, lower=True, overwrite_a=True, check_finite=False)
        yield linalg.cho_solve(factor, right, check_finite=False)


def _precision(before: npt.NDArray[np.int64]) -> float:
    """Average precision; NaN without images that have the class.

    Args:
        before: How many images without the class stand before each image with it, ascending.
    """
    rank = np.arange(1, len(before) + 1)
    return float((rank / (before + rank)).mean()) if len(before) else np.nan


def _precisions_without(
    before: npt.NDArray[np.int64],
    fold: npt.NDArray[np.int64],
    fold_of_others: npt.NDArray[np.int64],
    folds: int,
) -> Floats:
    """Average precision without each fold, (folds,); NaN where no image is left.

    Args:
        before: How many images without the class stand before each image with it, ascending, (n,).
        fold: The fold of each image with the class, (n,).
        fold_of_others: That of each image without it, by descending score.
        folds: How many folds.
    """
    number = len(before)
    # Before which of the images with the class each of the others stands first.
    first = np.searchsorted(before, np.arange(len(fold_of_others)), side="right")
    places = fold_of_others * (number + 1) + first
    of_fold = np.bincount(places, minlength=(1 + folds) * (number + 1)).reshape(1 + folds, -1)
    left = before - np.cumsum(of_fold[1:, :number], axis=1)
    kept = fold != np.arange(1, 1 + folds)[:, None]
    rank = np.cumsum(kept, axis=1)
    terms = np.where(kept, rank / np.maximum(left + rank, 1), 0)
    with np.errstate(invalid="ignore"):
        return np.asarray(terms.sum(axis=1) / kept.sum(axis=1))


def _probe(inputs: Any, images: SplitImages) -> tuple[float, Floats]:
    """The selected strength; mean average precision on all test images and without each fold."""
    training = images.parts == TRAIN
    validation = images.parts[~training] == VALIDATION
    held_out = images.labels[~training]
    fitted = fit_ridges(inputs, images.labels, training, RIDGES)
    validated = [
        average_precision(ridge.scores(validation), held_out[validation])[0].mean()
        for ridge in fitted
    ]
    best = int(np.argmax(validated))
    folds = images.folds[images.parts == TEST]
    tested = fitted[best].scores(~validation)
    precisions = average_precision(tested, held_out[~validation], folds)
    # A class that only images of one fold have is left out with it.
    return RIDGES[best], mean_of_known(precisions)


def _scaled(inputs: Any, training: npt.NDArray[np.bool_]) -> Any:
    """Inputs divided by their standard deviation on the training images, constant ones left out."""
    x = inputs.astype(np.float64)
    inside = x[np.flatnonzero(training)]
    mean = np.asarray(inside.mean(axis=0)).ravel()
    squares = inside.multiply(inside) if sparse.issparse(x) else inside * inside
    square = np.asarray(squares.mean(axis=0)).ravel()
    variance = square - mean**2
    kept = np.flatnonzero(variance > 1e-12 * square)
    scale = 1 / np.sqrt(variance[kept])
    if sparse.issparse(x):
        return (x.tocsc()[:, kept] @ sparse.diags(scale)).tocsr()
    return x[:, kept] * scale


def _dense(matrix: Any) -> Floats:
    result: Floats = matrix.toarray() if sparse.issparse(matrix) else matrix
    return result
