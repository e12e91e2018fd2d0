"""Reading the files beside the images: text, its lines, the lines of CSV files, JSON.

Whatever the bytes are, these functions give valid Unicode or raise a `DatasetError` that names the
file and the line. Text is UTF-8, or UTF-16 with a byte order mark; other bytes are replaced, and a
message says in which line. Tables of captions and labels, where one bad record must not cost the
file: `sparc.extract.datasets.tables`. This module must not know what the columns mean.
"""

import codecs
import csv
import io
import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from sparc.common.errors import DatasetError
from sparc.common.progress import progress, say
from sparc.common.text import amount, size
from sparc.extract.datasets.account import Omissions

LARGEST_LINE = 1 << 26
"""Most bytes of a line of a table; a longer one is refused."""

MOST_COLUMNS = 10_000
"""Most columns of a table; one with more is refused."""

SEPARATORS = ("\t", ";", "|", ",")
"""Between the cells of a line, in the order in which they are likely where nothing else decides."""

_WATCHED = 1 << 26
"""Bytes of a text file from which on its reading shows a bar."""

_BLOCK = 1 << 20
"""Bytes of a text file that are read at once."""

_GARBLED = re.compile("[\u00c2-\u00f4][\u0080-\u00bf\u0152-\u017e\u02c6\u02dc\u2013-\u2122]")
"""What the first two bytes of a letter in UTF-8 look like in Windows-1252."""

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_text(path: Path, name: str) -> str:
    """A whole text file, without a byte order mark.

    Args:
        path: The file.
        name: What messages call it.

    Raises:
        DatasetError: It cannot be read.
    """
    return "".join(text_lines(path, name, longest=None))


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


def read_csv_lines(path: Path, name: str) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of each line of a CSV file, the header included, empty lines left out.

    The separator is the one that the first line indicates; see `sniff_separator`.

    Raises:
        DatasetError: It cannot be read, or its quoting is broken.
    """
    csv.field_size_limit(LARGEST_LINE)
    lines = text_lines(path, name, longest=LARGEST_LINE)
    first = next(lines, "")
    separator = sniff_separator(first)
    reader = csv.reader(
        itertools.chain([first], lines),
        delimiter=separator,
        skipinitialspace=has_spaces_after(first, separator),
        strict=True,
    )
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise DatasetError(f"{name}, line {reader.line_num} is not CSV: {error}") from error


def sniff_separator(
    first_line: str, is_known: Callable[[str], bool] = lambda _column: False
) -> str:
    """The separator of a table, by its first line alone, since texts hold commas.

    Args:
        first_line: The header, or the first line of a table without one.
        is_known: Whether a column is known by its name: the separator wins that gives most of
            them, then a tab, then the one that gives most cells.
    """

    def rank(separator: str) -> tuple[int, bool, int, bool]:
        cells = split_line(first_line, separator)
        names = sum(is_known(cell) for cell in cells)
        return names, separator == "\t" and len(cells) > 1, len(cells), separator == ","

    return max(SEPARATORS, key=rank)


def has_spaces_after(first_line: str, separator: str) -> bool:
    """Whether every separator of a line is followed by a space, which then is not of the cells."""
    others = split_line(first_line, separator)[1:]
    return bool(others) and all(cell.startswith(" ") for cell in others)


def split_line(line: str, separator: str) -> list[str]:
    """The cells of one line; a line whose quotes are broken is split at every separator."""
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return line.split(separator)


def is_utf16(head: bytes) -> bool:
    """Whether the first bytes of a file are the byte order mark of UTF-16."""
    return head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


def decode(data: bytes) -> tuple[str, bool]:
    """A text as this module reads all, without byte order mark; and whether bytes were replaced."""
    encoding = "utf-16" if is_utf16(data) else "utf-8-sig"
    try:
        return data.decode(encoding), False
    except UnicodeDecodeError:
        return data.decode(encoding, errors="replace"), True


def text_lines(
    path: Path, name: str, *, longest: int | None, omissions: Omissions | None = None
) -> Iterator[str]:
    """The lines of a text file with their ends, without a byte order mark.

    Args:
        path: The file.
        name: What messages call it.
        longest: Most bytes of a line; None: any number.
        omissions: Where letters that cannot be read are counted; None: they are said at the end.

    Raises:
        DatasetError: It cannot be read, or a line is too long.
    """
    replaced: list[int] = []
    number = 0
    try:
        total = path.stat().st_size
        with (
            path.open("rb") as file,
            progress(total, "lines", unit="B", quiet=total < _WATCHED) as bar,
        ):
            for block in _blocks(file, name):
                for text in io.StringIO(block.text, newline="\n"):
                    number += 1
                    if longest and len(text) > longest:
                        raise DatasetError(f"{name}, line {number} is longer than {size(longest)}")
                    if block.is_replaced and "\ufffd" in text:
                        replaced.append(number)
                        if omissions is not None:
                            omissions.add("letter", _UNREADABLE, f"line {number}")
                    yield text
                bar.update(file.tell() - bar.n)
    except OSError as error:
        raise DatasetError(f"cannot read {name}: {error.strerror}") from error
    if replaced and omissions is None:
        say(
            f"{name}: bytes that are not UTF-8 replaced in {amount(len(replaced), 'line')}, first "
            f"in line {replaced[0]}: save it as UTF-8 ({_TO_UTF8})"
        )


_TO_UTF8 = "such as with iconv -f WINDOWS-1252 -t UTF-8"
_UNREADABLE = f"it is not UTF-8, and \ufffd stands for it: save the file as UTF-8, {_TO_UTF8}"


class _Block(NamedTuple):
    """Whole lines of a file, and whether a letter of them could not be read."""

    text: str
    is_replaced: bool


def _blocks(file: IO[bytes], name: str) -> Iterator[_Block]:
    mark = file.read(4)
    file.seek(0)
    encoding = "utf-16" if is_utf16(mark[:2]) else "utf-8-sig"
    if mark in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
        encoding = "utf-32"
    if encoding == "utf-8-sig" and b"\0" in mark[:2]:
        raise DatasetError(f"{name} is not UTF-8: save it as UTF-8, such as with iconv")
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    rest: list[str] = []
    has_old_ends: bool | None = None
    while data := file.read(_BLOCK):
        text = decoder.decode(data)
        if has_old_ends is None:  # as Macintoshes wrote, and a few programs still do
            has_old_ends = "\r" in text and "\n" not in text
        lines, end, others = (text.replace("\r", "\n") if has_old_ends else text).rpartition("\n")
        if end:
            yield _block("".join((*rest, lines, end)))
            rest = []
        rest.append(others)
    yield _block("".join((*rest, decoder.decode(b"", True))))


def _block(text: str) -> _Block:
    # A replacement character that the file itself has counts as well: a letter was lost before.
    return _Block(text, "\ufffd" in text)


def check_width(columns: int, name: str) -> None:
    """Refuse a table that is too wide to be one.

    Raises:
        DatasetError: It has more columns than `MOST_COLUMNS`.
    """
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


def is_garbled(text: str) -> bool:
    """Whether a text was UTF-8, was read as Windows-1252 and saved so: `KÃ¤se` for `Käse`."""
    if text.isascii() or not _GARBLED.search(text):
        return False
    try:
        return text.encode("cp1252").decode() != text
    except UnicodeError:
        return False
