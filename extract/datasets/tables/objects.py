"""Tables of JSON: an object a line, a list of objects, or an object whose keys are images.

Or an object with one list of objects (`{"data": [{"image": …}]}`), or with a list a column.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sparc.common.errors import DatasetError
from sparc.common.text import shorten
from sparc.extract.datasets.account import Omissions
from sparc.extract.datasets.metadata import LARGEST_LINE, parse_json, read_text, text_lines
from sparc.extract.datasets.safe_folder import is_image
from sparc.extract.datasets.tables.known_names import is_known
from sparc.extract.datasets.tables.table import Row, Table

IMAGE_KEY = "file_name"
"""The column of the keys, where a JSON object has an entry for each image."""

TEXT_KEY = "text"
"""The column of the values there, where they are no objects."""

_FORMS = "it needs a JSON object a line, or a list of objects"

_HEADER_RECORDS = 10_000
"""Records whose keys are the header."""

_Numbered = tuple[int, Mapping[str, Any] | str]
"""The number of a record, and the record or what is wrong with it."""


class JsonTable(Table):
    """Objects with keys for columns.

    Args:
        path: The file.
        name: What messages call it.
        omissions: Where its bad records are counted.

    Raises:
        DatasetError: The file cannot be read, none of its first records is an object, or it is one
            document that is no table.
    """

    def __init__(self, path: Path, name: str, omissions: Omissions) -> None:
        super().__init__(name, omissions)
        self._path = path
        self._entries: Sequence[Any] | None = None
        if not _is_lines(path, name):
            self.unit = "entry"
            try:
                document = parse_json(read_text(path, name), name)
            except DatasetError as error:
                raise DatasetError(f"{error}; {_FORMS}") from error
            self._entries = _entries(document, name)
        self._keys: dict[str, None] = {}
        fault = ""
        for number, record in itertools.islice(self._records(Omissions(name)), _HEADER_RECORDS):
            if isinstance(record, str):
                fault = fault or f"{self.where(number)}: {record}"
            else:
                self._keys.update(dict.fromkeys(record))
        if fault and not self._keys:
            raise DatasetError(f"{name}, {fault}")
        self.header = tuple(self._keys)

    @property
    def columns(self) -> Sequence[str]:
        """The keys of all records that were read so far."""
        return tuple(self._keys)

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        """The objects; a line that is none is one bad record."""
        for number, record in self._records(self.omissions):
            if isinstance(record, str):
                self._skip(record, number)
                continue
            self._good += 1
            if not self._keys.keys() >= record.keys():
                self._keys.update(dict.fromkeys(record))
            yield Row(number, [record.get(column) for column in columns])
        self._check_some_are_good("write one JSON object a line")

    def _records(self, omissions: Omissions) -> Iterator[_Numbered]:
        if self._entries is not None:
            for number, entry in enumerate(self._entries):
                yield number, entry if isinstance(entry, dict) else "it is not a JSON object"
            return
        lines = text_lines(self._path, self.name, longest=LARGEST_LINE, omissions=omissions)
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, _parse_object(line)


def _parse_object(line: str) -> Mapping[str, Any] | str:
    try:
        record = parse_json(line, "it")
    except DatasetError as error:
        return shorten(str(error), 120)
    return record if isinstance(record, dict) else "it is not a JSON object"


def _is_lines(path: Path, name: str) -> bool:
    """Whether a file has a record a line, and is no document, by its first lines."""
    lines = text_lines(path, name, longest=None, omissions=Omissions(name))
    filled = list(itertools.islice((line.strip() for line in lines if line.strip()), 2))
    if not filled or filled[0].startswith("["):
        return False
    first = _parse_object(filled[0])
    if isinstance(first, str):
        # A line that is broken in itself, or the first one of a document over several.
        return len(filled) > 1 and filled[1].startswith("{") and filled[0] != "{"
    return len(filled) > 1 or not (_is_by_image(first) or _held_records(first))


def _is_by_image(document: Mapping[str, Any]) -> bool:
    return bool(document) and is_image(next(iter(document)))


def _held_records(document: Mapping[str, Any]) -> Sequence[Any]:
    """The records that an object holds: its only list of objects, or a list for each column."""
    columns = [
        [*value.values()] if isinstance(value, dict) else value for value in document.values()
    ]
    lengths = {len(column) if isinstance(column, list) else -1 for column in columns}
    if any(map(is_known, document)) and len(lengths) == 1 and -1 not in lengths:
        return [dict(zip(document, values, strict=True)) for values in zip(*columns, strict=True)]
    if any(is_known(key) and not isinstance(value, list) for key, value in document.items()):
        return ()  # it is a record itself
    lists = [
        value
        for value in document.values()
        if isinstance(value, list) and value and isinstance(value[0], dict)
    ]
    return lists[0] if len(lists) == 1 else ()


def _entries(document: Any, name: str) -> Sequence[Any]:
    """The records of a JSON document.

    Raises:
        DatasetError: It is no list, and its keys are no images.
    """
    if isinstance(document, list):
        return document
    if isinstance(document, dict) and (records := _held_records(document)):
        return records
    if not isinstance(document, dict) or not _is_by_image(document):
        raise DatasetError(f"{name} is no table: {_FORMS}")
    return [
        {IMAGE_KEY: image, **(entry if isinstance(entry, dict) else {TEXT_KEY: entry})}
        for image, entry in document.items()
    ]
