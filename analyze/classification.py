"""How well a linear probe tells classes from features, codes and reconstructions.

The probe is least squares with a ridge, one class against the rest, whose strength is chosen on
pictures that it was not fitted on, and whose precision is taken on yet others.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import linalg, sparse

from sparc.analyze.probe import CHOOSE, FIT, SCORE, split

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
    ]
)

Space = Literal["raw", "codes", "reconstruction"]

LEAST_PICTURES = 3
"""A class counts if each part has so many pictures of it, and of others."""

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""Strengths tried: the penalty on squared weights, by the number of pictures that are fitted."""

Floats = npt.NDArray[np.float64]


class Pictures(NamedTuple):
    """Labelled pictures and the part that each belongs to.

    Attributes:
        labels: (pictures, classes) bool, the classes that count.
        parts: Which part, of `sparc.analyze.probe`, (pictures,).
    """

    labels: npt.NDArray[np.bool_]
    parts: npt.NDArray[np.int64]


def choose_pictures(labels: sparse.csr_matrix, seed: int) -> Pictures:
    """Part the pictures, and keep the classes that every part has enough of.

    Args:
        labels: Which classes the pictures carry, (pictures, classes), 0 or 1.
        seed: Decides the parts.
    """
    parts = split(labels.shape[0], np.random.default_rng(seed))
    dense = np.asarray(labels.todense()) > 0
    kept = np.ones(dense.shape[1], dtype=np.bool_)
    for part in (FIT, CHOOSE, SCORE):
        having = dense[parts == part].sum(axis=0)
        kept &= np.minimum(having, (parts == part).sum() - having) >= LEAST_PICTURES
    return Pictures(dense[:, kept], parts)


def row(
    space: Space,
    mode: str | None,
    control: str,
    source: str,
    target: str,
    inputs: Any,
    pictures: Pictures,
) -> pa.Table:
    """The precision of a probe on some inputs, one line of `SCHEMA`.

    Args:
        space: What the inputs are.
        mode: How their codes were selected; None for raw features.
        control: Which control they are.
        source: The stream they come from.
        target: The stream as whose features they were rebuilt; the source itself otherwise.
        inputs: (pictures, dim) dense or sparse.
        pictures: The pictures.
    """
    known = pictures.labels.shape[1] > 0
    ridge, precision = _probe(inputs, pictures) if known else (None, None)
    line = {
        "space": space,
        "mode": mode,
        "control": control,
        "source": source,
        "target": target,
        "pictures": len(pictures.parts),
        "classes": pictures.labels.shape[1],
        "ridge": ridge,
        "mean_average_precision": precision,
    }
    return pa.Table.from_pylist([line], schema=SCHEMA)


def average_precision(scores: Floats, labels: npt.NDArray[np.bool_]) -> Floats:
    """Average precision of every class; pictures without it win ties.

    Args:
        scores: (pictures, classes).
        labels: (pictures, classes), with a picture in each column.

    Returns:
        (classes,).
    """
    result = np.empty(scores.shape[1])
    for column in range(scores.shape[1]):
        order = np.lexsort((labels[:, column], -scores[:, column]))
        places = 1 + np.flatnonzero(labels[order, column])
        result[column] = (np.arange(1, len(places) + 1) / places).mean()
    return result


def predict(
    inputs: Any,
    labels: npt.NDArray[np.bool_],
    fitted: npt.NDArray[np.bool_],
    ridges: Sequence[float],
) -> list[Floats]:
    """Scores of a ridge regression of standardized inputs, for each strength.

    Inputs and targets are centred by the pictures that are fitted, inputs divided by their standard
    deviations there; those that are constant there are left out.

    Args:
        inputs: (pictures, dim) dense or sparse.
        labels: (pictures, classes).
        fitted: Which pictures are fitted, (pictures,).
        ridges: Penalties on the squared weights, to be multiplied by the fitted pictures.

    Returns:
        (pictures that are not fitted, classes) each.
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
    # or of pictures with pictures where these are fewer.
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


def _probe(inputs: Any, pictures: Pictures) -> tuple[float, float]:
    fitted = pictures.parts == FIT
    chosen = pictures.parts[~fitted] == CHOOSE
    held_out = pictures.labels[~fitted]
    scores = predict(inputs, pictures.labels, fitted, RIDGES)
    choices = [average_precision(s[chosen], held_out[chosen]).mean() for s in scores]
    best = int(np.argmax(choices))
    found = average_precision(scores[best][~chosen], held_out[~chosen]).mean()
    return RIDGES[best], float(found)


def _scaled(inputs: Any, fitted: npt.NDArray[np.bool_]) -> Any:
    """Inputs by their standard deviation over the fitted pictures, without those that have none."""
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
