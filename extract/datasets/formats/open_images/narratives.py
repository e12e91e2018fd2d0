"""Reads Localized Narratives: JSON Lines of image_id and caption, and much else on every line.

The full files have the traces of a mouse on each line, a hundred times the caption. Arrow reads
the two fields without making anything of the rest; files that it refuses, and those of which
further fields are kept, are read line by line.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.json as pa_json

from sparc.common.errors import DatasetError
from sparc.common.text import shorten
from sparc.extract.datasets.account import Omissions
from sparc.extract.datasets.columns import RecordColumns
from sparc.extract.datasets.labels.utf8 import Utf8
from sparc.extract.datasets.metadata import LARGEST_LINE, parse_json
from sparc.extract.datasets.tables.json_lines import read_json_lines

_BLOCK = 1 << 23
"""Bytes that Arrow parses at once; it refuses a file with a longer line."""

_READ = ("image_id", "caption")
_NO_COLUMNS: Mapping[str, Any] = {}


class Narrative(NamedTuple):
    """A caption of an image, and the other fields of its line that become columns."""

    caption: str
    columns: Mapping[str, Any]


class Narratives:
    """One file of narratives.

    Args:
        path: The file.
        name: What messages call it.
        columns: Chooses the further fields that are kept.
        omissions: Where lines that cannot be used are entered.

    Attributes:
        used: Keys that are used.
        unused: Keys that the first line has besides.
    """

    def __init__(self, path: Path, name: str, columns: RecordColumns, omissions: Omissions) -> None:
        self._path = path
        self._name = name
        self._columns = columns
        self._omissions = omissions
        self.used: tuple[str, ...] = _READ
        self.unused: tuple[str, ...] = ()

    def read(self) -> Iterator[tuple[str, Narrative]]:
        """The id of an image and a narrative of it, in the order of the lines.

        Raises:
            DatasetError: The file cannot be read.
        """
        try:
            self._look_at_keys()
            table = None if self._columns else self._two_columns()
            yield from self._by_line() if table is None else self._of_table(table)
        except OSError as error:
            raise DatasetError(f"cannot read {self._name}: {error.strerror}") from error

    def _look_at_keys(self) -> None:
        with self._path.open("rb") as file:
            line = Utf8(file).readline(LARGEST_LINE)
        try:
            first = json.loads(line)
        except (ValueError, RecursionError):  # `read` says what is wrong with it
            return
        if isinstance(first, dict):
            self.unused = tuple(key for key in first if key not in _READ)

    def _two_columns(self) -> pa.Table | None:
        """The two columns; None where a line is not as it should be."""
        schema = pa.schema([(key, pa.string()) for key in _READ])
        options = pa_json.ParseOptions(
            explicit_schema=schema, unexpected_field_behavior="ignore", newlines_in_values=False
        )
        try:
            table = read_json_lines(
                self._path, pa_json.ReadOptions(use_threads=False, block_size=_BLOCK), options
            )
        except pa.ArrowException:
            return None
        is_whole = not any(column.null_count for column in table.columns)
        return table.select(_READ) if is_whole and len(table) else None

    def _of_table(self, table: pa.Table) -> Iterator[tuple[str, Narrative]]:
        for batch in table.to_batches(max_chunksize=1 << 16):
            ids, captions = (column.to_pylist() for column in batch.columns)
            for image_id, caption in zip(ids, captions, strict=True):
                yield image_id, Narrative(caption, _NO_COLUMNS)

    def _by_line(self) -> Iterator[tuple[str, Narrative]]:
        with self._path.open("rb") as file:
            lines = Utf8(file)
            number = 0
            while line := lines.readline(LARGEST_LINE):
                number += 1
                if line.strip():
                    yield from self._of_line(line, f"line {number:,}")

    def _of_line(self, line: bytes, where: str) -> Iterator[tuple[str, Narrative]]:
        try:
            values = parse_json(line.decode(), where)
        except DatasetError as error:
            self._omissions.add("narrative", "its line is not JSON", shorten(str(error), 120))
            return
        image_id = values.get("image_id") if isinstance(values, dict) else None
        caption = values.get("caption") if isinstance(values, dict) else None
        if not isinstance(image_id, str) or not image_id or not isinstance(caption, str):
            why = "it needs the texts image_id and caption"
            self._omissions.add("narrative", why, where)
            return
        columns = self._columns.of(values, without=_READ)
        self.used = tuple(dict.fromkeys((*self.used, *columns)))
        self.unused = tuple(key for key in self.unused if key not in columns)
        yield image_id, Narrative(caption, columns)
