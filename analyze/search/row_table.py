"""What a search shows of rows, laid out so that a few of them are read in no time.

A cache's table is made to be read whole: to read one caption, a hundred thousand are decompressed.
In a report's `index/rows/` the same columns lie uncompressed, in files that are mapped into memory.
The images are checked when the index is opened, a batch of rows by its CRC32C when it is first
needed. This module must not know codes.
"""

import struct
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sparc.analyze.search.index_folder import (
    ADVICE,
    FetchedFile,
    built_once,
    open_file,
    open_values,
    read_notes,
)
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.tables import ROWS
from sparc.common.errors import ReportError
from sparc.common.files.folder import Folder
from sparc.common.text import reason

COLUMNS = ("sample_id", "image", "caption")
_SCHEMA = pa.schema([ROWS.field(name) for name in COLUMNS])

_TABLE, _IMAGES = "rows.arrow", "pictures.npy"
_END = b"\xff\xff\xff\xff\0\0\0\0"  # of a stream of Arrow's messages
_BATCH = 1 << 16  # Rows read at a time.
_HEADER, _COMPRESSION, _OWN_METADATA = 2, 3, 4
"""Numbers of fields, of a message and of a batch."""


class Batch(NamedTuple):
    """Where some consecutive rows lie in the table's file.

    Attributes:
        start: The first of them.
        begin: Their first byte.
        end: The first byte after them.
        check: The CRC32C of their bytes.
    """

    start: int
    begin: int
    end: int
    check: int


class RowTable:
    """The rows of a cache.

    Args:
        of_row: The image of every row, numbered from 0, ascending, (rows,) int32.
        content: The bytes of the table's file.
        batches: What is in them.
    """

    def __init__(
        self, of_row: npt.NDArray[np.int32], content: pa.Buffer | FetchedFile, batches: list[Batch]
    ) -> None:
        self.of_row = of_row
        self._content = content
        self._batches = batches
        self._starts = np.array([batch.start for batch in batches])
        self._read: dict[int, pa.RecordBatch] = {}

    def take(self, rows: npt.NDArray[np.int64]) -> pa.Table:
        """The columns `COLUMNS` of some rows, in the order given.

        Raises:
            ReportError: A batch that holds one of them is damaged.
        """
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        places = zip(numbers.tolist(), (rows - self._starts[numbers]).tolist(), strict=True)
        table = pa.Table.from_batches([self._batch(n).slice(at, 1) for n, at in places], _SCHEMA)
        try:
            table.validate(full=True)
        except pa.ArrowException as error:
            raise ReportError(f"a row of the index is damaged ({error}): {ADVICE}") from error
        return table

    def _batch(self, number: int) -> pa.RecordBatch:
        """A batch, checked when it is first read."""
        if number not in self._read:
            batch = self._batches[number]
            content = self._content.slice(batch.begin, batch.end - batch.begin)
            if google_crc32c.value(content) != batch.check:
                raise ReportError(f"the table of rows of the search index is damaged: {ADVICE}")
            try:
                message = pa.ipc.read_message(content)
                if message.type != "record batch" or _is_compressed(message):
                    raise ReportError(
                        f"a batch of the table of rows is not as it was written: {ADVICE}"
                    )
                read = pa.ipc.read_record_batch(message, _SCHEMA)
                read.validate(full=True)  # nothing checks its offsets later
            except (pa.ArrowException, OSError, EOFError, MemoryError) as error:
                raise ReportError(
                    f"the table of rows is damaged ({reason(error)}): {ADVICE}"
                ) from error
            end = self._starts[number + 1] if number + 1 < len(self._starts) else len(self.of_row)
            if len(read) != end - batch.start:
                raise ReportError(f"the table of rows is not that of the cache: {ADVICE}")
            self._read[number] = read
        return self._read[number]


