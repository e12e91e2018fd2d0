"""How well every stream's code reconstructs the features of every stream.

See `REPORT.md` for the table. Features are decoded by the model; sums over rows are in float64.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from scipy import sparse

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.codes.decode import to_codes
from sparc.analyze.codes.parts import Parts
from sparc.analyze.maths.intervals import jackknife, with_interval
from sparc.analyze.maths.reduction import Reducer
from sparc.analyze.rows.folds import Folds, leave_one_out
from sparc.train.model.network import Sparc

SCHEMA = pa.schema(
    [
        pa.field("mode", pa.string(), nullable=False),
        pa.field("control", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("target", pa.string(), nullable=False),
        pa.field("nmse", pa.float64(), nullable=False),
        pa.field("nmse_low", pa.float64()),
        pa.field("nmse_high", pa.float64()),
        pa.field("explained_variance", pa.float64()),
        pa.field("explained_variance_low", pa.float64()),
        pa.field("explained_variance_high", pa.float64()),
    ]
)

Floats = npt.NDArray[np.float64]

_BATCH = 1024  # Rows decoded at a time.


class ErrorSums(NamedTuple):
    """Sums over rows, by fold: index 0 has the rows in no fold.

    Attributes:
        sources: The streams of the codes, in order.
        targets: The streams of the features, in order.
        rows: Number of rows, (1 + folds,) float64.
        nmse: Squared error divided by the row's squared norm, (1 + folds, sources, targets)
            float64.
        squared_error: Squared error, (1 + folds, sources, targets) float64.
        feature_sum: By target, the sum of its normalized features, (1 + folds, dim) float64.
        square_sum: By target, the sum of their squared norms, (1 + folds, targets) float64.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    rows: Floats
    nmse: Floats
    squared_error: Floats
    feature_sum: tuple[Floats, ...]
    square_sum: Floats


def sum_all_errors(parts: Parts, model: Sparc, folds: Folds, reducer: Reducer) -> ErrorSums:
    """Sum over the rows of all parts; see `sum_errors`."""
    return reducer.reduce(_sum_part, merge, (parts, model, folds), len(parts))


def _sum_part(shared: tuple[Parts, Sparc, Folds], part: int) -> ErrorSums:
    parts, model, folds = shared
    return sum_errors(model, parts.features(part), parts.codes(part), folds)


def sum_errors(
    model: Sparc, features: Mapping[str, npt.NDArray[Any]], codes: CodeRows, folds: Folds
) -> ErrorSums:
    """Sum over some rows.

    Args:
        model: The model whose codes they are, on the device to use.
        features: By target, the raw features at the places of the codes, (n, dim).
        codes: The codes of the sources.
        folds: The folds of rows.
    """
    starts = range(0, len(codes.rows), _BATCH)
    positions = np.arange(len(codes.rows))
    return merge(
        [
            _sum_batch(
                model,
                {name: values[start : start + _BATCH] for name, values in features.items()},
                codes.take(positions[start : start + _BATCH]),
                folds,
            )
            for start in starts
        ]
    )


def merge(parts: Sequence[ErrorSums]) -> ErrorSums:
    """The sums over the rows of all parts."""
    return ErrorSums(
        sources=parts[0].sources,
        targets=parts[0].targets,
        rows=sum(part.rows for part in parts),  # type: ignore[arg-type]
        nmse=sum(part.nmse for part in parts),  # type: ignore[arg-type]
        squared_error=sum(part.squared_error for part in parts),  # type: ignore[arg-type]
        feature_sum=tuple(
            np.sum(sums, axis=0) for sums in zip(*(p.feature_sum for p in parts), strict=True)
        ),
        square_sum=sum(part.square_sum for part in parts),  # type: ignore[arg-type]
    )


def table(sums: ErrorSums, code_set: CodeSet, share: float) -> pa.Table:
    """A row for each source and target, of schema `SCHEMA`.

    Args:
        sums: Sums over all rows.
        code_set: Which codes these are.
        share: The share of the images in one fold.
    """
    which = {"mode": code_set.mode, "control": code_set.control}
    lines = [{**which, **line} for line in errors(sums, share)]
    return pa.Table.from_pylist(lines, schema=SCHEMA)


def errors(sums: ErrorSums, share: float) -> Iterator[dict[str, Any]]:
    """For each target and source, the columns of `SCHEMA` from `source` on.

    Args:
        sums: Sums over all rows.
        share: The share of the images in one fold.
    """
    rows = leave_one_out(sums.rows)
    nmse = leave_one_out(sums.nmse) / rows[:, None, None]
    nmse_interval = jackknife(nmse, share, least=0)
    for t, target in enumerate(sums.targets):
        square_sum = leave_one_out(sums.square_sum[:, t])
        mean_square = (leave_one_out(sums.feature_sum[t]) ** 2).sum(axis=1) / rows
        variance = square_sum - mean_square
        # The variance of a constant feature is a rounding error.
        variance[variance <= 1e-12 * square_sum] = np.nan
        explained = 1 - leave_one_out(sums.squared_error[:, :, t]) / variance[:, None]
        explained_interval = jackknife(explained, share, most=1)
        for s, source in enumerate(sums.sources):
            yield {
                "source": source,
                "target": target,
                **with_interval("nmse", nmse[0, s, t], nmse_interval, (s, t)),
                **with_interval("explained_variance", explained[0, s], explained_interval, s),
            }


@torch.inference_mode()
def _sum_batch(
    model: Sparc, features: Mapping[str, npt.NDArray[Any]], codes: CodeRows, folds: Folds
) -> ErrorSums:
    sources, targets = codes.streams, tuple(features)
    device = next(model.parameters()).device
    latents = model.config.latents
    sparse_codes = {source: to_codes(codes, source, device, latents) for source in sources}
    count = len(codes.rows)
    fold = folds.of_row[codes.rows]
    # Adds up rows by fold, in a fixed order.
    add = sparse.csr_matrix(
        (np.ones(count), (fold, np.arange(count))), shape=(1 + folds.number, count)
    )
    nmse = np.zeros((1 + folds.number, len(sources), len(targets)))
    squared_error = np.zeros_like(nmse)
    feature_sum, square_sum = [], np.zeros((1 + folds.number, len(targets)))
    for t, target in enumerate(targets):
        raw = torch.from_numpy(features[target]).to(device).float()
        wanted = model.normalize(target, raw)
        squares = _squares(wanted)
        feature_sum.append(add @ wanted.double().cpu().numpy())
        square_sum[:, t] = add @ squares
        for s, source in enumerate(sources):
            error = _squares(model.decode(sparse_codes[source], target) - wanted)
            squared_error[:, s, t] = add @ error
            nmse[:, s, t] = add @ (error / squares)
    rows = np.bincount(fold, minlength=1 + folds.number).astype(np.float64)
    return ErrorSums(sources, targets, rows, nmse, squared_error, tuple(feature_sum), square_sum)


def _squares(rows: torch.Tensor) -> Floats:
    """Squared norms of rows, (n,), in float64 since variances are differences of them."""
    result: Floats = rows.double().square().sum(dim=1).cpu().numpy()
    return result
