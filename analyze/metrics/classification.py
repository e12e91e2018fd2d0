"""How well a linear probe tells classes from features, codes and reconstructions.

The probe is least squares with a ridge, one class against the rest, whose strength is chosen on
images that it was not fitted on, and whose precision is taken on yet others.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import linalg, sparse

from sparc.analyze.maths.statistics import jackknife, mean_of_known, with_interval
from sparc.analyze.metrics.probe import CHOOSE, FIT, SCORE, split
from sparc.analyze.rows.folds import FOLDS

SCHEMA = pa.schema(
    [
        pa.field("space", pa.string(), nullable=False),
        pa.field("mode", pa.string()),
        pa.field("control", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("target", pa.string(), nullable=False),
        pa.field("pictures", pa.int64(), nullable=False),
        pa.field("classes", pa.int64(), nullable=False),
        pa.field("ridge", pa.float64()),
        pa.field("mean_average_precision", pa.float64()),
        pa.field("mean_average_precision_low", pa.float64()),
        pa.field("mean_average_precision_high", pa.float64()),
    ]
)

Space = Literal["raw", "codes", "reconstruction"]

LEAST_IMAGES = 3
"""A class counts if each part has so many images of it, and of others."""

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""Strengths tried: the penalty on squared weights, by the number of images that are fitted."""

Floats = npt.NDArray[np.float64]


class Images(NamedTuple):
    """Labelled images and the part that each belongs to.

    Attributes:
        labels: (images, classes) bool, the classes that count.
        parts: Which part, of `sparc.analyze.metrics.probe`, (images,).
        folds: The fold that each is left out with, of those that are scored, from 1; 0 for the
            others, (images,).
    """

    labels: npt.NDArray[np.bool_]
    parts: npt.NDArray[np.int64]
    folds: npt.NDArray[np.int64]


def choose_images(labels: sparse.csr_matrix, seed: int) -> Images:
    """Part the images, and keep the classes that every part has enough of.

    Args:
        labels: Which classes the images carry, (images, classes), 0 or 1.
        seed: Decides the parts and the folds.
    """
    generator = np.random.default_rng(seed)
    parts = split(labels.shape[0], generator)
    scored = generator.permutation(np.flatnonzero(parts == SCORE))
    folds = np.zeros_like(parts)
    folds[scored] = 1 + np.arange(len(scored)) % FOLDS
    dense = np.asarray(labels.todense()) > 0
    kept = np.ones(dense.shape[1], dtype=np.bool_)
    for part in (FIT, CHOOSE, SCORE):
        having = dense[parts == part].sum(axis=0)
        kept &= np.minimum(having, (parts == part).sum() - having) >= LEAST_IMAGES
    return Images(dense[:, kept], parts, folds)


def row(
    space: Space,
    mode: str | None,
    control: str,
    source: str,
    target: str,
    inputs: Any,
    images: Images,
) -> pa.Table:
    """The precision of a probe on some inputs, one line of `SCHEMA`.

    Args:
        space: What the inputs are.
        mode: How their codes were selected; None for raw features.
        control: Which control they are.
        source: The stream they come from.
        target: The stream as whose features they were rebuilt; the source itself otherwise.
        inputs: (images, dim) dense or sparse.
        images: The images.
    """
    ridge, precisions = None, np.full(1, np.nan)
    if images.labels.shape[1]:
        ridge, precisions = _probe(inputs, images)
    folds = len(precisions) - 1
    interval = jackknife(precisions, 1 / max(1, folds), least=0, most=1)
    line = {
        "space": space,
        "mode": mode,
        "control": control,
        "source": source,
        "target": target,
        "pictures": len(images.parts),
        "classes": images.labels.shape[1],
        "ridge": ridge,
        **with_interval("mean_average_precision", precisions[0], interval),
    }
    return pa.Table.from_pylist([line], schema=SCHEMA)


def average_precision(
    scores: Floats, labels: npt.NDArray[np.bool_], folds: npt.NDArray[np.int64] | None = None
) -> Floats:
    """Average precision of every class; images without it win ties.

    Args:
        scores: (images, classes).
        labels: (images, classes).
        folds: The fold of each image, from 1, (images,).

    Returns:
        (1 + folds, classes): of all images, and of those that are not in each of the folds. NaN
        where none of them is of the class.
    """
    fold = np.zeros(len(scores), np.int64) if folds is None else folds
    result = np.empty((1 + int(fold.max(initial=0)), scores.shape[1]))
    for column in range(scores.shape[1]):
        order = np.lexsort((labels[:, column], -scores[:, column]))
        ranked, of_fold = labels[order, column], fold[order]
        result[0, column] = _precision(ranked)
        for left_out in range(1, len(result)):
            result[left_out, column] = _precision(ranked[of_fold != left_out])
    return result


