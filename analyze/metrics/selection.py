"""Which streams decide the joint selection: the share that each would also select independently.

See `REPORT.md` for the table.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.codes.parts import Parts
from sparc.analyze.maths.intervals import jackknife_share, with_interval
from sparc.analyze.maths.reduction import Reducer
from sparc.analyze.rows.folds import Folds, leave_one_out

SCHEMA = pa.schema(
    [
        pa.field("control", pa.string(), nullable=False),
        pa.field("stream", pa.string(), nullable=False),
        pa.field("share", pa.float64(), nullable=False),
        pa.field("share_low", pa.float64()),
        pa.field("share_high", pa.float64()),
    ]
)


class SharedChoices(NamedTuple):
    """Sums over rows, by fold: index 0 has the rows in no fold.

    Attributes:
        streams: The streams, in order.
        joint: Latents selected jointly, (1 + folds,) float64.
        also_independent: How many of them each stream also selects independently,
            (1 + folds, streams) float64.
    """

    streams: tuple[str, ...]
    joint: npt.NDArray[np.float64]
    also_independent: npt.NDArray[np.float64]


def count_all_choices(
    joint: Parts, independent: Parts, folds: Folds, reducer: Reducer
) -> SharedChoices:
    """Count over the rows of all parts; see `count_choices`."""
    return reducer.reduce(_count_part, merge, (joint, independent, folds), len(joint))


def _count_part(shared: tuple[Parts, Parts, Folds], part: int) -> SharedChoices:
    joint, independent, folds = shared
    both = joint.codes(part), independent.codes(part)
    return count_choices(*both, joint.latents, folds, padded=joint.padded)


def count_choices(
    joint: CodeRows, independent: CodeRows, latents: int, folds: Folds, *, padded: bool
) -> SharedChoices:
    """Count over some rows.

    Args:
        joint: Their joint codes.
        independent: Their independent codes.
        latents: L.
        folds: The folds of rows.
        padded: As for `selected`.
    """
    jointly = selected(joint, joint.streams[0], latents, padded=padded)

    def count(latents_of_rows: sparse.csr_matrix) -> npt.NDArray[np.float64]:
        return folds.add(joint.rows, np.diff(latents_of_rows.indptr))

    also_independent = [
        count(jointly.multiply(selected(independent, stream, latents, padded=padded)).tocsr())
        for stream in joint.streams
    ]
    return SharedChoices(joint.streams, count(jointly), np.stack(also_independent, axis=1))


def merge(parts: Sequence[SharedChoices]) -> SharedChoices:
    """The counts over the rows of all parts."""
    return SharedChoices(
        parts[0].streams,
        sum(part.joint for part in parts),  # type: ignore[arg-type]
        sum(part.also_independent for part in parts),  # type: ignore[arg-type]
    )


def table(counts: SharedChoices, control: str, folds: Folds) -> pa.Table:
    """A row for each stream, of schema `SCHEMA`.

    Args:
        counts: Counts over all rows.
        control: Which control the codes are.
        folds: The folds of rows.
    """
    shares = leave_one_out(counts.also_independent) / leave_one_out(counts.joint)[:, None]
    interval = jackknife_share(shares, folds.share, folds.images)
    rows = [
        {
            "control": control,
            "stream": stream,
            **with_interval("share", shares[0, s], interval, s),
        }
        for s, stream in enumerate(counts.streams)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def selected(codes: CodeRows, stream: str, latents: int, *, padded: bool) -> sparse.csr_matrix:
    """1 where a stream selects a latent, active or not, (n, latents) int8.

    Args:
        codes: Codes of n rows.
        stream: The stream.
        latents: L.
        padded: Whether rows may use fewer latents than a code has columns. A padding latent is one
            without a value above zero in any stream that shares the selection.
    """
    indices = codes.indices[stream]
    is_selected = np.ones(indices.shape, bool)
    if padded:
        sharing = [other for other in codes.streams if codes.indices[other] is indices]
        is_selected = np.logical_or.reduce([codes.values[other] > 0 for other in sharing])
    ends = np.concatenate([[0], np.cumsum(is_selected.sum(axis=1))])
    chosen = indices[is_selected].astype(np.int32)
    shape = (len(indices), latents)
    matrix = sparse.csr_matrix((np.ones(len(chosen), np.int8), chosen, ends), shape)
    matrix.has_canonical_format = True
    return matrix
