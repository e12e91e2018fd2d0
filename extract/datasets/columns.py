"""Columns of a dataset that go into `rows.parquet`, as `--column` asks for them.

A reader passes each record of its metadata to `RecordColumns.of`, and the result to `ImageRecord`.
This module must not know any dataset format.
"""

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from sparc.common.cache import tables
from sparc.common.cache.columns import column_array
from sparc.common.errors import ConfigError, DatasetError
from sparc.common.text import shorten
from sparc.extract.datasets.account import Account
from sparc.extract.datasets.base import ALL_COLUMNS
from sparc.extract.datasets.source import ImageRecord
from sparc.extract.datasets.tables.cells import LARGEST_EXACT

_INTEGER = re.compile(r"0|-?[1-9]\d*")
_FLOAT = re.compile(r"[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")


class RecordColumns:
    """Chooses which fields of a dataset's records are columns.

    Args:
        wanted: `DatasetOptions.columns`.
        group_by: `DatasetOptions.holdout_by`, which `grouped` makes groups of.

    Raises:
        ConfigError: A wanted column has the name of one that every cache has.
    """

    def __init__(self, wanted: Sequence[str], group_by: str = "") -> None:
        for name in wanted:
            try:
                tables.check_column_name(name)
            except ValueError as error:
                raise ConfigError(
                    f"--column {name!r}: {error}; rename yours in the dataset"
                ) from error
        self.wanted = tuple(wanted)
        self._group_by = group_by
        self._reads = tuple(dict.fromkeys((*wanted, group_by))) if group_by else self.wanted
        self._known: dict[str, None] = {}

    def of(self, record: Mapping[str, Any], *, without: Collection[str]) -> dict[str, Any]:
        """The chosen fields of a record.

        Args:
            record: A line of metadata.
            without: The fields that the reader uses for paths, captions or labels.
        """
        if not self:
            return {}
        fields = {name: _null(value) for name, value in record.items() if name not in without}
        self.know(fields)
        if self.wanted == (ALL_COLUMNS,):
            return fields
        return {name: fields[name] for name in self._reads if name in fields}

    def know(self, names: Iterable[str]) -> None:
        """Enter columns that exist, whether a record with them is read or not."""
        self._known.update(dict.fromkeys(names))

    def enter(
        self,
        account: Account,
        file: str,
        used: Iterable[str],
        others: Iterable[str],
        advice: str = "--column NAME keeps one of them",
    ) -> None:
        """Enter the fields of a file in the account.

        Args:
            account: The account.
            file: The file.
            used: Fields that paths, captions or labels are made of.
            others: Fields that only `--column` and `--holdout-by` use.
            advice: The options that would use those of them that are not.
        """
        others = tuple(others)
        kept = [n for n in others if n in self._reads or self.wanted == (ALL_COLUMNS,)]
        unused = [name for name in others if name not in kept]
        account.uses(file, used=[*used, *kept], unused=unused, advice=advice)

    def __bool__(self) -> bool:
        """Whether any field is chosen, so that metadata must be read."""
        return bool(self._reads)

    def grouped(self, records: Sequence[ImageRecord], location: str) -> Sequence[ImageRecord]:
        """Records with the groups that `--holdout-by` asks for: the values of a column.

        The column is taken away again unless it is also wanted as one. A record that already has a
        group keeps it.

        Raises:
            DatasetError: No image has a value of the column; the message lists those that exist.
        """
        name = self._group_by
        if not name:
            return records
        keeps = name in self.wanted or ALL_COLUMNS in self.wanted
        result = []
        for record in records:
            lines = [record.columns, *record.caption_columns]
            values = (line.get(name) for line in lines)
            group = record.group or next((str(v) for v in values if v is not None and v != ""), "")
            if not keeps:
                lines = [{k: v for k, v in line.items() if k != name} for line in lines]
            columns, *of_captions = lines
            result.append(
                record._replace(group=group, columns=columns, caption_columns=of_captions)
            )
        if not any(record.group for record in result):
            known = shorten(", ".join(sorted(self._known)), 300) or "none"
            raise DatasetError(
                f"{location}: no image has a value of the column {name!r} of --holdout-by; "
                f"columns: {known}"
            )
        return result

    def require_known(self, location: str) -> None:
        """Refuse wanted columns that no record has.

        Raises:
            DatasetError: There is one; the message lists the columns that exist.
        """
        for name in self.wanted:
            if name not in self._known and name != ALL_COLUMNS:
                known = shorten(", ".join(sorted(self._known)), 300) or "none"
                raise DatasetError(f"{location} has no column {name!r} to keep; columns: {known}")


