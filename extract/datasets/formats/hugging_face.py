"""Datasets of Hugging Face with the images in the files (`--format hugging-face`).

    DATASET/                                  saved by `datasets` (save_to_disk)
      dataset_dict.json
      train/data-00000-of-00002.arrow         also one dataset alone, with its files in DATASET

    DATASET/                                  from the hub, or made by any program
      data/train-00000-of-00005.parquet       image: struct<bytes, path> or bytes; text, label, …

Neither `datasets` nor a network is needed. Splits are folders, or what files are called after. The
column of images is the first that holds some (`--image-column`); captions and classes are in the
columns of their usual names, or those that `--caption-column` and `--label-column` name. Numbers of
classes get the names that `datasets` wrote beside them. A sample's id is the name that its image
had, without suffix, where these are all different; else the file and the row. An image is named
`file/column/row` and read when it is wanted: of an Arrow file its own bytes, of Parquet its row
group, of which the last ones are kept.
"""

import dataclasses
import re
import threading
from collections import defaultdict
from collections.abc import Collection, Sequence
from functools import cached_property

import pyarrow as pa

from sparc.common.errors import DatasetError, MissingFileError
from sparc.common.files.paths import is_url
from sparc.common.images.files import LARGEST_IMAGE
from sparc.common.text import shorten, size
from sparc.extract.datasets.base import DatasetOptions
from sparc.extract.datasets.formats.reader import DatasetReader
from sparc.extract.datasets.safe_folder import SafeFolder, folder_of, split_suffix
from sparc.extract.datasets.source import ImageRecord, Source
from sparc.extract.datasets.splits import SYNONYMS
from sparc.extract.datasets.tables.arrow_files import (
    MAPPED,
    SUFFIXES,
    ArrowFile,
    image_columns,
    open_arrow_file,
)
from sparc.extract.datasets.tables.by_image import TextsByImage
from sparc.extract.datasets.tables.image_table import ImageTable, features_of
from sparc.extract.datasets.tables.records import TableRecords, choose_roles

_LOOKED_AT = 20
"""Files that are looked into for images."""

_NUMBERED = re.compile(r"(.*-)(\d+)-of-(\d+)(\.\w+)", re.DOTALL)
"""A file that is one of several."""

_MOST_NUMBERED = 100_000

_SHARD = re.compile(r"(.*?)[-_.]\d+[-_.]of[-_.]\d+(?:[-_.].*)?")
_DESCRIPTIONS = ("dataset_dict.json", "dataset_info.json", "state.json")
_PLAIN_NAMES = ("data", "dataset")
"""What `datasets` calls files that belong to no split."""


