"""Tables of text with separators: CSV, TSV, with semicolons or bars, with or without a header."""

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from sparc.common.errors import DatasetError
from sparc.common.text import amount, shorten
from sparc.extract.datasets.account import Omissions
from sparc.extract.datasets.metadata import (
    LARGEST_LINE,
    check_width,
    has_spaces_after,
    sniff_separator,
    split_line,
    text_lines,
)
from sparc.extract.datasets.names import without_comment_number
from sparc.extract.datasets.safe_folder import is_image
from sparc.extract.datasets.tables.known_names import is_known
from sparc.extract.datasets.tables.table import Row, Table

_URL = re.compile(r"https?://\S+")

_DECLARED = re.compile(r'"?sep=(.)"?')
"""The line with which Excel begins a table to name its separator."""

_MOST_LINES = 1000
"""Lines of one record; quotes that hold more are broken."""


class DelimitedTable(Table):
    """Lines of cells. The first line names the columns, unless it holds an image or an address.

    Columns without names are called `1`, `2` and so on. A line whose quotes are broken or that has
    not as many cells as the first is one bad record; blank cells at its end do not count.

    Args:
        path: The file.
        name: What messages call it.
        omissions: Where its bad records are counted.
        separator: Between the cells; empty: the first line decides.

    Raises:
        DatasetError: The file cannot be read, or is empty.
    """

    is_text = True

    def __init__(self, path: Path, name: str, omissions: Omissions, separator: str = "") -> None:
        super().__init__(name, omissions)
        self._path = path
        first = ""
        self._lines_before = 0
        for first in text_lines(path, name, longest=LARGEST_LINE, omissions=Omissions(name)):
            if declared := _DECLARED.fullmatch(first.strip()):
                separator = separator or declared[1]
                self._lines_before = 1
            elif first.strip():
                break
        if not first.strip():
            raise DatasetError(f"{name} is empty")
        self.separator = separator or sniff_separator(first, is_known)
        cells = [cell.strip() for cell in split_line(first.rstrip("\r\n"), self.separator)]
        check_width(len(cells), name)
        self.has_header = not any(map(_is_value, cells)) or any(map(is_known, cells))
        self._skips_spaces = has_spaces_after(first, self.separator)
        self.header = (
            cells if self.has_header else [str(number + 1) for number in range(len(cells))]
        )
        if repeated := {cell for cell in self.header if self.header.count(cell) > 1 and cell}:
            raise DatasetError(f"{name} has two columns {repeated.pop()!r}: rename one")

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        """The lines after the header, as cells."""
        if lacking := [column for column in columns if column not in self.header]:
            known = shorten(", ".join(self.header), 120)
            raise DatasetError(f"{self.name} has no column {lacking[0]!r}; its columns: {known}")
        places = [self.header.index(column) for column in columns]
        width = len(self.header)
        records = self._records()
        for _ in range(self._lines_before + self.has_header):
            next(records, None)
        for number, cells in records:
            if len(cells) != width:
                while len(cells) > width and not cells[-1].strip():
                    cells.pop()
                if len(cells) != width:
                    why = f": a text with {self.separator!r} needs quotes"
                    count = f"it has {amount(len(cells), 'column')}, not {width}"
                    self._skip(count + why if len(cells) > width else count, number)
                    continue
            self._good += 1
            yield Row(number, [cells[place] for place in places])
        self._check_some_are_good("quote the texts, or name the separator with --separator")

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Number of the last line and cells of each record, without empty ones."""
        csv.field_size_limit(LARGEST_LINE)
        lines = _Lines(
            text_lines(self._path, self.name, longest=LARGEST_LINE, omissions=self.omissions)
        )
        reader = self._reader(lines)
        while True:
            lines.held.clear()
            try:
                cells = next(reader, None)
                if len(lines.held) > 1 and self._swallowed(lines.held):
                    raise csv.Error("a quote is not closed")
            except csv.Error as error:
                first, number = lines.held[0], lines.first_held
                lines.back_to_second()
                reader = self._reader(lines)
                cells = self._mended(first)
                if cells is None:
                    self._skip(f"its quotes are broken ({error})", number)
                    continue
            if cells is None:
                return
            if cells:
                yield lines.number, cells

    def _reader(self, lines: "_Lines") -> Iterator[list[str]]:
        return csv.reader(
            lines, delimiter=self.separator, skipinitialspace=self._skips_spaces, strict=True
        )

    def _mended(self, line: str) -> list[str] | None:
        """The cells of a line with quotes within quotes, if no cell can have a separator."""
        cells = [cell.strip() for cell in line.rstrip("\r\n").split(self.separator)]
        if len(cells) != len(self.header):
            return None
        for number, cell in enumerate(cells):
            if cell.startswith('"'):
                if len(cell) < 2 or not cell.endswith('"'):
                    return None
                cells[number] = cell[1:-1].replace('\\"', '"').replace('""', '"')
        return cells

    def _swallowed(self, held: Sequence[str]) -> bool:
        """Whether a record over several lines looks as if it had swallowed other records."""
        if len(held) > _MOST_LINES:
            return True
        width = len(self.header)
        places = [
            place
            for place, cell in enumerate(split_line(held[0], self.separator)[:width])
            if _names_image(cell)
        ]
        for line in held[1:] if places else ():
            cells = split_line(line, self.separator)
            if len(cells) == width and all(_names_image(cells[place]) for place in places):
                return True
        return False


class _Lines:
    """Lines of a file, of which those since the last record can be read again.

    Attributes:
        number: Of the last line given, from 1.
        held: The lines since the last record.
    """

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._again: deque[str] = deque()
        self.number = 0
        self.held: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if len(self.held) > _MOST_LINES:
            raise csv.Error("a quote is not closed")
        line = self._again.popleft() if self._again else next(self._lines)
        self.number += 1
        self.held.append(line)
        return line

    @property
    def first_held(self) -> int:
        """The number of the first line since the last record."""
        return self.number - len(self.held) + 1

    def back_to_second(self) -> None:
        """Give all lines since the last record again, except the first."""
        self._again.extendleft(reversed(self.held[1:]))
        self.number -= len(self.held) - 1


def _is_value(cell: str) -> bool:
    """Whether a cell is an image or an address, which no column is called."""
    return _names_image(cell) or _URL.match(cell) is not None


def _names_image(cell: str) -> bool:
    return is_image(without_comment_number(cell.strip()))
