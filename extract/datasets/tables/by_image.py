"""What tables say, by image: captions, classes, groups, further columns."""

from collections.abc import Mapping, Sequence
from typing import Any

from sparc.extract.datasets.base import ALL_COLUMNS, DatasetOptions
from sparc.extract.datasets.columns import RecordColumns, merged, parse_cells
from sparc.extract.datasets.source import ImageRecord
from sparc.extract.datasets.tables.records import TableRecord


class TextsByImage:
    """Adds up the records of tables, by the image that they name.

    Args:
        options: Which columns are kept, and which makes groups.
        columns: Chooses the columns that are kept.

    Attributes:
        captions: In the order of the records; an entry for every image that is named.
    """

    def __init__(self, options: DatasetOptions, columns: RecordColumns) -> None:
        self.captions: dict[str, list[str]] = {}
        self._columns = columns
        self._group_column = options.holdout_by
        is_kept = {self._group_column, ALL_COLUMNS} & {*options.columns}
        self._without = () if is_kept else (self._group_column,)
        self._labels: dict[str, list[str]] = {}
        self._groups: dict[str, str] = {}
        self._of_images: dict[str, list[dict[str, Any]]] = {}
        self._of_captions: dict[str, list[dict[str, Any]]] = {}
        self._cells: list[dict[str, Any]] = []

    def add(self, image_path: str, record: TableRecord, *, is_text: bool) -> None:
        """Add a record.

        Args:
            image_path: The image that it names.
            record: The record.
            is_text: Whether its values are text, which may stand for numbers.
        """
        self.captions.setdefault(image_path, []).extend(record.captions)
        if record.labels:
            self._labels.setdefault(image_path, []).extend(record.labels)
        if self._columns.wanted:
            self._keep(image_path, record, is_text)
        if self._group_column:
            # A group is the text in the file, whatever type `parse_cells` gives the column.
            group = record.values.get(self._group_column)
            if group is not None and group != "":
                self._groups.setdefault(image_path, str(group))

    def finish(self) -> None:
        """After all records: give the further columns of text their types."""
        parse_cells(self._cells)

    def record(self, sample_id: str, image_path: str, otherwise: Sequence[str] = ()) -> ImageRecord:
        """An image with all that was added.

        Args:
            sample_id: Its id.
            image_path: Its path.
            otherwise: Its captions where no table has some.
        """
        return ImageRecord(
            sample_id,
            image_path,
            captions=self.captions.get(image_path) or otherwise,
            labels=self._labels.get(image_path, ()),
            group=self._groups.get(image_path, ""),
            columns=merged(self._of_images.get(image_path, ()), image_path),
            caption_columns=self._captions_columns(image_path),
        )

    def _captions_columns(self, image_path: str) -> Sequence[Mapping[str, Any]]:
        return self._of_captions.get(image_path, ())

    def _keep(self, image_path: str, record: TableRecord, is_text: bool) -> None:
        values = self._columns.of(record.values, without=self._without)
        if is_text:
            self._cells.append(values)
        if record.captions:
            of_captions = self._of_captions.setdefault(image_path, [])
            of_captions.extend([values] * len(record.captions))
        else:
            self._of_images.setdefault(image_path, []).append(values)
