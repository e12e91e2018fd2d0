"""Tables in Parquet files."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sparc.common.errors import DatasetError
from sparc.common.text import shorten
from sparc.extract.datasets.account import Omissions
from sparc.extract.datasets.metadata import check_width
from sparc.extract.datasets.tables.table import Row, Table

_ROWS_AT_ONCE = 16_384


class ParquetTable(Table):
    """The rows of a Parquet file.

    Args:
        path: The file.
        name: What messages call it.
        omissions: Where its bad records are counted.

    Raises:
        DatasetError: The file is not Parquet.
    """

    unit = "row"

    def __init__(self, path: Path, name: str, omissions: Omissions) -> None:
        super().__init__(name, omissions)
        self._path = path
        try:
            with pq.ParquetFile(path) as file:
                check_width(file.metadata.num_columns, name)
                self.header = tuple(file.schema_arrow.names)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._failure(0, error) from error

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        """The rows; only these columns are read."""
        number = 0
        try:
            with pq.ParquetFile(self._path) as file:
                for batch in file.iter_batches(_ROWS_AT_ONCE, columns=list(columns)):
                    values = [_values(batch.column(column)) for column in columns]
                    for row in zip(*values, strict=True):
                        yield Row(number, row)
                        number += 1
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._failure(number, error) from error

    def _failure(self, number: int, error: Exception) -> DatasetError:
        reason = shorten(str(error), 200)
        return DatasetError(f"{self.name}, row {number} is not readable as Parquet: {reason}")


def _values(column: pa.Array) -> list[Any]:
    """The values of a column; text that is not UTF-8, which some programs write, as bytes."""
    try:
        return column.to_pylist()  # type: ignore[no-any-return]
    except UnicodeDecodeError:
        return column.cast(pa.large_binary()).to_pylist()  # type: ignore[no-any-return]
