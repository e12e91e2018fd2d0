"""Who decides what the streams select together.

See `REPORT.md` for the table.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from sparc.analyze.codes import CodeRows

SCHEMA = pa.schema(
    [
        pa.field("control", pa.string(), nullable=False),
        pa.field("stream", pa.string(), nullable=False),
        pa.field("share", pa.float64(), nullable=False),
    ]
)


class SharedChoices(NamedTuple):
    """Sums over rows.

    Attributes:
        streams: The streams, in order.
        chosen: Latents selected together.
        chosen_alone: How many of them each stream would also have selected alone, (streams,).
    """

    streams: tuple[str, ...]
    chosen: int
    chosen_alone: npt.NDArray[np.int64]


def measure(joint: CodeRows, independent: CodeRows, latents: int) -> SharedChoices:
    """Count over some rows; `latents` is L."""
    together = chosen(joint.indices[joint.streams[0]], latents)
    counts = [
        together.multiply(chosen(independent.indices[stream], latents)).nnz
        for stream in joint.streams
    ]
    return SharedChoices(joint.streams, together.nnz, np.array(counts, np.int64))


def merge(parts: Sequence[SharedChoices]) -> SharedChoices:
    """The counts over the rows of all parts."""
    return SharedChoices(
        parts[0].streams,
        sum(part.chosen for part in parts),
        sum(part.chosen_alone for part in parts),  # type: ignore[arg-type]
    )


def table(counts: SharedChoices, control: str) -> pa.Table:
    """A row for each stream, of schema `SCHEMA`."""
    shares = (counts.chosen_alone / counts.chosen).tolist()
    rows = [
        {"control": control, "stream": stream, "share": share}
        for stream, share in zip(counts.streams, shares, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def chosen(indices: npt.NDArray[np.integer], latents: int) -> sparse.csr_matrix:
    """1 where a latent was selected, active or not: from (n, k) indices to (n, latents) int8."""
    n, k = indices.shape
    matrix = sparse.csr_matrix(
        (np.ones(n * k, np.int8), indices.ravel().astype(np.int32), np.arange(0, n * k + 1, k)),
        shape=(n, latents),
    )
    matrix.has_canonical_format = True
    return matrix
