"""Writing Parquet, and reading what anybody may have written, in memory that a file warrants.

A few kilobytes of Parquet may stand for gigabytes: a long text is stored once and named a million
times. So texts are read as they are stored, and counted before they are spelled out. This module
must not know what a table means.
"""

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import IO, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sparc.common.files.parquet_footer import ColumnClaims, column_claims

LEAST_BYTES = 1 << 29
"""What a table may take in memory, however short its file is."""

LARGEST_RATIO = 64
"""How many times the size of its file a longer table may take."""

ROWS_PER_BYTE = 256
"""Where a file claims more rows than this for each of its bytes, it is not believed."""


class ParquetTable:
    """A Parquet file, opened and checked for plausibility.

    Args:
        file: The file; it must stay open.
        columns: Names of the columns that are wanted; None: all.

    Raises:
        ValueError, OSError, KeyError, pa.ArrowException: It is no Parquet, lacks a column, or
            claims what a file of its size cannot hold. All methods raise these.
    """

    def __init__(self, file: IO[bytes], columns: Sequence[str] | None = None) -> None:
        length = file.seek(0, 2)
        file.seek(0)
        footer = pq.read_metadata(file)
        _refuse_claims(footer, length, column_claims(file))
        leaves = [footer.schema.column(number) for number in range(footer.num_columns)]
        texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
        file.seek(0)
        self._opened = pq.ParquetFile(
            file, metadata=footer, read_dictionary=texts, page_checksum_verification=True
        )
        schema = self._opened.schema_arrow
        all_names = schema.names  # a list that pyarrow makes at every call
        names = all_names if columns is None else list(columns)
        times, fields = Counter(all_names), dict(zip(all_names, schema, strict=True))
        if missing := [name for name in names if times[name] != 1]:
            raise KeyError(missing[0])
        self.rows: int = footer.num_rows
        self.schema = pa.schema([_plain(fields[name]) for name in names], metadata=schema.metadata)
        self._left = _allowed(length)

    def read(self) -> pa.Table:
        """All rows."""
        table = self._opened.read(columns=self.schema.names)
        return self._spelled_out(table.select(self.schema.names))

    def _spelled_out(self, table: pa.Table) -> pa.Table:
        self._count(table)
        table = table.cast(self.schema)
        table.validate(full=True)  # texts may not be Unicode
        return table

    def group(self, number: int) -> pa.Table:
        """The rows of one row group, counted from 0; nothing else of the file is read."""
        if not 0 <= number < self._opened.num_row_groups:
            raise ValueError(f"it has no row group {number}")
        table = self._opened.read_row_group(number, columns=self.schema.names)
        return self._spelled_out(table.select(self.schema.names))

    def batches(self, size: int) -> Iterator[pa.RecordBatch]:
        """The rows in order, in memory that one batch takes.

        Args:
            size: Rows of every batch but the last.
        """
        for batch in self._opened.iter_batches(size, columns=self.schema.names):
            chosen = batch.select(self.schema.names)
            self._count(chosen)
            plain = chosen.cast(self.schema)
            plain.validate(full=True)
            yield plain

    def _count(self, part: pa.Table | pa.RecordBatch) -> None:
        self._left -= sum(_bytes(column) for column in part.columns)
        if self._left < 0:
            raise ValueError("it holds far more than a file of its size should")


def read_parquet(file: IO[bytes], columns: Sequence[str] | None = None) -> pa.Table:
    """The table in a Parquet file, or some of its columns; raises as `ParquetTable` does."""
    return ParquetTable(file, columns).read()


def parquet_bytes(
    table: pa.Table,
    *,
    compression: Literal["zstd", "none"] = "zstd",
    group_rows: int = 1 << 17,
    statistics: bool = True,
) -> bytes:
    """A table as the bytes of a Parquet file; equal tables give equal bytes.

    Args:
        table: The table.
        compression: Of its pages.
        group_rows: Rows of every row group but the last.
        statistics: Whether the footer tells the least and the largest value of a group.
    """
    buffer = io.BytesIO()
    # In one piece: how a table was put together in memory must not show in the file.
    pq.write_table(
        table.combine_chunks(),
        buffer,
        compression=compression,
        row_group_size=group_rows,
        write_statistics=statistics,
        write_page_checksum=True,
    )
    return buffer.getvalue()


def _refuse_claims(footer: pq.FileMetaData, length: int, columns: Sequence[ColumnClaims]) -> None:
    """Refuse a footer that promises more than is there, before anything loops or allocates."""
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    rows = [group.num_rows for group in groups]
    if sum(rows) != footer.num_rows or min(rows, default=0) < 0:
        raise ValueError("its groups do not have the rows that it claims")
    if footer.num_rows > ROWS_PER_BYTE * length:
        raise ValueError(f"it claims {footer.num_rows:,} rows in {length:,} bytes")
    if len(columns) != sum(group.num_columns for group in groups):
        raise ValueError("its groups do not have the columns that it claims")
    stored = sum(max(column.uncompressed_bytes, 4 * column.values) for column in columns)
    if stored > _allowed(length):
        raise ValueError("it claims to hold far more than a file of its size should")


def _allowed(length: int) -> int:
    return max(LEAST_BYTES, LARGEST_RATIO * length)


def _plain(field: pa.Field) -> pa.Field:
    """The field with texts spelled out rather than named by a dictionary."""
    return field.with_type(_plain_type(field.type))


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_list(kind):
        return pa.list_(_plain(kind.value_field))
    return kind


def _bytes(column: Any) -> int:
    """What a column takes once its texts are spelled out."""
    if isinstance(column, pa.ChunkedArray):
        return sum(map(_bytes, column.chunks))
    if pa.types.is_list(column.type):
        return 4 * len(column) + _bytes(column.flatten())
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = pc.take(pc.binary_length(column.dictionary), column.indices)
    return 4 * len(column) + (pc.sum(lengths, min_count=0).as_py() or 0)
