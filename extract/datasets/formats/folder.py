"""A plain folder of images, with captions beside them (`--format folder`).

    DATASET/
      train/                 subfolders named like splits are splits, if all images are in such
        metadata.csv         file_name,text — or metadata.jsonl, metadata.parquet
        0001.png
        more/0002.jpg        subfolders are read too
        more/0002.txt        captions of 0002.jpg, one per line

This is the Hugging Face imagefolder convention, extended. A metadata file may be in any folder;
its `file_name` is relative to that folder. Captions are in its column `text` or else `caption`:
text, or a list of texts where the file can hold one; several lines with one file_name are several
captions. An optional column `labels` holds a class or a list of classes; in CSV, classes are
separated by `;`. Further columns may become columns of the cache (`--column`). An image without a
caption in the metadata has those of the text file of its name, one per line. Every image is a row;
its id is its path without suffix (with it, where two would be the same). The names of other
subfolders are not used as labels.
"""

import posixpath
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from sparc.common.errors import DatasetError
from sparc.common.progress import say
from sparc.common.text import amount, shorten
from sparc.extract.datasets.base import ALL_COLUMNS
from sparc.extract.datasets.columns import RecordColumns, merged, parse_cells
from sparc.extract.datasets.formats.reader import DatasetReader
from sparc.extract.datasets.metadata import (
    Record,
    decode,
    read_csv,
    read_json_lines,
    read_parquet,
)
from sparc.extract.datasets.safe_folder import LARGEST_TEXT, SafeFolder, split_suffix
from sparc.extract.datasets.source import ImageRecord, Source
from sparc.extract.datasets.splits import SYNONYMS

LABEL_SEPARATOR = ";"
"""Between the classes of one image, in the column `labels` of a CSV."""

_READERS = {
    "metadata.csv": read_csv,
    "metadata.jsonl": read_json_lines,
    "metadata.parquet": read_parquet,
}


_READ_COLUMNS = ("file_name", "text", "caption", "labels")
"""What this reader itself makes paths, captions and labels of."""


class FolderDataset(DatasetReader):
    """A folder of images with captions in text or metadata files; see the module."""

    absence = "no images and no metadata"
    fallback = True

    @classmethod
    def evidence(cls, folder: SafeFolder) -> str | None:
        """An image, or else metadata: `read` then says that their images are missing."""
        return next(iter(folder.images or metadata_files(folder.files)), None)

    def splits(self) -> Collection[str]:
        """The subfolders that are splits."""
        return split_folders(self.folder.images)

    def read(self, split: str) -> Source:
        """The images, sorted by path; missing ones that metadata name come last."""
        folder, options = self.folder, self.options
        listed = [name for name in folder.images if not split or name.startswith(f"{split}/")]
        metadata = _Metadata(folder, split, options.holdout_by, self.columns)
        present = set(listed)
        missing = [image_path for image_path in metadata.captions if image_path not in present]
        sidecars = _Sidecars(folder)
        image_paths = listed + missing
        source = Source(
            named=metadata.captions,
            records=[
                ImageRecord(
                    sample_id,
                    image_path,
                    captions=metadata.captions.get(image_path) or sidecars.captions(image_path),
                    labels=metadata.labels.get(image_path, ()),
                    group=metadata.groups.get(image_path, ""),
                    columns=merged(metadata.columns_of.get(image_path, ()), image_path),
                    caption_columns=metadata.caption_columns.get(image_path, ()),
                )
                for sample_id, image_path in zip(_ids(image_paths), image_paths, strict=True)
            ],
        )
        sidecars.say_replaced()
        if metadata.captions and not any(record.captions for record in source.records):
            columns = shorten(", ".join(sorted(metadata.columns)), 120)
            say(f"{folder}: its metadata have no column text or caption; columns: {columns}")
        return source


def split_folders(image_paths: Sequence[str]) -> list[str]:
    """The subfolders that are splits: all with images, if all of them are named like splits."""
    tops = sorted({name.split("/", 1)[0] if "/" in name else "" for name in image_paths})
    return tops if all(top.lower() in SYNONYMS for top in tops) else []


def metadata_files(files: Sequence[str]) -> list[str]:
    """The metadata files, in any folder."""
    return [name for name in files if name.rpartition("/")[2] in _READERS]


