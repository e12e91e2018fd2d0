"""A plain folder of images, with captions beside them (`--format folder`).

    DATASET/
      train/                 subfolders named like splits are splits; images beside them are left
        metadata.csv         file_name,text — or .tsv, .jsonl, .json, .parquet
        0001.png
        more/0002.jpg        subfolders are read too
        more/0002.txt        captions of 0002.jpg, one per line

This is the Hugging Face imagefolder convention, extended. A metadata file may be in any folder, or
above the splits. Names of images are relative to its folder or to the dataset, and need not be
written exactly as the file is (`sparc.extract.datasets.names`). Where two files name an image, the
one nearer to it counts. Where no file is called metadata, the one table that holds captions of the
images is read, whatever its name; of several, none, and `--table` chooses.

Columns are known by their usual names (`file_name`, `filepath`, `image`, …; `text`, `caption`,
`title`, `prompt`, …; `labels`, `label`, `class`, …) or named with `--image-column`,
`--caption-column` and `--label-column`. A caption is text, or a list of texts where the file can
hold one; several lines with one name are several captions. Classes in a table of text are separated
by `;` (`--label-separator`). Further columns may become columns of the cache (`--column`).

An image without a caption in the metadata has those of the file of its name: `.txt` or `.caption`,
one per line, or `.json` with a key like `caption`; beside it, or in a folder called `captions`,
`texts` or the like (`images/a.jpg`, `captions/a.txt`). Boxes of YOLO are no captions. Every
image is a row; its id is its path without suffix (with it, where two would be the same). The names
of other subfolders are not used as labels: `--format class-folders` does that.
"""

import dataclasses
import posixpath
import re
import shlex
from collections.abc import Collection, Iterator, Sequence

from sparc.common.errors import DatasetError
from sparc.common.text import amount, shorten
from sparc.extract.datasets.base import DatasetOptions
from sparc.extract.datasets.formats.reader import DatasetReader
from sparc.extract.datasets.labels.classes import names_of_numbers
from sparc.extract.datasets.safe_folder import SafeFolder, folder_of
from sparc.extract.datasets.source import ImageRecord, Source, image_ids
from sparc.extract.datasets.splits import SYNONYMS, split_folders
from sparc.extract.datasets.tables.by_image import TextsByImage
from sparc.extract.datasets.tables.finding import (
    ImageFinder,
    caption_tables,
    metadata_files,
    name_test,
    places_of,
)
from sparc.extract.datasets.tables.opening import open_table
from sparc.extract.datasets.tables.records import Roles, TableRecords, choose_roles
from sparc.extract.datasets.tables.sidecars import Sidecars
from sparc.extract.datasets.tables.table import Table

_PART = re.compile(r"\d{5,}(?:-of-\d+)?")
"""The number of a table that is one of several parts."""


class FolderDataset(DatasetReader):
    """A folder of images with captions in text or metadata files; see the module."""

    absence = "no images and no metadata"
    fallback = True

    @classmethod
    def evidence(cls, folder: SafeFolder) -> str | None:
        """An image, or else metadata: `read` then says that their images are missing."""
        return next(iter(folder.images or metadata_files(folder)), None)

    def splits(self) -> Collection[str]:
        """The subfolders that are splits."""
        return split_folders(self.folder.images)

    def read(self, split: str) -> Source:
        """The images, sorted by path; missing ones that metadata name come last."""
        folder = self.folder
        listed = [name for name in folder.images if not split or name.startswith(f"{split}/")]
        sidecars = Sidecars(folder, self.account, self.options.caption_column)
        metadata = _Metadata(self, split, sidecars)
        images, files = set(listed), folder.file_set
        others = [image_path for image_path in metadata.texts.captions if image_path not in images]
        # Files that metadata name are images, whatever their suffix.
        listed = sorted([*listed, *(name for name in others if name in files)])
        image_paths = [*listed, *(name for name in others if name not in files)]
        records: list[ImageRecord] = []
        for sample_id, image_path in zip(image_ids(image_paths), image_paths, strict=True):
            has_text = any(metadata.texts.captions.get(image_path, ()))
            otherwise = () if has_text else sidecars.captions(image_path)
            records.append(metadata.texts.record(sample_id, image_path, otherwise))
        sidecars.enter()
        labels = {label for record in records for label in record.labels}
        self._say_folders(listed, split, is_labelled=bool(labels or self.options.labels))
        names = names_of_numbers(folder, self.account, labels)
        return Source(named=metadata.texts.captions, records=records, names=names)

    def _say_folders(self, image_paths: Sequence[str], split: str, *, is_labelled: bool) -> None:
        """Enter folders that may be splits, or classes where there are no others."""
        own = f"{split}/" if split else ""
        below, folders = folders_in(image_paths, own)
        splits = [folder for folder in folders if folder.lower() in SYNONYMS]
        if splits and not split:
            what = f"folders called like splits ({shorten(', '.join(splits), 60)})"
            advice = (
                "images lie elsewhere too, so that all are one dataset: give one as the dataset"
            )
            self.account.passes_over(what, advice)
        elif not is_labelled and len(folders) > 1:
            shown = shorten(", ".join(folders), 60)
            what = f"names of {amount(len(folders), 'folder')} ({shown})"
            advice = "--format class-folders takes them for classes"
            if below != own:
                inner = shlex.quote(f"{self.folder}/{below}".rstrip("/"))
                advice = f"{inner} --format class-folders takes them for classes"
            self.account.passes_over(what, advice)


