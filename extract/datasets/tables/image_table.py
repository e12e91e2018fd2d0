"""A file of Arrow or Parquet with images, as a table whose column of images holds their paths."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from sparc.common.errors import DatasetError
from sparc.common.text import shorten
from sparc.extract.datasets.account import Omissions
from sparc.extract.datasets.safe_folder import ColumnFile
from sparc.extract.datasets.tables.arrow_files import ParquetFile, image_columns, open_arrow_file
from sparc.extract.datasets.tables.table import Row, Table


class ImageTable(Table):
    """The rows of a file; numbers of classes are given as names, where `datasets` wrote them.

    Args:
        columns: The file.
        name: What messages call it.
        omissions: Where its bad records are counted.
        file: Its path in the dataset.
        image_column: The column with images; empty: the first.

    Attributes:
        image_column: The column with images.
        class_columns: Columns of numbered classes.

    Raises:
        DatasetError: It cannot be read, or holds no images.
    """

    unit = "row"

    def __init__(
        self,
        columns: ColumnFile,
        name: str,
        omissions: Omissions,
        file: str,
        image_column: str = "",
    ) -> None:
        super().__init__(name, omissions)
        self._file = open_arrow_file(columns, name)
        self._path = file
        features = features_of(self._file.schema)
        images = image_columns(self._file.schema, features)
        if image_column and image_column not in images:
            raise DatasetError(
                f"{name} has no column {image_column!r} of images; such columns: "
                f"{', '.join(images) or 'none'}"
            )
        if not images:
            raise DatasetError(f"{name} holds no images")
        self.image_column = image_column or images[0]
        self.header = tuple(self._file.schema.names)
        if self._file.holds_no_image(self.image_column):
            first = shorten(next(iter(self.names()), ""), 120) or "nothing"
            raise DatasetError(
                f"{name} holds no images, only where they were ({first}): give the folder that "
                "they lie in, or save them with to_parquet of datasets"
            )
        self._classes = {
            column: names for column in self.header if (names := _class_names(features.get(column)))
        }
        self.class_columns = tuple(self._classes)

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        """The rows. Images are not read: they are given as `file/column/row`."""
        number = 0
        stored = [column for column in columns if column != self.image_column]
        # Without any other column, one of the smallest tells how many rows there are.
        for batch in self._file.batches(stored or [self._path_column()]):
            values = [
                self._values(batch.column(column), column)
                if column != self.image_column
                else [image_name(self._path, column, number + row) for row in range(len(batch))]
                for column in columns
            ]
            for row, cells in enumerate(zip(*values, strict=True)):
                yield Row(number + row, cells)
            number += len(batch)

    def names(self) -> list[str]:
        """What the images were called before they were stored; empty where that is not known."""
        field = self._file.schema.field(self.image_column)
        if not pa.types.is_struct(field.type) or field.type.get_field_index("path") < 0:
            return []
        names: list[str] = []
        for batch in self._file.batches([self._path_column()]):
            column = batch.column(self.image_column)
            paths = column.field("path") if pa.types.is_struct(column.type) else column
            names.extend(path if isinstance(path, str) else "" for path in paths.to_pylist())
        return names

    def _path_column(self) -> str:
        """The part of the column of images that holds their paths; of Arrow files, all of it."""
        field = self._file.schema.field(self.image_column)
        has_path = pa.types.is_struct(field.type) and field.type.get_field_index("path") >= 0
        is_parquet = isinstance(self._file, ParquetFile)
        return f"{self.image_column}.path" if has_path and is_parquet else self.image_column

    def _values(self, column: pa.Array, name: str) -> list[Any]:
        try:
            values: list[Any] = column.to_pylist()
        except UnicodeDecodeError:
            values = column.cast(pa.large_binary()).to_pylist()
        names = self._classes.get(name)
        return values if names is None else [_named(value, names) for value in values]


def image_name(file: str, column: str, row: int) -> str:
    """The path of an image in the rows: the file, the column and the number of the row."""
    return f"{file}/{column}/{row}"


def features_of(schema: pa.Schema) -> dict[str, Any]:
    """What `datasets` says of the columns of a file, by name."""
    try:
        written = json.loads((schema.metadata or {})[b"huggingface"])
        features = written["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return features if isinstance(features, dict) else {}


def _class_names(feature: Any) -> Sequence[str]:
    """The names of numbered classes, of a column or of the lists in it."""
    while isinstance(feature, dict) and feature.get("_type") in ("Sequence", "List", "LargeList"):
        feature = feature.get("feature")
    names = feature.get("names") if isinstance(feature, dict) else None
    is_good = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return names if is_good and names is not None else ()


def _named(value: Any, names: Sequence[str]) -> Any:
    """The name of a class, or the names of a list of them; None where it has no number."""
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else None
