"""How often and how strongly each latent is active in each stream, and on which rows most.

See `REPORT.md` for the tables.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.maths.intervals import jackknife, unseen_share, with_interval
from sparc.analyze.rows import top_rows
from sparc.analyze.rows.folds import Folds, active_by_fold
from sparc.analyze.rows.top_rows import TopRows

SCHEMA = pa.schema(
    [
        pa.field("mode", pa.string(), nullable=False),
        pa.field("stream", pa.string(), nullable=False),
        pa.field("latent", pa.int32(), nullable=False),
        pa.field("rows_active", pa.int64(), nullable=False),
        pa.field("frequency", pa.float64(), nullable=False),
        pa.field("mean_value", pa.float64()),
        pa.field("largest_value", pa.float32()),
        pa.field("alive_streams", pa.int32(), nullable=False),
        pa.field("top_rows", pa.list_(pa.int64()), nullable=False),
        pa.field("top_values", pa.list_(pa.float32()), nullable=False),
    ]
)

STREAMS_SCHEMA = pa.schema(
    [
        pa.field("mode", pa.string(), nullable=False),
        pa.field("control", pa.string(), nullable=False),
        pa.field("stream", pa.string(), nullable=False),
        pa.field("dead_latents", pa.int64(), nullable=False),
        pa.field("images", pa.int64(), nullable=False),
        pa.field("unseen_share", pa.float64(), nullable=False),
        pa.field("active_per_row", pa.float64(), nullable=False),
        pa.field("active_per_row_low", pa.float64()),
        pa.field("active_per_row_high", pa.float64()),
    ]
)

ALIVE_SCHEMA = pa.schema(
    [
        pa.field("mode", pa.string(), nullable=False),
        pa.field("control", pa.string(), nullable=False),
        pa.field("alive_streams", pa.int32(), nullable=False),
        pa.field("latents", pa.int64(), nullable=False),
        pa.field("images", pa.int64(), nullable=False),
        pa.field("unseen_share", pa.float64(), nullable=False),
    ]
)


class LatentCounts(NamedTuple):
    """Sums over rows, by stream and latent.

    Attributes:
        streams: The streams, in order.
        rows: Number of rows.
        active: Rows with a value above zero, (streams, latents) int64.
        value_sum: Sum of values, (streams, latents) float64.
        square_sum: Sum of squared values, (streams, latents) float64.
        largest: Largest value, (streams, latents) float32.
        top: The strongest rows, by stream.
    """

    streams: tuple[str, ...]
    rows: int
    active: npt.NDArray[np.int64]
    value_sum: npt.NDArray[np.float64]
    square_sum: npt.NDArray[np.float64]
    largest: npt.NDArray[np.float32]
    top: tuple[TopRows, ...]


def count_latents(
    codes: CodeRows, latents: int, *, top: int, marked: npt.NDArray[np.bool_] | None = None
) -> LatentCounts:
    """Count over some rows.

    Args:
        codes: The rows.
        latents: L.
        top: Rows in a list of strongest rows.
        marked: Which of the rows are marked in such lists, (n,); all by default.
    """
    matrices = [codes.matrix(stream, latents) for stream in codes.streams]
    values = [m.data.astype(np.float64) for m in matrices]
    lists = tuple(top_rows.strongest(codes, stream, top, marked) for stream in codes.streams)
    largest = np.zeros((len(matrices), latents), np.float32)
    for line, of_stream in zip(largest, lists, strict=True):
        owners, begins = np.unique(of_stream.latents, return_index=True)
        line[owners] = of_stream.values[begins]
    return LatentCounts(
        streams=codes.streams,
        rows=len(codes.rows),
        active=np.stack([np.bincount(m.indices, minlength=latents) for m in matrices]),
        value_sum=_sums(matrices, values, latents),
        square_sum=_sums(matrices, [v**2 for v in values], latents),
        largest=largest,
        top=lists,
    )


def merge(parts: Sequence[LatentCounts], *, top: int) -> LatentCounts:
    """The counts over the rows of all parts."""
    return LatentCounts(
        streams=parts[0].streams,
        rows=sum(part.rows for part in parts),
        active=sum(part.active for part in parts),  # type: ignore[arg-type]
        value_sum=sum(part.value_sum for part in parts),  # type: ignore[arg-type]
        square_sum=sum(part.square_sum for part in parts),  # type: ignore[arg-type]
        largest=np.maximum.reduce([part.largest for part in parts]),
        top=tuple(
            top_rows.merge(lists, top) for lists in zip(*(p.top for p in parts), strict=True)
        ),
    )


class ActiveCounts(NamedTuple):
    """On how many rows each latent is active: of all rows, then without each fold.

    Attributes:
        streams: The streams, in order.
        rows: Number of rows, (1 + folds,) int64.
        active: (1 + folds, streams, latents) int64.
        share: The share of the images in one fold.
        images: Number of images.
    """

    streams: tuple[str, ...]
    rows: npt.NDArray[np.int64]
    active: npt.NDArray[np.int64]
    share: float
    images: int

    @property
    def basis(self) -> dict[str, int | float]:
        """The columns beside a count of dead or alive latents, instead of an interval.

        Leaving rows out says nothing about latents that would be active on further rows.
        """
        return {"images": self.images, "unseen_share": unseen_share(self.images)}


def active_counts(counts: LatentCounts, folds: Folds, fold_codes: CodeRows) -> ActiveCounts:
    """Leave each fold out.

    Args:
        counts: Counts over all rows.
        folds: The rows that are left out in turn.
        fold_codes: The codes of all rows that are in a fold.
    """
    latents = counts.active.shape[1]
    rows = np.full(1 + folds.number, counts.rows)
    rows[1:] -= np.bincount(folds.of_row[fold_codes.rows], minlength=1 + folds.number)[1:]
    active = np.repeat(counts.active[None], 1 + folds.number, axis=0)
    for s, stream in enumerate(counts.streams):
        own = active_by_fold(fold_codes, stream, latents, folds).indices
        lost = np.bincount(own, minlength=folds.number * latents)
        active[1:, s] -= lost.reshape(folds.number, latents)
    return ActiveCounts(counts.streams, rows, active, folds.share, folds.images)


def alive_table(counts: ActiveCounts, code_set: CodeSet) -> pa.Table:
    """How many latents are alive in none, one, … all of the streams, of `ALIVE_SCHEMA`."""
    streams = len(counts.streams)
    alive_streams = (counts.active[0] > 0).sum(axis=0)
    rows = [
        {
            "mode": code_set.mode,
            "control": code_set.control,
            "alive_streams": number,
            "latents": int((alive_streams == number).sum()),
            **counts.basis,
        }
        for number in range(streams + 1)
    ]
    return pa.Table.from_pylist(rows, schema=ALIVE_SCHEMA)


def streams_table(counts: ActiveCounts, code_set: CodeSet) -> pa.Table:
    """Dead latents and true L0 of each stream, of `STREAMS_SCHEMA`."""
    latents = counts.active.shape[2]
    dead = (counts.active[0] == 0).sum(axis=1)
    active_per_row = counts.active.sum(axis=2) / counts.rows[:, None]
    active_interval = jackknife(active_per_row, counts.share, least=0, most=latents)
    rows = [
        {
            "mode": code_set.mode,
            "control": code_set.control,
            "stream": stream,
            "dead_latents": int(dead[s]),
            **counts.basis,
            **with_interval("active_per_row", active_per_row[0, s], active_interval, s),
        }
        for s, stream in enumerate(counts.streams)
    ]
    return pa.Table.from_pylist(rows, schema=STREAMS_SCHEMA)


def table(counts: LatentCounts, code_set: CodeSet) -> pa.Table:
    """A row for each stream and latent, of schema `SCHEMA`."""
    latents = counts.active.shape[1]
    alive_streams = (counts.active > 0).sum(axis=0)
    pieces = []
    for position, stream in enumerate(counts.streams):
        active, top = counts.active[position], counts.top[position]
        dead = active == 0
        mean = counts.value_sum[position] / np.maximum(active, 1)
        ends = np.concatenate([[0], np.cumsum(np.bincount(top.latents, minlength=latents))])
        pieces.append(
            pa.table(
                {
                    "mode": [code_set.mode] * latents,
                    "stream": [stream] * latents,
                    "latent": np.arange(latents, dtype=np.int32),
                    "rows_active": active,
                    "frequency": active / counts.rows,
                    "mean_value": pa.array(mean, mask=dead),
                    "largest_value": pa.array(counts.largest[position], mask=dead),
                    "alive_streams": alive_streams.astype(np.int32),
                    "top_rows": pa.ListArray.from_arrays(ends.astype(np.int32), top.rows),
                    "top_values": pa.ListArray.from_arrays(ends.astype(np.int32), top.values),
                },
                schema=SCHEMA,
            )
        )
    return pa.concat_tables(pieces)


def _sums(matrices: list[Any], weights: list[npt.NDArray[np.float64]], latents: int) -> Any:
    pairs = zip(matrices, weights, strict=True)
    return np.stack([np.bincount(m.indices, weights=w, minlength=latents) for m, w in pairs])