class _Metadata:
    """What the metadata files of a split say, by image.

    Attributes:
        captions: In the order of the files; an entry for every image that is named.
        labels: Classes of the images that have some.
        groups: Values of the column whose equal values are held out together.
        columns: All columns that the files have.
        columns_of: Values of the columns that are kept, of each line without a caption.
        caption_columns: The same of each caption.
    """

    def __init__(
        self, folder: SafeFolder, split: str, group_column: str, kept: RecordColumns
    ) -> None:
        self.captions: dict[str, list[str]] = {}
        self.labels: dict[str, list[str]] = {}
        self.groups: dict[str, str] = {}
        self.columns: set[str] = set()
        self.columns_of: dict[str, list[dict[str, Any]]] = {}
        self.caption_columns: dict[str, list[dict[str, Any]]] = {}
        cells: list[dict[str, Any]] = []
        # A group here is the text in the file, whatever type `parse_cells` gives the column.
        is_kept = {group_column, ALL_COLUMNS} & {*kept.wanted}
        without = _READ_COLUMNS if is_kept else (*_READ_COLUMNS, group_column)
        for name in _metadata_of(folder, split):
            below, _, base = name.rpartition("/")
            where = f"{folder}/{name}"
            is_csv = base == "metadata.csv"
            prefix = f"{split}/" if split and not below else ""
            for record in _READERS[base](folder.path(name), where):
                image_path = posixpath.normpath(posixpath.join(below, _file_name(record)))
                if not image_path.startswith(prefix):
                    continue
                self.columns.update(record.values)
                column = "text" if "text" in record.values else "caption"
                texts = _texts(record, column)
                self.captions.setdefault(image_path, []).extend(texts)
                if kept.wanted:
                    values = kept.of(record.values, without=without)
                    if is_csv:
                        cells.append(values)
                    if texts:
                        of_captions = self.caption_columns.setdefault(image_path, [])
                        of_captions.extend([values] * len(texts))
                    else:
                        self.columns_of.setdefault(image_path, []).append(values)
                labels = _texts(record, "labels")
                if is_csv:
                    labels = [part for text in labels for part in text.split(LABEL_SEPARATOR)]
                if labels:
                    stripped = (label.strip() for label in labels)
                    self.labels.setdefault(image_path, []).extend(filter(None, stripped))
                group = record.values.get(group_column)
                if group is not None and group != "":
                    self.groups.setdefault(image_path, str(group))
        parse_cells(cells)
        if group_column and group_column not in self.columns:
            known = shorten(", ".join(sorted(self.columns)), 120) or "none"
            raise DatasetError(
                f"{folder}: no metadata has the column {group_column!r} of --holdout-by; "
                f"columns: {known}"
            )


class _Sidecars:
    """The text files with the captions of the images of the same name."""

    def __init__(self, folder: SafeFolder) -> None:
        self._folder = folder
        self._names = {name[:-4] for name in folder.files if name.endswith(".txt")}
        self._replaced = 0

    def captions(self, image_path: str) -> list[str]:
        """The captions of an image, one per line."""
        stem, _ = split_suffix(image_path)
        if stem not in self._names:
            return []
        text, was_replaced = decode(self._folder.read(f"{stem}.txt", largest=LARGEST_TEXT))
        self._replaced += was_replaced
        return text.removeprefix("\ufeff").splitlines()

    def say_replaced(self) -> None:
        if self._replaced:
            files = amount(self._replaced, "text file")
            say(f"{self._folder}: bytes that are not UTF-8 replaced in {files}")


def _metadata_of(folder: SafeFolder, split: str) -> Iterator[str]:
    holders: set[str] = set()
    for name in metadata_files(folder.files):
        below = name.rpartition("/")[0]
        if split and below and not f"{below}/".startswith(f"{split}/"):
            continue
        if below in holders:
            raise DatasetError(
                f"{folder}/{below}".rstrip("/") + " has metadata in several files: keep one"
            )
        holders.add(below)
        yield name


def _file_name(record: Record) -> str:
    if "file_name" not in record.values:
        columns = shorten(", ".join(map(str, record.values)), 120)
        raise DatasetError(f"{record.where} has no column file_name; its columns: {columns}")
    name = record.values["file_name"]
    if not isinstance(name, str) or not name.strip():
        raise DatasetError(f"{record.where} has no file_name")
    return name.strip()


def _texts(record: Record, column: str) -> list[str]:
    value: Any = record.values.get(column)
    if value is None:
        return []
    texts = value if isinstance(value, list) else [value]
    if column == "labels":
        texts = [str(text) if type(text) is int else text for text in texts]
    if not all(isinstance(text, str) for text in texts):
        raise DatasetError(
            f"{record.where}: {column} must be text or a list of texts, "
            f"not {shorten(repr(value), 60)}"
        )
    return texts


def _ids(image_paths: Sequence[str]) -> Sequence[str]:
    stems = [split_suffix(path)[0] for path in image_paths]
    often = Counter(stems)
    ids = [
        stem if often[stem] == 1 else path for stem, path in zip(stems, image_paths, strict=True)
    ]
    return ids if len(set(ids)) == len(ids) else image_paths
