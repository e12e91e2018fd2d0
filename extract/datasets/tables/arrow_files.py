"""Files of Arrow and Parquet that hold images: their columns, and one image at a time.

An Arrow file is mapped into memory, so that an image costs its own bytes. Of Parquet, which is
compressed, the last row groups that were decoded are kept, since images are read in order.
"""

import bisect
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sparc.common.errors import DatasetError
from sparc.common.text import shorten
from sparc.extract.datasets.safe_folder import ColumnFile
from sparc.extract.datasets.tables.known_names import plain

MAPPED = ".arrow"
"""Of the files that are read through the memory of this machine."""

SUFFIXES = (".parquet", MAPPED)
"""Of the files that may hold images."""

_BYTES = "bytes"
_IMAGES = frozenset(
    {"image", "img", "jpg", "jpeg", "png", "webp", "picture", "imagebytes", "imgbytes"}
)
"""What columns of encoded images are called, as `plain` writes it; several have a number too."""

_ROWS_AT_ONCE = 4096
_KEPT_GROUPS = 2
"""Row groups of a Parquet file whose images stay in memory."""

_FAILURES = (pa.ArrowException, OSError, ValueError, IndexError, KeyError)


class ArrowFile(ABC):
    """A file of columns.

    Args:
        file: The file.
        name: What messages call it.

    Attributes:
        schema: Names, types and metadata of its columns.

    Raises:
        DatasetError: It cannot be read.
    """

    schema: pa.Schema

    def __init__(self, file: ColumnFile, name: str) -> None:
        self._file = file
        self.name = name

    @abstractmethod
    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows in parts, of these columns alone.

        Raises:
            DatasetError: It is damaged.
        """

    @abstractmethod
    def image(self, column: str, row: int) -> bytes | None:
        """The encoded bytes of an image; None where the row has none. Thread-safe.

        Raises:
            DatasetError: It is damaged, or has no such row or column.
        """

    @abstractmethod
    def holds_no_image(self, column: str) -> bool:
        """Whether every image of a column is null, as far as that is known without decoding."""

    def _failure(self, error: Exception) -> DatasetError:
        return DatasetError(f"{self.name} cannot be read: {shorten(str(error), 200)}")


class MappedFile(ArrowFile):
    """An Arrow file, as `datasets` saves it: a stream or a file of record batches."""

    def __init__(self, file: ColumnFile, name: str) -> None:
        super().__init__(file, name)
        try:
            self._table = _mapped(file)
        except _FAILURES as error:
            raise self._failure(error) from error
        self.schema = self._table.schema
        self._batches = self._table.to_batches()
        self._ends: list[int] = np.cumsum([len(batch) for batch in self._batches]).tolist()

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The record batches of the file."""
        try:
            for batch in self._table.select(list(columns)).to_batches():
                batch.validate(full=True)
                yield batch
        except _FAILURES as error:
            raise self._failure(error) from error

    def image(self, column: str, row: int) -> bytes | None:
        """The bytes of an image, copied out of the mapped file."""
        number = bisect.bisect_right(self._ends, row)
        try:
            batch = self._batches[number]
            values = _bytes_of(batch.column(column))
            values.validate(full=True)
            return _as_bytes(values[row - self._ends[number] + batch.num_rows])
        except _FAILURES as error:
            raise self._failure(error) from error

    def holds_no_image(self, column: str) -> bool:
        """Whether every image of a column is null."""
        columns = [_bytes_of(batch.column(column)) for batch in self._batches]
        return all(values.null_count == len(values) for values in columns)


