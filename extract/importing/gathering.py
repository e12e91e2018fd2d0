"""Reading the features of an array in the order of the cache's rows, a chunk at a time."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sparc.common.progress import progress
from sparc.extract.importing.alignment import ArrayRows
from sparc.extract.importing.arrays.array import FeatureArray, MappedArray

_ROWS = 4096
_DENSE = 4
"""Where rows that are wanted lie in a stretch at most this many times as long, it is read."""


class Gathered:
    """The features of an array, by row of the cache.

    Args:
        array: The array.
        array_rows: Where the rows of the cache are in it; None: the same rows, in order.
        spool: The folder for a copy of an array that must be read in another order than it lies
            in, and cannot be mapped; it takes no name there.
    """

    def __init__(self, array: FeatureArray, array_rows: ArrayRows | None, spool: Path) -> None:
        self._array = array
        self._array_rows = array_rows
        self._spool = spool
        self._needs_copy = (
            array_rows is not None and not array.is_mapped and not _forwards(array_rows)
        )

    def chunk(self, rows: range) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """The features of some rows, and which of these the array has.

        Returns:
            (rows, dim), NaN where a row is not in the array, and (rows,) whether it is.
        """
        if self._array_rows is None:
            return self._array.read(rows.start, rows.stop), np.ones(len(rows), np.bool_)
        if self._needs_copy:
            self._copy()
        array_rows = self._array_rows[rows.start : rows.stop]
        has = array_rows >= 0
        wanted = array_rows[has]
        if not len(wanted):
            return np.full((len(rows), self._array.dim), np.nan, np.float32), has
        values = self._array.take(wanted)
        if has.all():
            return values, has
        result = np.full((len(rows), self._array.dim), np.nan, values.dtype)
        result[has] = values
        return result, has

    def _copy(self) -> None:
        """Copy the array, as it lies, to a file without a name, which is mapped instead."""
        array = self._array
        dtype = np.dtype("float32") if array.dtype == "bfloat16" else np.dtype(array.dtype)
        with tempfile.TemporaryFile(dir=self._spool) as file:
            with progress(array.rows, "bringing rows into order") as bar:
                for start in range(0, array.rows, _ROWS):
                    stop = min(start + _ROWS, array.rows)
                    file.write(array.read(start, stop).astype(dtype, copy=False).tobytes())
                    bar.update(stop - start)
            file.flush()
            self._array = MappedArray(np.memmap(file, dtype, "r", shape=(array.rows, array.dim)))
        self._needs_copy = False


def _forwards(array_rows: ArrayRows) -> bool:
    """Whether chunks of rows are short stretches of an array, one after the other."""
    last = -1
    for start in range(0, len(array_rows), _ROWS):
        wanted = array_rows[start : start + _ROWS]
        wanted = wanted[wanted >= 0]
        if not len(wanted):
            continue
        if wanted.min() < last or np.ptp(wanted) >= _DENSE * len(wanted) + _ROWS:
            return False
        last = int(wanted.max())
    return True