def _null(value: Any) -> Any:
    """The value, or null for NaN, which would not be equal to itself."""
    return None if isinstance(value, float) and math.isnan(value) else value


def merged(records: Iterable[Mapping[str, Any]], image: str) -> dict[str, Any]:
    """The fields of the records that make one row; other values win over null.

    Raises:
        DatasetError: Two records have different values.
    """
    result: dict[str, Any] = {}
    for record in records:
        for name, value in record.items():
            earlier = result.setdefault(name, value)
            if earlier is None:
                result[name] = value
            elif value is not None and value != earlier:
                raise DatasetError(
                    f"image {shorten(image, 80)!r} has one row but two values of column {name!r}: "
                    "leave the column out, or keep a row per caption with --captions each"
                )
    return result


def parse_cells(lines: Sequence[dict[str, Any]]) -> None:
    """Convert the cells of CSV files, in place, from text to the types that they are written as.

    A column is of integers, floats or booleans (`true`, `false`) if all its cells are; else of
    texts. Digits with leading zeros, or too many for a number, are texts. Blank cells are null.

    Args:
        lines: The lines of all files, by column.
    """
    for name in {name for line in lines for name in line}:
        cells = {line[name].strip() for line in lines if name in line} - {""}
        parse = _parser(cells)
        for line in lines:
            if name in line:
                text = line[name]
                line[name] = parse(text) if text.strip() else None


def _parser(cells: Collection[str]) -> Any:
    """The function that converts these cells, as `parse_cells` says."""
    integers = [cell for cell in cells if _INTEGER.fullmatch(cell)]
    largest = max((abs(int(cell)) for cell in integers if len(cell) < 30), default=0)
    too_long = any(len(cell) >= 30 for cell in integers)
    if cells and len(integers) == len(cells) and largest < 1 << 63 and not too_long:
        return int
    if cells and all(map(_FLOAT.fullmatch, cells)) and largest <= LARGEST_EXACT and not too_long:
        return float
    if cells and all(cell.lower() in ("true", "false") for cell in cells):
        return lambda cell: cell.strip().lower() == "true"
    return str


def column_types(
    records: Sequence[ImageRecord], wanted: Sequence[str], location: str
) -> dict[str, pa.DataType]:
    """The types of the columns that records have, by name.

    Args:
        records: All images of the dataset, so that parts of it have the same types.
        wanted: `DatasetOptions.columns`.
        location: The dataset, for messages.

    Raises:
        DatasetError: The values of a column cannot be kept, or its name cannot.
    """
    types: dict[str, pa.DataType] = {}
    refused: dict[str, str] = {}
    values: dict[str, list[Any]] = {}
    for line in _lines(records) if wanted else ():
        for name, value in line.items():
            values.setdefault(name, []).append(value)
    for name, of_column in sorted(values.items()):
        try:
            tables.check_column_name(name)
            types[name] = column_array(of_column).type
        except ValueError as error:
            refused[name] = str(error)
    for name, why in refused.items():
        advice = "convert it in the dataset, or leave it out"
        if tuple(wanted) == (ALL_COLUMNS,):
            keep = shorten(" ".join(f"--column {kept}" for kept in types), 300)
            advice = f"in place of --column all, name the columns to keep: {keep or 'none can be'}"
        raise DatasetError(f"{location}: column {name!r} cannot be kept: {why}; {advice}")
    return types


def _lines(records: Iterable[ImageRecord]) -> Iterator[Mapping[str, Any]]:
    for record in records:
        yield record.columns
        yield from record.caption_columns
