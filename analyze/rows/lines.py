"""Some lines of a cache's table of rows, which is read a batch at a time."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparc.common.cache.reader import ActivationCache

_BATCH = 1 << 16
"""Rows read at a time."""


def lines_of(
    cache: ActivationCache, columns: Sequence[str], rows: npt.NDArray[np.int64]
) -> pa.Table:
    """Some columns of some rows.

    Args:
        cache: The cache.
        columns: Columns of its table of rows.
        rows: Which rows, ascending, (n,).
    """
    taken, first = [], 0
    for batch in cache.row_batches(columns, _BATCH):
        begin, end = np.searchsorted(rows, [first, first + len(batch)])
        taken.append(batch.take(pa.array(rows[begin:end] - first)))
        first += len(batch)
    return pa.Table.from_batches(taken).combine_chunks()