def predict(
    inputs: Any,
    labels: npt.NDArray[np.bool_],
    fitted: npt.NDArray[np.bool_],
    ridges: Sequence[float],
) -> list[Floats]:
    """Scores of a ridge regression of standardized inputs, for each strength.

    Inputs and targets are centred by the images that are fitted, inputs divided by their standard
    deviations there; those that are constant there are left out.

    Args:
        inputs: (images, dim) dense or sparse.
        labels: (images, classes).
        fitted: Which images are fitted, (images,).
        ridges: Penalties on the squared weights, to be multiplied by the fitted images.

    Returns:
        (images that are not fitted, classes) each.
    """
    targets = labels[fitted].astype(np.float64)
    offset = targets.mean(axis=0)
    targets -= offset
    x = _scaled(inputs, fitted)
    inside, outside = x[np.flatnonzero(fitted)], x[np.flatnonzero(~fitted)]
    count, dim = inside.shape
    if not dim:
        return [np.tile(offset, (outside.shape[0], 1)) for _ in ridges]
    mean = np.asarray(inside.mean(axis=0)).ravel()
    if not sparse.issparse(x):
        inside, outside, mean = inside - mean, outside - mean, np.zeros(dim)
    # Sparse inputs are centred in their products, which are dense anyway: of inputs with inputs,
    # or of images with images where these are fewer.
    if dim <= count:
        gram = _dense(inside.T @ inside) - count * np.outer(mean, mean)
        right: Floats = inside.T @ targets
        solutions = _solutions(gram, right, [ridge * count for ridge in ridges])
        return [offset + (outside @ weights - mean @ weights) for weights in solutions]
    along = np.asarray(inside @ mean).ravel() - mean @ mean / 2
    beyond = np.asarray(outside @ mean).ravel() - mean @ mean / 2
    gram = _dense(inside @ inside.T) - along[:, None] - along
    left = _dense(outside @ inside.T) - beyond[:, None] - along
    solutions = _solutions(gram, targets, [ridge * count for ridge in ridges])
    return [offset + left @ weights for weights in solutions]


def _solutions(gram: Floats, right: Floats, penalties: Sequence[float]) -> Iterator[Floats]:
    """Solve (gram + penalty I) x = right for each penalty, by Cholesky's method.

    For a handful of penalties this takes a fraction of the time of finding eigenvalues.
    """
    for penalty in penalties:
        shifted = gram.copy()
        shifted[np.diag_indices_from(shifted)] += penalty
        factor = linalg.cho_factor(shifted, lower=True, overwrite_a=True, check_finite=False)
        yield linalg.cho_solve(factor, right, check_finite=False)


def _precision(ranked: npt.NDArray[np.bool_]) -> float:
    """Average precision from whether images have the class, the highest score first."""
    places = 1 + np.flatnonzero(ranked)
    return float((np.arange(1, len(places) + 1) / places).mean()) if len(places) else np.nan


def _probe(inputs: Any, images: Images) -> tuple[float, Floats]:
    """The chosen strength; mean average precision on all scored images and without each fold."""
    fitted = images.parts == FIT
    chosen = images.parts[~fitted] == CHOOSE
    held_out = images.labels[~fitted]
    scores = predict(inputs, images.labels, fitted, RIDGES)
    choices = [average_precision(s[chosen], held_out[chosen])[0].mean() for s in scores]
    best = int(np.argmax(choices))
    folds = images.folds[images.parts == SCORE]
    found = average_precision(scores[best][~chosen], held_out[~chosen], folds)
    # A class that only images of one fold have is left out with it.
    return RIDGES[best], mean_of_known(found)


def _scaled(inputs: Any, fitted: npt.NDArray[np.bool_]) -> Any:
    """Inputs by their standard deviation over the fitted images, without those that have none."""
    x = inputs.astype(np.float64)
    inside = x[np.flatnonzero(fitted)]
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
