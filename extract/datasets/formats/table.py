"""Images that a table names (`--table FILE`, `--format table`).

    captions.tsv             filepath,title — CSV, TSV, JSON Lines, a JSON list, Parquet
    DATASET/
      images/0001.jpg

The table lies in the dataset or elsewhere. It is recognized by its content, its columns by their
usual names, or as `--image-column`, `--caption-column`, `--label-column`, `--split-column` and
`--separator` say; columns of a table without a header are `1`, `2`, …. Names of images are relative
to the table's folder, where it lies in the dataset, or to the dataset, and need not be written
exactly as the file is. Images are rows in the order in which the table names them first; those that
it does not name are not read. Several lines with one name are several captions; `name.jpg#0` is the
first caption of `name.jpg` (Flickr8k, Flickr30k). With a column of splits, `--split` chooses.
"""

import posixpath
import shlex
from collections.abc import Collection
from pathlib import Path

from sparc.common.errors import DatasetError
from sparc.common.files.paths import from_home
from sparc.common.text import shorten
from sparc.extract.datasets.base import DatasetOptions
from sparc.extract.datasets.formats.reader import DatasetReader
from sparc.extract.datasets.labels.classes import names_of_numbers
from sparc.extract.datasets.safe_folder import SafeFolder, split_suffix
from sparc.extract.datasets.source import Source
from sparc.extract.datasets.tables.by_image import TextsByImage
from sparc.extract.datasets.tables.finding import (
    ImageFinder,
    finds_most,
    first_names,
    name_test,
    peek,
    places_of,
)
from sparc.extract.datasets.tables.opening import open_table
from sparc.extract.datasets.tables.records import ADDRESSES, Roles, TableRecords, choose_roles
from sparc.extract.datasets.tables.table import Table

_ADDRESSES = "it lists addresses of images: download them with img2dataset and read its folder"


class TableDataset(DatasetReader):
    """Images that a table names; see the module."""

    absence = "no --table"

    @classmethod
    def evidence(cls, folder: SafeFolder) -> str | None:  # noqa: ARG003
        """None: `--table` says so."""
        return None

    @classmethod
    def advice(cls, folder: SafeFolder, file: str) -> str:
        """How a table of captions or classes is read, if a file is one."""
        typed = f"--table {shlex.quote(file)}"
        opened = peek(folder, file, DatasetOptions())
        if opened is None:
            return _advice_for_spaces(folder, file, typed)
        table, roles = opened
        if _lists_addresses(table, roles):
            return _ADDRESSES
        if roles.captions or roles.labels is not None:
            is_here = finds_most(folder, file, opened)
            return f"{typed} reads it" if is_here else "the images that it names are not there"
        others = [column for column in table.header if column and column != roles.image]
        if not others or not finds_most(folder, file, opened):
            return ""
        return (
            f"{typed} with --caption-column NAME or --label-column NAME reads it; its columns: "
            f"{shorten(', '.join(others), 80)}"
        )

    def splits(self) -> Collection[str]:
        """The values of the column of splits."""
        table, roles = self._open()
        if roles.split is None:
            return ()
        values = (row.values[0] for row in table.silent().rows([roles.split]))
        return sorted({str(value).strip() for value in values if value} - {""})

    def read(self, split: str) -> Source:
        """The images that the table names, in its order."""
        table, roles = self._open()
        file, below = self._file(), self._places()
        finder = ImageFinder(self.folder, self.account)
        texts = TextsByImage(self.options, self.columns)
        records = TableRecords(table, roles, self.options)
        self.columns.know(records.further)
        for record in records:
            if split and record.split != split:
                continue
            image_path = finder.find(record.image, below) or posixpath.normpath(record.image)
            texts.add(image_path, record, is_text=table.is_text)
        texts.finish()
        records.enter(self.account, file)
        if _lists_addresses(table, roles):
            raise DatasetError(f"{table.name} cannot be read: {_ADDRESSES}")
        stems = [split_suffix(image_path)[0] for image_path in texts.captions]
        ids = stems if len(set(stems)) == len(stems) else list(texts.captions)
        image_records = [
            texts.record(sample_id, image_path)
            for sample_id, image_path in zip(ids, texts.captions, strict=True)
        ]
        labels = {label for record in image_records for label in record.labels}
        names = names_of_numbers(self.folder, self.account, labels)
        return Source(named_in=table.name, records=image_records, names=names)

    def _open(self) -> tuple[Table, Roles]:
        omissions = self.account.omissions(self._file())
        table = open_table(self._path(), str(self._typed()), omissions, self.options.separator)
        roles = choose_roles(table, self.options, name_test(self.folder, self._places()))
        if roles is None:
            columns = shorten(", ".join(map(str, table.header)), 120) or "none"
            raise DatasetError(
                f"{table.name}: no column is known to name images; its columns: {columns}; say "
                "which one does with --image-column"
            )
        return table, roles

    def _typed(self) -> Path:
        if self.options.table is None:
            raise DatasetError(f"{self.folder}: say which table names the images with --table")
        return Path(from_home(self.options.table))

    def _path(self) -> Path:
        """The table: of the dataset, or anywhere else."""
        typed, file = self._typed(), self._file()
        return typed if file == str(typed) and typed.exists() else self.folder.path(file)

    def _file(self) -> str:
        """The table's path in the dataset; elsewhere, as it is typed."""
        return self.folder.name_of(self._typed())

    def _places(self) -> tuple[str, ...]:
        file = self._file()
        return places_of(file) if file in self.folder.file_set else ("",)


def _advice_for_spaces(folder: SafeFolder, file: str, typed: str) -> str:
    """For a list of images and classes with spaces between them."""
    opened = peek(folder, file, DatasetOptions(separator=" "))
    if opened is None or not finds_most(folder, file, opened) or len(opened[0].header) != 2:
        return ""
    _, other = opened[0].header
    return f"{typed} --separator ' ' --label-column {shlex.quote(other)} reads classes of it"


def _lists_addresses(table: Table, roles: Roles) -> bool:
    """Whether a table names no files, but addresses to download."""
    names = first_names(table, roles)
    return bool(names) and all(name.startswith(ADDRESSES) for name in names)
