"""Reading the files beside the images: text, CSV, JSON, JSON Lines and Parquet.

Whatever the bytes are, these functions give valid Unicode or raise a `DatasetError` that names the
file and the line. Bytes that are not UTF-8 are replaced, and a message counts the lines that had
some. This module must not know what the columns mean.
"""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from sparc.common.errors import DatasetError
from sparc.common.progress import say
from sparc.common.text import amount, shorten, size

LARGEST_LINE = 1 << 26
"""Most bytes of a line of a table; a longer one is refused."""

MOST_COLUMNS = 10_000
"""Most columns of a table; one with more is refused."""

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class Record(NamedTuple):
    """A line of a table.

    Attributes:
        where: File and line, for messages.
        values: By column.
    """

    where: str
    values: dict[str, Any]


def read_text(path: Path, name: str) -> str:
    """A whole text file, without a byte order mark.

    Args:
        path: The file.
        name: What messages call it.

    Raises:
        DatasetError: It cannot be read.
    """
    return "".join(_lines(path, name, longest=None))


def read_json(path: Path, name: str) -> Any:
    """A JSON document.

    Raises:
        DatasetError: It cannot be read or is not JSON.
    """
    return parse_json(read_text(path, name), name)


def parse_json(text: str, where: str) -> Any:
    """Parse JSON; lone surrogates, which valid Unicode does not have, become U+FFFD.

    Raises:
        DatasetError: It is not JSON; the message names the line.
    """
    try:
        document = json.loads(text)
        # Python turns an escaped lone surrogate into a string that cannot be encoded.
        return _well_formed(document) if _SURROGATE.search(text) else document
    except json.JSONDecodeError as error:
        line = f", line {error.lineno}" if "\n" in text.strip() else ""
        raise DatasetError(f"{where}{line} is not JSON: {error.msg}") from error
    except RecursionError as error:
        raise DatasetError(f"{where} is nested too deeply") from error
    except ValueError as error:
        raise DatasetError(f"{where} is not JSON: {error}") from error


def read_json_lines(path: Path, name: str) -> Iterator[Record]:
    """The objects of a JSON Lines file, without empty lines.

    Raises:
        DatasetError: It cannot be read, or a line is not a JSON object.
    """
    for number, line in enumerate(_lines(path, name, longest=LARGEST_LINE), start=1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        values = parse_json(line, where)
        if not isinstance(values, dict):
            raise DatasetError(f"{where} is not a JSON object")
        yield Record(where, values)


def read_csv_lines(path: Path, name: str) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of each line of a CSV file, the header included, empty lines left out.

    Raises:
        DatasetError: It cannot be read, or its quoting is broken.
    """
    reader = csv.reader(_lines(path, name, longest=LARGEST_LINE), strict=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise DatasetError(f"{name}, line {reader.line_num} is not CSV: {error}") from error


def read_csv(path: Path, name: str) -> Iterator[Record]:
    """The lines of a CSV file with a header.

    Raises:
        DatasetError: As for `read_csv_lines`, or a line has not as many columns as the header.
    """
    lines = read_csv_lines(path, name)
    _, header = next(lines, (0, []))
    header = [column.strip() for column in header]
    _check_width(len(header), name)
    for number, cells in lines:
        where = f"{name}, line {number}"
        if len(cells) != len(header):
            raise DatasetError(
                f"{where} has {amount(len(cells), 'column')}, the header has {len(header)}"
            )
        yield Record(where, dict(zip(header, cells, strict=True)))


def read_parquet(path: Path, name: str) -> Iterator[Record]:
    """The rows of a Parquet file.

    Raises:
        DatasetError: It cannot be read or is not Parquet.
    """
    row = 0
    try:
        with pq.ParquetFile(path) as file:
            _check_width(file.metadata.num_columns, name)
            for batch in file.iter_batches(batch_size=16_384):
                for values in batch.to_pylist():
                    yield Record(f"{name}, row {row}", values)
                    row += 1
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = shorten(str(error), 200)
        raise DatasetError(f"{name}, row {row} is not readable as Parquet: {reason}") from error


def decode(data: bytes) -> tuple[str, bool]:
    """UTF-8 text, and whether bytes had to be replaced."""
    try:
        return data.decode(), False
    except UnicodeDecodeError:
        return data.decode(errors="replace"), True


def _lines(path: Path, name: str, *, longest: int | None) -> Iterator[str]:
    replaced = 0
    try:
        with path.open("rb") as file:
            for number, data in enumerate(iter(lambda: file.readline(longest or -1), b"")):
                if longest and len(data) >= longest:
                    raise DatasetError(f"{name}, line {number + 1} is longer than {size(longest)}")
                text, was_replaced = decode(data)
                replaced += was_replaced
                yield text.removeprefix("\ufeff") if number == 0 else text
    except OSError as error:
        raise DatasetError(f"cannot read {name}: {error.strerror}") from error
    if replaced:
        say(f"{name}: bytes that are not UTF-8 replaced in {amount(replaced, 'line')}")


def _check_width(columns: int, name: str) -> None:
    if columns > MOST_COLUMNS:
        raise DatasetError(f"{name} has {columns:,} columns, more than {MOST_COLUMNS:,}")


def _well_formed(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_well_formed(item) for item in value]
    if isinstance(value, dict):
        return {_well_formed(key): _well_formed(item) for key, item in value.items()}
    return value