class HuggingFaceDataset(DatasetReader):
    """Images in files of Arrow or Parquet; see the module."""

    absence = "no .arrow or .parquet file with images"

    def __init__(self, folder: SafeFolder, options: DatasetOptions) -> None:
        super().__init__(folder, options)
        self._opened: dict[str, ArrowFile] = {}
        self._opening = threading.Lock()

    @classmethod
    def evidence(cls, folder: SafeFolder) -> str | None:
        """The first file that holds images."""
        return next(
            (file for file in _candidates(folder)[:_LOOKED_AT] if _holds(folder, file)), None
        )

    @classmethod
    def advice(cls, folder: SafeFolder, file: str) -> str:
        """How a file with images is read."""
        suffix = split_suffix(file)[1]
        if suffix == MAPPED and is_url(folder.location):
            return "copy the dataset to this machine, or save it with to_parquet of datasets"
        is_one = suffix in SUFFIXES and _holds(folder, file)
        return "--format hugging-face reads its images" if is_one else ""

    def is_of_other_split(self, file: str, split: str) -> bool:
        """Whether the file's name, or that of the folder it lies in, is that of another split."""
        others = {other: files for other, files in self._files.items() if other not in ("", split)}
        return file.partition("/")[0] in others or any(file in files for files in others.values())

    def splits(self) -> Collection[str]:
        """Folders, or what files are called after."""
        return [split for split in self._files if split]

    def read(self, split: str) -> Source:
        """The rows of the files, in the order of their names."""
        names: list[str] = []
        texts = TextsByImage(self.options, self.columns)
        files = self._files.get(split, ())
        if not files:
            raise DatasetError(f"{self.folder} has {self.absence}")
        failures: list[DatasetError] = []
        for file in files:
            try:
                names.extend(self._read(file, texts))
            except DatasetError as error:
                failures.append(error)
                self.account.leave_out(file, "file", shorten(str(error), 160), file)
        if len(failures) == len(files):
            raise failures[0]
        texts.finish()
        self._enter_missing(files)
        self._enter_descriptions(files)
        paths = list(texts.captions)
        stems = [split_suffix(name)[0] for name in names]
        is_named = len(names) == len(paths) == len({*stems}) and all(stems)
        ids = stems if is_named else paths
        records: list[ImageRecord] = []
        for sample_id, path in zip(ids, paths, strict=True):
            records.append(texts.record(sample_id, path))
        return Source(records=records)

    def read_image(self, image_path: str) -> bytes:
        """The encoded bytes of an image, by `file/column/row`."""
        place, _, row = image_path.rpartition("/")
        file, _, column = place.rpartition("/")
        if split_suffix(file)[1] not in SUFFIXES or not row.isdecimal():
            raise DatasetError(
                f"{self.folder}: {shorten(image_path, 200)} is not file.arrow/column/row"
            )
        with self._opening:
            if file not in self._opened:
                columns = self.folder.columns_of(file)
                self._opened[file] = open_arrow_file(columns, f"{self.folder}/{file}")
        image = self._opened[file].image(column, int(row))
        if image is None:
            raise MissingFileError(f"{self.folder}: {shorten(image_path, 200)} has no image in it")
        if len(image) > LARGEST_IMAGE:
            raise DatasetError(
                f"{self.folder}: {shorten(image_path, 200)} has {size(len(image))}, "
                f"more than {size(LARGEST_IMAGE)}"
            )
        return image

    @cached_property
    def _files(self) -> dict[str, list[str]]:
        """The files with images by split; the empty one if they are of none."""
        by_split: dict[str, list[str]] = defaultdict(list)
        for file in _candidates(self.folder):
            by_split[_split_of(self.folder, file)].append(file)
        if len(by_split) > 1 and "" in by_split:
            by_split = defaultdict(list, {s: files for s, files in by_split.items() if s})
        divided: dict[str, list[str]] = {}
        for split, files in by_split.items():
            folders = {file.rpartition("/")[0] for file in files}
            for file in files:
                # Configurations of one dataset have the same splits, in folders of their own.
                below = file.rpartition("/")[0]
                key = (
                    f"{below}/{split}".strip("/") if len(folders) > 1 and below != split else split
                )
                divided.setdefault(key, []).append(file)
        return divided

    def _read(self, file: str, texts: TextsByImage) -> Sequence[str]:
        """Add the rows of a file; returns the names that its images had, if they had some."""
        where = f"{self.folder}/{file}"
        options = self.options
        columns = self.folder.columns_of(file)
        self.folder.opened.add(file)
        omissions = self.account.omissions(file)
        table = ImageTable(columns, where, omissions, file, options.image_column)
        options = dataclasses.replace(options, image_column=table.image_column)
        roles = choose_roles(table, options, bool)
        if roles is None:
            raise DatasetError(f"{where} holds no images")
        if roles.labels is None and table.class_columns:
            roles = dataclasses.replace(roles, labels=table.class_columns[0])
        records = TableRecords(table, roles, options)
        self.columns.know(records.further)
        for record in records:
            texts.add(record.image, record, is_text=False)
        records.enter(self.account, file)
        return table.names()

    def _enter_missing(self, files: Sequence[str]) -> None:
        """Enter the files that should be there by the names of the others (`…-of-00003`)."""
        series: dict[tuple[str, str, str], set[int]] = defaultdict(set)
        for file in files:
            if match := _NUMBERED.fullmatch(file):
                before, number, every, after = match.groups()
                series[before, every, after].add(int(number))
        for (before, every, after), numbers in series.items():
            first = min(1, *numbers)  # some count from 1
            expected = range(first, first + min(int(every), _MOST_NUMBERED))
            for number in sorted({*expected} - numbers):
                file = f"{before}{number:0{len(every)}d}-of-{every}{after}"
                self.account.omissions("numbered files").add("file", "it is not there", file)

    def _enter_descriptions(self, files: Sequence[str]) -> None:
        """Enter what `datasets` wrote beside the files, whose content is also in the files."""
        folders = {"", *(folder_of(file) for file in files)}
        present = self.folder.file_set
        for name in (f"{folder}{base}" for folder in folders for base in _DESCRIPTIONS):
            if name in present:
                self.account.uses(name)


def _candidates(folder: SafeFolder) -> list[str]:
    return [file for file in folder.files if split_suffix(file)[1] in SUFFIXES]


def _holds(folder: SafeFolder, file: str) -> bool:
    """Whether a file holds images."""
    try:
        schema: pa.Schema = open_arrow_file(folder.columns_of(file), file).schema
    except DatasetError:
        return False
    return bool(image_columns(schema, features_of(schema)))


def _split_of(folder: SafeFolder, file: str) -> str:
    """The split of a file: what its name says, or the folder that it lies in."""
    below, _, base = file.rpartition("/")
    stem = split_suffix(base)[0]
    shard = _SHARD.fullmatch(stem)
    name = shard[1] if shard else stem
    last = re.split(r"[-_.]", name)[-1]
    if last.lower() in SYNONYMS:
        return last
    if shard and name and name not in _PLAIN_NAMES:
        return name
    holder = below.rpartition("/")[2]
    is_saved = f"{below}/state.json" in folder.file_set
    return holder if is_saved or holder.lower() in SYNONYMS else ""
