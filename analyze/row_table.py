"""What a search shows of rows, laid out so that a few of them are found in no time.

A cache's table is made to be read whole: for one caption a hundred thousand are decompressed. In a
report, `index/rows/`, the same columns lie uncompressed, and both files are mapped into memory.
This module must not know codes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sparc.analyze.index_folder import ADVICE, built_once, map_array
from sparc.common.cache import ActivationCache
from sparc.common.errors import ReportError
from sparc.common.safe_files import inside, open_regular
from sparc.common.storage import Folder
from sparc.common.tables import ROWS

COLUMNS = ("sample_id", "image", "caption")
_SCHEMA = pa.schema([ROWS.field(name) for name in COLUMNS])

_TABLE, _PICTURES = "rows.arrow", "pictures.npy"
_BATCH = 1 << 16  # Rows read at a time.


class RowTable(NamedTuple):
    """The rows of a cache.

    Attributes:
        of_row: The picture of every row, numbered from 0, ascending, (rows,) int32.
        starts: The first row of every batch, ascending, (batches,).
        batches: The columns of `COLUMNS`.
    """

    of_row: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    batches: Sequence[pa.RecordBatch]

    def take(self, rows: npt.NDArray[np.int64]) -> pa.Table:
        """The columns of some rows, in the order given."""
        numbers = np.searchsorted(self.starts, rows, side="right") - 1
        places = zip(numbers.tolist(), (rows - self.starts[numbers]).tolist(), strict=True)
        table = pa.Table.from_batches([self.batches[n].slice(at, 1) for n, at in places], _SCHEMA)
        try:
            table.validate(full=True)
        except pa.ArrowException as error:
            raise ReportError(f"a row of the index is damaged ({error}): {ADVICE}") from error
        return table


def open_rows(folder: Folder, cache: ActivationCache) -> RowTable:
    """The rows of a report's cache, laid out anew if that has not been done.

    Args:
        folder: A finished report's folder, on this machine.
        cache: The cache that it was made from.

    Raises:
        ReportError: The report lies behind a URL, or the files are damaged.
    """
    where = built_once(folder, "rows", lambda aside: _build(aside, cache))
    try:
        of_row = map_array(where, _PICTURES)
        open_regular(inside(where, _TABLE)).close()
        reader = pa.ipc.open_file(pa.memory_map(str(where / _TABLE)))
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        for batch in batches:
            batch.validate()
        if reader.schema != _SCHEMA or sum(b.num_rows for b in batches) != cache.info.rows:
            raise ValueError("its rows are not those of the cache")
        if of_row.shape != (cache.info.rows,) or of_row.dtype != np.int32:
            raise ValueError("its pictures are not those of the cache")
    except (OSError, ValueError, pa.ArrowException, MemoryError) as error:
        raise ReportError(f"{where} is damaged ({error}): {ADVICE}") from error
    lengths = [batch.num_rows for batch in batches]
    return RowTable(of_row, np.cumsum([0, *lengths[:-1]]), batches)


def _build(where: Path, cache: ActivationCache) -> None:
    of_row = np.zeros(cache.info.rows, np.int32)
    first, last_name = 0, None
    with pa.ipc.new_file(str(where / _TABLE), _SCHEMA) as writer:
        for batch in cache.row_batches(COLUMNS, _BATCH):
            writer.write_batch(batch)
            names = batch.column("sample_id")
            of_row[first : first + len(names)] = _changes(names, last_name)
            first, last_name = first + len(names), names[-1].as_py()
    np.cumsum(of_row, out=of_row)
    np.save(where / _PICTURES, of_row)


def _changes(names: pa.StringArray, before: str | None) -> Any:
    """Where another picture begins, (names,), given the name before the first one."""
    before = names[0].as_py() if before is None else before
    shifted = pa.concat_arrays([pa.array([before], pa.string()), names[:-1]])
    return np.asarray(pc.not_equal(names, shifted), dtype=np.bool_)