def folders_in(image_paths: Sequence[str], below: str) -> tuple[str, list[str]]:
    """The folders that hold images, in the first folder that holds several of them.

    Args:
        image_paths: Images.
        below: The folder to begin with, ending in `/`, or empty.

    Returns:
        The folder that holds them, ending in `/` or empty; and their names, sorted.
    """
    while True:
        parts = [path[len(below) :].partition("/") for path in image_paths]
        folders = sorted({folder for folder, slash, _ in parts if slash})
        if len(folders) != 1 or not all(slash for _, slash, _ in parts):
            return below, folders
        below = f"{below}{folders[0]}/"


class _Metadata:
    """What the metadata files of a split say, by image.

    Attributes:
        texts: Captions, classes, groups and columns.
    """

    def __init__(self, reader: DatasetReader, split: str, sidecars: Sidecars) -> None:
        self._reader = reader
        self._folder = reader.folder
        self._account = reader.account
        self._options: DatasetOptions = reader.options
        self._split = split
        self._kept = reader.columns
        self._sidecars = sidecars
        self._finder = ImageFinder(reader.folder, reader.account)
        self._named_by: dict[str, str] = {}
        self.texts = TextsByImage(reader.options, reader.columns)
        self._columns: set[str] = set()
        failures: list[DatasetError] = []
        files = list(self._files())
        for file in sorted(files, key=lambda name: -name.count("/")):
            try:
                table, roles = self._open(file)
            except DatasetError as error:
                failures.append(error)
                self._account.omissions(file).add("table", shorten(str(error), 200), file)
                continue
            self._read(file, table, roles)
        if failures and len(failures) == len(files):
            raise failures[0]
        self.texts.finish()
        column = self._options.holdout_by
        if column and column not in self._columns:
            known = shorten(", ".join(sorted(self._columns)), 120) or "none"
            raise DatasetError(
                f"{self._folder}: no metadata has the column {column!r} of --holdout-by; "
                f"columns: {known}"
            )

    def _files(self) -> Iterator[str]:
        """The tables that count: those called metadata, else the only one with captions.

        Where most images have text beside them, that counts.
        """
        split = self._split
        holders: dict[str, str] = {}
        files = metadata_files(self._folder)
        if not files and not self._sidecars.are_usual(self._folder.images):
            files = _unambiguous(caption_tables(self._folder, self._options))
        for name in files:
            below, _, base = name.rpartition("/")
            if split and self._reader.is_of_other_split(name, split):
                continue
            if below in holders and _PART.sub("0", base) != _PART.sub("0", holders[below]):
                where, typed = f"{self._folder}/{below}".rstrip("/"), shlex.quote(name)
                raise DatasetError(
                    f"{where} has metadata in several files, {holders[below]} and {base}: keep "
                    f"one, or name it: --table {typed}"
                )
            holders[below] = base
            yield name

    def _open(self, file: str) -> tuple[Table, Roles]:
        where = f"{self._folder}/{file}"
        omissions = self._account.omissions(file)
        table = open_table(self._folder.path(file), where, omissions, self._options.separator)
        roles = choose_roles(table, self._options, name_test(self._folder, places_of(file)))
        if roles is None and len(table.header) == 1 and table.header[0].startswith("../"):
            raise DatasetError(
                f"{where} is a link that was copied as text ({shorten(table.header[0], 80)}): copy "
                "the folder with its links"
            )
        if roles is None:
            columns = shorten(", ".join(map(str, table.header)), 120) or "none"
            raise DatasetError(
                f"{where} has no column file_name; its columns: {columns}; name the one with "
                "images with --image-column"
            )
        return table, dataclasses.replace(roles, split=None)  # folders are splits here

    def _read(self, file: str, table: Table, roles: Roles) -> None:
        below = places_of(file)
        own = folder_of(file)
        prefix = f"{self._split}/" if self._split else ""
        records = TableRecords(table, roles, self._options)
        self._kept.know(records.further)
        for record in records:
            image_path = self._finder.find(record.image, below)
            if image_path is None:
                image_path = posixpath.normpath(own + record.image)
                if not image_path.startswith(prefix):
                    table.leave_out("record", "no image has its name", record.number)
            if not image_path.startswith(prefix):
                continue
            nearer = self._named_by.setdefault(image_path, file)
            if nearer != file:
                table.leave_out(
                    "record", f"{nearer} names the image too, nearer to it", record.number
                )
                continue
            self.texts.add(image_path, record, is_text=table.is_text)
        self._columns.update(map(str, table.columns))
        records.enter(self._account, file)


def _unambiguous(tables: Sequence[str]) -> list[str]:
    """Tables of other names than metadata, if only one can be meant in any folder."""
    if len({_PART.sub("0", name) for name in tables}) == 1:
        return list(tables)  # the parts of one
    folders = [folder_of(name) for name in tables]
    for number, folder in enumerate(folders):
        if any(other.startswith(folder) for other in folders[number + 1 :]):
            return []
        if any(folder.startswith(other) for other in folders[number + 1 :]):
            return []
    return list(tables)
