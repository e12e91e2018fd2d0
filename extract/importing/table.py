"""Tables of what is known of rows: Parquet, CSV, TSV and JSON Lines, as Arrow columns."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.json as pj

from sparc.common.errors import DatasetError
from sparc.common.text import amount, reason, shorten
from sparc.extract.datasets.metadata import is_utf16, sniff_separator, split_line, text_lines
from sparc.extract.datasets.tables.json_lines import read_json_lines
from sparc.extract.importing.sources.parquet import ParquetFiles

_BLOCK = 1 << 24
"""Bytes of a text that Arrow reads at once."""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table in a file.

    Attributes:
        columns: The names of its columns.
        rows: How many rows it has.
        column: Reads one of the columns; of Parquet the others cost nothing.
        note: What was left out of it; empty where nothing was.
    """

    columns: Sequence[str]
    rows: int
    column: Callable[[str], pa.Array]
    note: str = ""


def read_table(path: Path, is_text: Callable[[str], bool]) -> Table:
    """A table in a file that somebody named.

    Args:
        path: The file.
        is_text: Whether a column of CSV holds texts, also where all of them look like numbers:
            names of rows keep their zeros.

    Raises:
        DatasetError: There is no such file, or it is none of these.
    """
    if not path.is_file():
        raise DatasetError(f"there is no table {path}")
    suffix = path.suffix.lower()
    try:
        if suffix in (".parquet", ".pq"):
            file = ParquetFiles(path)
            return Table(file.names, file.rows, file.column)
        if suffix in (".jsonl", ".ndjson"):
            return _in_memory(read_json_lines(path, pj.ReadOptions(block_size=_BLOCK)))
        if suffix in (".csv", ".tsv", ".tab", ".txt"):
            return _read_csv(path, is_text)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DatasetError(
            f"{path} is not readable: {reason(error)}; save it as UTF-8, or as Parquet"
        ) from error
    raise DatasetError(f"{path} is no table: give Parquet, .csv, .tsv or .jsonl")


def _in_memory(table: pa.Table, note: str = "") -> Table:
    return Table(table.column_names, len(table), lambda name: table[name].combine_chunks(), note)


def _read_csv(path: Path, is_text: Callable[[str], bool]) -> Table:
    """A table with a header, whatever separates its cells; a line of another width is left out."""
    first = next(text_lines(path, str(path), longest=_BLOCK), "").rstrip("\r\n")
    separator = sniff_separator(first, is_text)
    names = [name.strip() for name in split_line(first, separator)]
    left_out: list[str] = []

    def leave_out(row: Any) -> str:
        left_out.append(row.text)
        return "skip"

    with path.open("rb") as file:
        encoding = "utf-16" if is_utf16(file.read(2)) else "utf8"
    table = pc.read_csv(
        path,
        read_options=pc.ReadOptions(
            block_size=_BLOCK, column_names=names, skip_rows=1, encoding=encoding
        ),
        parse_options=pc.ParseOptions(
            delimiter=separator, newlines_in_values=True, invalid_row_handler=leave_out
        ),
        convert_options=pc.ConvertOptions(
            column_types={name: pa.string() for name in names if is_text(name)}
        ),
    )
    if not left_out:
        return _in_memory(table)
    what = f"{amount(len(left_out), 'line')} without {amount(len(names), 'cell')} left out"
    return _in_memory(table, f"{path}: {what}, the first is {shorten(left_out[0], 60)!r}")