def _is_compressed(message: pa.ipc.Message) -> bool:
    """Whether a batch would be unpacked when it is read: a few bytes may stand for gigabytes.

    Its description is a FlatBuffer that Arrow has verified; Arrow's `Message.fbs` and `Schema.fbs`
    number the fields.
    """
    content = memoryview(message.metadata)

    def place(table: int, field: int) -> int | None:
        """Where a field of a table lies; None where it has its default."""
        fields: int = table - struct.unpack_from("<i", content, table)[0]
        if 4 + 2 * field >= struct.unpack_from("<H", content, fields)[0]:
            return None
        at: int = struct.unpack_from("<H", content, fields + 4 + 2 * field)[0]
        return table + at if at else None

    def behind(at: int | None) -> int:
        """The table that a field leads to."""
        if at is None:
            raise ReportError(f"the table of rows is damaged (an empty message): {ADVICE}")
        return int(at + struct.unpack_from("<I", content, at)[0])

    batch = behind(place(behind(0), _HEADER))
    # Old messages name the codec in metadata of their own instead, which no batch here has.
    return place(batch, _COMPRESSION) is not None or place(behind(0), _OWN_METADATA) is not None


def open_rows(folder: Folder, cache: ActivationCache) -> RowTable:
    """The rows of a report's cache; their index is built if there is none yet.

    Args:
        folder: A finished report's folder.
        cache: The cache that it was made from.

    Raises:
        ReportError: The files are damaged.
    """
    where = built_once(folder, "rows", lambda aside: _build(aside, cache))
    try:
        notes = read_notes(where, (_IMAGES, _TABLE))
        rows = cache.info.rows
        of_row = open_values(where, _IMAGES, np.int32, rows)[slice(0, rows)]
        if google_crc32c.value(of_row.tobytes()) != notes[_IMAGES]:
            raise ValueError(f"{_IMAGES} is not what was written")
        content = open_file(where, _TABLE)
        batches = [Batch(*batch) for batch in notes[_TABLE]]
        if not all(type(number) is int for batch in batches for number in batch):
            raise ValueError(f"a batch of {_TABLE} has no place")
        ends = [0, *(batch.end for batch in batches)]
        if any(b.begin < end or b.end <= b.begin for end, b in zip(ends, batches, strict=False)):
            raise ValueError(f"the batches of {_TABLE} do not follow each other")
        if ends[-1] > content.size:
            raise ValueError(f"{_TABLE} is too short")
        if [batch.start for batch in batches][:1] != [0]:
            raise ValueError(f"{_TABLE} does not begin with the first row")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReportError(f"{where} is damaged ({reason(error)}): {ADVICE}") from error
    return RowTable(of_row, content, batches)


def _build(where: Path, cache: ActivationCache) -> dict[str, Any]:
    """Write the files; returns where each batch lies, and the checksums."""
    of_row = np.zeros(cache.info.rows, np.int32)
    first, last_name = 0, None
    batches = []
    with (where / _TABLE).open("wb") as file:
        file.write(_SCHEMA.serialize())
        for batch in cache.row_batches(COLUMNS, _BATCH):
            message = batch.serialize()
            begin = file.tell()
            file.write(message)
            batches.append(Batch(first, begin, file.tell(), google_crc32c.value(message)))
            names = batch.column("sample_id")
            of_row[first : first + len(names)] = _changes(names, last_name)
            first, last_name = first + len(names), names[-1].as_py()
        file.write(_END)
    np.cumsum(of_row, out=of_row)
    np.save(where / _IMAGES, of_row)
    return {_IMAGES: google_crc32c.value(of_row.tobytes()), _TABLE: batches}


def _changes(names: pa.StringArray, before: str | None) -> Any:
    """Where another image begins, (names,), given the name before the first one."""
    before = names[0].as_py() if before is None else before
    shifted = pa.concat_arrays([pa.array([before], pa.string()), names[:-1]])
    return np.asarray(pc.not_equal(names, shifted), dtype=np.bool_)
