"""What the streams select together, and rebuild, when one of them is missing.

A model is often used on less than it was trained on: a text alone, images without a caption. See
`REPORT.md` for the tables.
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
from sparc.analyze.metrics.selection import chosen
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


class LeftOut(NamedTuple):
    """What changes with a stream less.

    Attributes:
        selection: Of `SELECTION_SCHEMA`: what is still selected.
        reconstruction: Of `RECONSTRUCTION_SCHEMA`: how well every stream is rebuilt.
    """

    selection: pa.Table
    reconstruction: pa.Table


def tables(
    model: Sparc, features: Features, control: Control, folds: Folds, *, batch_size: int
) -> LeftOut:
    """Encode some rows with all streams, and with each of them left out.

    Args:
        model: The model, on the device to use.
        features: By analysed stream, the raw features of the rows, (n, dim).
        control: Which control the model is.
        folds: The folds of these rows, from 0 to n - 1.
        batch_size: Rows encoded at a time.

    Returns:
        Tables without a row where there are fewer than two streams.
    """
    if len(features) < 2:
        return LeftOut(SELECTION_SCHEMA.empty_table(), RECONSTRUCTION_SCHEMA.empty_table())
    rows = np.arange(len(next(iter(features.values()))), dtype=np.int64)
    whole = encode_jointly(model, features, rows, batch_size=batch_size)
    selected: list[dict[str, Any]] = []
    rebuilt: list[dict[str, Any]] = []

    def rebuild(codes: CodeRows, left_out: str | None) -> None:
        sums = reconstruction.sum_errors(model, features, codes, folds)
        told = {"control": control, "left_out": left_out}
        rebuilt.extend({**told, **line} for line in reconstruction.errors(sums, folds.share))

    rebuild(whole, None)
    for left_out in features:
        left = {stream: x for stream, x in features.items() if stream != left_out}
        codes = encode_jointly(model, left, rows, batch_size=batch_size)
        told = {"control": control, "left_out": left_out}
        compared = _compare(whole, codes, folds, model.config.latents)
        selected.extend({**told, **line} for line in compared)
        rebuild(codes, left_out)
    return LeftOut(
        pa.Table.from_pylist(selected, schema=SELECTION_SCHEMA),
        pa.Table.from_pylist(rebuilt, schema=RECONSTRUCTION_SCHEMA),
    )


def _compare(
    whole: CodeRows, left: CodeRows, folds: Folds, latents: int
) -> Iterator[dict[str, Any]]:
    """How like each other the selections are, and what is active in each stream that is left."""
    first = left.streams[0]
    selected = [chosen(codes.indices[first], latents) for codes in (whole, left)]
    sets: list[tuple[str | None, list[sparse.spmatrix]]] = [(None, selected)]
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
    """How many latents each row's set has, (n,)."""
    return np.asarray(sets.sum(axis=1, dtype=np.int64)).ravel()


def _mean_share(
    name: str,
    common: npt.NDArray[np.int64],
    of: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    folds: Folds,
) -> dict[str, float | None]:
    """The mean over the rows where there is something to share, and its interval."""
    some = of > 0
    total = folds.add(rows, common / np.maximum(of, 1))
    with np.errstate(invalid="ignore"):
        means = leave_one_out(total) / leave_one_out(folds.add(rows, some))
    interval = jackknife_share(means, folds.share, folds.images)
    return with_interval(name, means[0], interval)