class ParquetFile(ArrowFile):
    """A Parquet file."""

    def __init__(self, file: ColumnFile, name: str) -> None:
        super().__init__(file, name)
        try:
            with pq.ParquetFile(file.open()) as opened:
                self.schema = opened.schema_arrow
                self._footer = opened.metadata
            footer = self._footer
            groups = [footer.row_group(n).num_rows for n in range(footer.num_row_groups)]
        except _FAILURES as error:
            raise self._failure(error) from error
        self._ends: list[int] = np.cumsum(groups).tolist()
        self._starts = [end - rows for end, rows in zip(self._ends, groups, strict=True)]
        self._groups: OrderedDict[tuple[str, int], pa.ChunkedArray] = OrderedDict()
        self._lock = threading.Lock()

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Batches of the row groups."""
        try:
            with pq.ParquetFile(self._file.open(), metadata=self._footer) as file:
                yield from file.iter_batches(_ROWS_AT_ONCE, columns=list(columns))
        except _FAILURES as error:
            raise self._failure(error) from error

    def image(self, column: str, row: int) -> bytes | None:
        """The bytes of an image, of the row group that is kept or is decoded now."""
        number = bisect.bisect_right(self._ends, row)
        try:
            with self._lock:
                group = self._groups.get((column, number))
                if group is None:
                    while len(self._groups) >= _KEPT_GROUPS:
                        self._groups.popitem(last=False)
                    group = self._decode(column, number)
                self._groups[column, number] = group
                self._groups.move_to_end((column, number))
            return _as_bytes(group[row - self._starts[number]])
        except _FAILURES as error:
            raise self._failure(error) from error

    def holds_no_image(self, column: str) -> bool:
        """Whether every image of a column is null, by the statistics of the file."""
        groups = [self._footer.row_group(n) for n in range(self._footer.num_row_groups)]
        leaves = {column, f"{column}.{_BYTES}"}
        for group in groups:
            chunks = (group.column(number) for number in range(group.num_columns))
            of_images = [chunk for chunk in chunks if chunk.path_in_schema in leaves]
            nulls = [c.statistics.null_count for c in of_images if c.statistics is not None]
            if nulls != [group.num_rows]:
                return False
        return True

    def _decode(self, column: str, number: int) -> pa.ChunkedArray:
        field = self.schema.field(column)
        leaf = f"{column}.{_BYTES}" if pa.types.is_struct(field.type) else column
        with pq.ParquetFile(self._file.open(), metadata=self._footer) as file:
            table = file.read_row_group(number, columns=[leaf])
        chunks = [_bytes_of(chunk) for chunk in table.column(0).chunks]
        return pa.chunked_array(chunks)


def open_arrow_file(file: ColumnFile, name: str) -> ArrowFile:
    """A file of Arrow or Parquet, by its suffix.

    Raises:
        DatasetError: It cannot be read.
    """
    return ParquetFile(file, name) if file.suffix == ".parquet" else MappedFile(file, name)


def image_columns(schema: pa.Schema, features: dict[str, Any]) -> list[str]:
    """The columns that hold encoded images.

    Args:
        schema: Of the file.
        features: What `datasets` says of the columns, by name; may be empty.
    """
    columns = []
    for field in schema:
        feature = features.get(field.name)
        is_image = isinstance(feature, dict) and feature.get("_type") == "Image"
        is_struct = pa.types.is_struct(field.type) and field.type.get_field_index(_BYTES) >= 0
        named_so = plain(field.name).rstrip("0123456789") in _IMAGES
        if (is_struct and not _is_other(feature)) or (
            _is_binary(field.type) and (is_image or named_so)
        ):
            columns.append(field.name)
    return columns


def _is_other(feature: Any) -> bool:
    """Whether `datasets` says that a column holds sounds or films."""
    return isinstance(feature, dict) and feature.get("_type") in ("Audio", "Video", "Pdf")


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _mapped(file: ColumnFile) -> pa.Table:
    source = pa.memory_map(str(file.open()))
    try:
        return pa.ipc.open_stream(source).read_all()
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_file(source).read_all()


def _bytes_of(column: pa.Array) -> pa.Array:
    return column.field(_BYTES) if pa.types.is_struct(column.type) else column


def _as_bytes(value: pa.Scalar) -> bytes | None:
    content = value.as_py()
    return content if isinstance(content, bytes) else None
