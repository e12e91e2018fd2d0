"""What the streams select jointly, and reconstruct, when one of them is missing.

A model is often used with fewer streams than it was trained on: texts only, or images without a
caption. See `REPORT.md` for the tables.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.codes.code_sets import Control
from sparc.analyze.codes.encode import encode_jointly
from sparc.analyze.maths.intervals import jackknife_share, with_interval
from sparc.analyze.metrics import reconstruction
from sparc.analyze.metrics.selection import selected
from sparc.analyze.rows.folds import Folds, leave_one_out
from sparc.train.model.network import Sparc

SELECTION_SCHEMA = pa.schema(
    [
        pa.field("control", pa.string(), nullable=False),
        pa.field("left_out", pa.string(), nullable=False),
        pa.field("stream", pa.string()),
        pa.field("kept", pa.float64()),
        pa.field("kept_low", pa.float64()),
        pa.field("kept_high", pa.float64()),
        pa.field("jaccard", pa.float64()),
        pa.field("jaccard_low", pa.float64()),
        pa.field("jaccard_high", pa.float64()),
    ]
)

RECONSTRUCTION_SCHEMA = pa.schema(
    [
        pa.field("control", pa.string(), nullable=False),
        pa.field("left_out", pa.string()),
        *(field for field in reconstruction.SCHEMA if field.name not in ("mode", "control")),
    ]
)

Features = Mapping[str, npt.NDArray[Any]]


class Tables(NamedTuple):
    """What changes when a stream is left out.

    Attributes:
        selection: Of `SELECTION_SCHEMA`: which latents are still selected.
        reconstruction: Of `RECONSTRUCTION_SCHEMA`: how well every stream is reconstructed.
    """

    selection: pa.Table
    reconstruction: pa.Table


def tables(
    model: Sparc, features: Features, control: Control, folds: Folds, *, batch_size: int
) -> Tables:
    """Encode some rows with all streams, and with each of them left out.

    Args:
        model: The model, on the device to use.
        features: By analysed stream, the raw features of the rows, (n, dim).
        control: Which control the model is.
        folds: The folds of these rows, from 0 to n - 1.
        batch_size: Rows encoded at a time.

    Returns:
        Tables without rows if there are fewer than two streams.
    """
    if len(features) < 2:
        return Tables(SELECTION_SCHEMA.empty_table(), RECONSTRUCTION_SCHEMA.empty_table())
    rows = np.arange(len(next(iter(features.values()))), dtype=np.int64)
    whole = encode_jointly(model, features, rows, batch_size=batch_size)
    selections: list[dict[str, Any]] = []
    reconstructions: list[dict[str, Any]] = []

    def reconstruct(codes: CodeRows, left_out: str | None) -> None:
        sums = reconstruction.sum_errors(model, features, codes, folds)
        which = {"control": control, "left_out": left_out}
        lines = reconstruction.errors(sums, folds.share)
        reconstructions.extend({**which, **line} for line in lines)

    reconstruct(whole, None)
    for left_out in features:
        left = {stream: x for stream, x in features.items() if stream != left_out}
        codes = encode_jointly(model, left, rows, batch_size=batch_size)
        which = {"control": control, "left_out": left_out}
        padded = model.selector.leaves_out
        lines = _selection_lines(whole, codes, folds, model.config.latents, padded=padded)
        selections.extend({**which, **line} for line in lines)
        reconstruct(codes, left_out)
    return Tables(
        pa.Table.from_pylist(selections, schema=SELECTION_SCHEMA),
        pa.Table.from_pylist(reconstructions, schema=RECONSTRUCTION_SCHEMA),
    )


def _selection_lines(
    whole: CodeRows, left: CodeRows, folds: Folds, latents: int, *, padded: bool
) -> Iterator[dict[str, Any]]:
    """The overlap of the selections, and of the latents active in each stream that is left."""
    first = left.streams[0]
    selections = [selected(codes, first, latents, padded=padded) for codes in (whole, left)]
    sets: list[tuple[str | None, list[sparse.spmatrix]]] = [(None, selections)]
    for name in left.streams:
        sets.append((name, [codes.matrix(name, latents) > 0 for codes in (whole, left)]))
    for stream, (before, after) in sets:
        common = _sizes(before.multiply(after))
        either = _sizes(before) + _sizes(after) - common
        yield {
            "stream": stream,
            **_mean_share("kept", common, _sizes(before), whole.rows, folds),
            **_mean_share("jaccard", common, either, whole.rows, folds),
        }


def _sizes(sets: sparse.spmatrix) -> npt.NDArray[np.int64]:
    """The size of each row's set of latents, (n,)."""
    return np.asarray(sets.sum(axis=1, dtype=np.int64)).ravel()


def _mean_share(
    name: str,
    common: npt.NDArray[np.int64],
    of: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    folds: Folds,
) -> dict[str, float | None]:
    """The mean of common / of over the rows where `of` is not 0, with its interval."""
    some = of > 0
    total = folds.add(rows, common / np.maximum(of, 1))
    with np.errstate(invalid="ignore"):
        means = leave_one_out(total) / leave_one_out(folds.add(rows, some))
    interval = jackknife_share(means, folds.share, folds.images)
    return with_interval(name, means[0], interval)
