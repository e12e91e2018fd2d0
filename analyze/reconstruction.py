"""How well every stream's code rebuilds the features of every stream.

See `REPORT.md` for the table. The errors of a row come from the model's own decoder; all sums over
rows are taken in float64.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from sparc.analyze.codes import CodeRows, CodeSet
from sparc.train.model import Codes, Sparc

SCHEMA = pa.schema(
    [
        pa.field("mode", pa.string(), nullable=False),
        pa.field("control", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("target", pa.string(), nullable=False),
        pa.field("nmse", pa.float64(), nullable=False),
        pa.field("explained_variance", pa.float64()),
    ]
)

_BATCH = 1024  # Rows decoded at a time: enough to be fast, few enough to stay small.


class ErrorSums(NamedTuple):
    """Sums over rows.

    Attributes:
        streams: The streams, in order.
        rows: Number of rows.
        nmse: Squared error by the row's squared norm, (sources, targets) float64.
        squared_error: Squared error, (sources, targets) float64.
        feature_sum: By target, the sum of its normalized features, (dim,) float64.
        square_sum: By target, the sum of their squared norms, (targets,) float64.
    """

    streams: tuple[str, ...]
    rows: int
    nmse: npt.NDArray[np.float64]
    squared_error: npt.NDArray[np.float64]
    feature_sum: tuple[npt.NDArray[np.float64], ...]
    square_sum: npt.NDArray[np.float64]


def measure(model: Sparc, features: Mapping[str, npt.NDArray[Any]], codes: CodeRows) -> ErrorSums:
    """Sum over some rows.

    Args:
        model: The model whose codes they are, on the device to use.
        features: By stream, the raw features at the places of the codes, (n, dim).
        codes: Their codes.
    """
    starts = range(0, len(codes.rows), _BATCH)
    positions = np.arange(len(codes.rows))
    return merge(
        [
            _measure_batch(
                model,
                {name: values[start : start + _BATCH] for name, values in features.items()},
                codes.take(positions[start : start + _BATCH]),
            )
            for start in starts
        ]
    )


def merge(parts: Sequence[ErrorSums]) -> ErrorSums:
    """The sums over the rows of all parts."""
    return ErrorSums(
        streams=parts[0].streams,
        rows=sum(part.rows for part in parts),
        nmse=sum(part.nmse for part in parts),  # type: ignore[arg-type]
        squared_error=sum(part.squared_error for part in parts),  # type: ignore[arg-type]
        feature_sum=tuple(
            np.sum(sums, axis=0) for sums in zip(*(p.feature_sum for p in parts), strict=True)
        ),
        square_sum=sum(part.square_sum for part in parts),  # type: ignore[arg-type]
    )


def table(sums: ErrorSums, code_set: CodeSet) -> pa.Table:
    """A row for each source and target, of schema `SCHEMA`."""
    rows = []
    for t, target in enumerate(sums.streams):
        mean_square = float((sums.feature_sum[t] ** 2).sum()) / sums.rows
        variance = float(sums.square_sum[t]) - mean_square
        # Rounding leaves something of the variance of a feature that never changes.
        varies = variance > 1e-12 * float(sums.square_sum[t])
        for s, source in enumerate(sums.streams):
            error = float(sums.squared_error[s, t])
            rows.append(
                {
                    "mode": code_set.mode,
                    "control": code_set.control,
                    "source": source,
                    "target": target,
                    "nmse": float(sums.nmse[s, t]) / sums.rows,
                    "explained_variance": 1 - error / variance if varies else None,
                }
            )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def to_codes(codes: CodeRows, stream: str, device: torch.device) -> Codes:
    """A stream's codes as the model takes them."""
    return Codes(
        torch.from_numpy(codes.indices[stream].astype(np.int64)).to(device),
        torch.from_numpy(np.ascontiguousarray(codes.values[stream])).to(device),
    )


@torch.inference_mode()
def _measure_batch(
    model: Sparc, features: Mapping[str, npt.NDArray[Any]], codes: CodeRows
) -> ErrorSums:
    streams = codes.streams
    device = next(model.parameters()).device
    found = {stream: to_codes(codes, stream, device) for stream in streams}
    nmse = np.zeros((len(streams), len(streams)))
    squared_error = np.zeros_like(nmse)
    feature_sum, square_sum = [], np.zeros(len(streams))
    for t, target in enumerate(streams):
        raw = torch.from_numpy(features[target]).to(device).float()
        wanted = model.normalize(target, raw)
        squares = _squares(wanted)
        feature_sum.append(wanted.double().cpu().numpy().sum(axis=0))
        square_sum[t] = squares.sum()
        for s, source in enumerate(streams):
            errors = _squares(model.decode(found[source], target) - wanted)
            squared_error[s, t] = errors.sum()
            nmse[s, t] = (errors / squares).sum()
    return ErrorSums(streams, len(codes.rows), nmse, squared_error, tuple(feature_sum), square_sum)


def _squares(rows: torch.Tensor) -> npt.NDArray[np.float64]:
    """Squared norms of rows, (n,), squared in float64: variances are differences of them."""
    result: npt.NDArray[np.float64] = rows.double().square().sum(dim=1).cpu().numpy()
    return result
