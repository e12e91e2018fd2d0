"""What a dataset format has to define; everything else is the same for all formats.

A format lists the splits and reads one of them. `DatasetReader.manifest` does what the options ask
for: it chooses the split, holds images out, says which are missing, keeps columns.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property, partial
from typing import Any, ClassVar

from sparc.common.cache.account.account import DatasetAccount
from sparc.common.cache.manifest import Manifest
from sparc.common.errors import DatasetError
from sparc.common.text import amount, shorten
from sparc.extract.datasets.account import Account
from sparc.extract.datasets.advice import general_advice
from sparc.extract.datasets.base import DatasetOptions
from sparc.extract.datasets.columns import RecordColumns
from sparc.extract.datasets.folders.locations import parse_location
from sparc.extract.datasets.folders.opening import open_folder
from sparc.extract.datasets.formats.registry import FORMATS, TABLE
from sparc.extract.datasets.formats.videos import look_like_videos
from sparc.extract.datasets.labels.of_images import with_labels_of_files
from sparc.extract.datasets.manifest import build_manifest, check_some_present
from sparc.extract.datasets.metadata import is_garbled
from sparc.extract.datasets.safe_folder import SafeFolder
from sparc.extract.datasets.source import ImageRecord, Source
from sparc.extract.datasets.splits import choose_split
from sparc.extract.datasets.tables.opening import LFS_POINTER


class DatasetReader(ABC):
    """A dataset folder that is read in one format.

    Args:
        folder: The dataset. Every file is opened through it, since names are not trusted.
        options: Their `format` is the reader's own name, never `auto`.
    """

    absence: ClassVar[str]
    """What a folder lacks that `auto` does not recognise, for its message: "no .tar shards"."""
    fallback: ClassVar[bool] = False
    """Whether `auto` considers this format only where it recognises no other."""
    by_names: ClassVar[bool] = False
    """Whether names of images or folders are all by which `auto` recognises this format: then every
    format that is recognised by a file of its own wins."""
    yields_to: ClassVar[Collection[str]] = ()
    """Formats that `auto` prefers where it recognises both: `("coco",)`.

    `detection` has the order of all formats, and why."""

    def __init__(self, folder: SafeFolder, options: DatasetOptions) -> None:
        self.folder = folder
        self.options = options
        self.columns = RecordColumns(options.columns, options.holdout_by)
        """Chooses the fields of metadata that `rows.parquet` keeps; see `ImageRecord.columns`."""
        self.account = Account(folder)
        """Where `read` enters what it uses and what it leaves out; `Account` says how."""

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process reads the folder itself: rows may be many millions."""
        folder = self.folder
        options = self.options.absolute()
        return _open_elsewhere, (type(self), folder.place, folder.location, options)

    @classmethod
    @abstractmethod
    def evidence(cls, folder: SafeFolder) -> str | None:
        """A file by which `auto` recognises the format; None where there is none."""

    def splits(self) -> Collection[str]:
        """The splits that the dataset has; none where it is not divided.

        Raises:
            DatasetError: The folder is not in this format.
        """
        return ()

    @cached_property
    def _known_splits(self) -> Collection[str]:
        return self.splits()

    @abstractmethod
    def read(self, split: str) -> Source:
        """The images in the order of their rows, with their captions and classes.

        Args:
            split: One of `splits()`; empty where there are none.

        Raises:
            DatasetError: The folder is not in this format.
        """

    @classmethod
    def advice(cls, folder: SafeFolder, file: str) -> str:  # noqa: ARG003
        """What to type so that a file that was not read is used, if this format would.

        Args:
            folder: The dataset, which `auto` or the user takes for another format.
            file: A path in the folder.

        Returns:
            Such as `--format coco reads it`; empty where this format has no use for it.
        """
        return ""

    def is_of_other_split(self, file: str, split: str) -> bool:
        """Whether a file that was not read belongs to another split; by its folders here."""
        others = tuple(f"{other}/" for other in self._known_splits if other != split)
        return file.startswith(others)

    def read_image(self, image_path: str) -> bytes:
        """The encoded bytes of an image; see `Dataset.read_image`.

        Where a format overrides this, images are no files of the folder, and `manifest` does not
        look whether they are there.
        """
        return self.folder.read_image(image_path)

    def manifest(self) -> Manifest:
        """The rows, classes and masks; see `Dataset.manifest`. They are read once."""
        return self._manifest

    @cached_property
    def _manifest(self) -> Manifest:
        location = str(self.folder)
        split = choose_split(self.options, self._known_splits, location)
        source = self.read(split)
        if type(self).read_image is DatasetReader.read_image:
            files = self.folder.file_set
            named = source.named
            if named is None:
                named = [record.image_path for record in source.records]
            missing = [image_path for image_path in named if image_path not in files]
            present = self.folder.images
            check_some_present(missing, len(named), location, source.named_in, present)
        self.columns.require_known(location)
        records = self.columns.grouped(source.records, location)
        source = dataclasses.replace(source, records=records)
        if source.records:
            source = with_labels_of_files(source, self.options, self.folder, self.account)
        manifest = build_manifest(location, source, self.options, split=split)
        if self.options.strict:  # masks are read with the rows
            self._refuse_omissions()
        account = self.account.finish(
            manifest,
            (record.image_path for record in source.records),
            of_other_split=lambda file: bool(split) and self.is_of_other_split(file, split),
            advise=partial(advice_on, self.folder),
        )
        notes = tuple(self._notes(records, account))
        return dataclasses.replace(manifest, account=dataclasses.replace(account, notes=notes))

    def _notes(self, records: Sequence[ImageRecord], account: DatasetAccount) -> Iterator[str]:
        """What a person should know of these images besides."""
        garbled = [text for record in records for text in record.captions if is_garbled(text)]
        if garbled:
            yield (
                f"{amount(len(garbled), 'caption')} in UTF-8 that was read as Windows-1252 and "
                f"saved so, such as {shorten(garbled[0], 60)}: make the file again from its source"
            )
        heads = (self.folder.head(record.image_path, 64) for record in records[:1])
        if any(head.startswith(LFS_POINTER) for head in heads):
            yield "images are pointers of Git LFS: fetch them with git lfs pull"
        if any(record.group for record in records):
            return
        # Classes have folders too, whose images may be numbered: there it matters for holdout only.
        is_worth_saying = self.options.holdout or not account.labelled
        if is_worth_saying and look_like_videos(record.image_path for record in records):
            yield (
                "the images are numbered by folder, as the frames of videos are: --format frames "
                "--holdout holds a folder out as a whole"
            )

    def _refuse_omissions(self) -> None:
        for left_out in self.account.left_out():
            raise DatasetError(f"{left_out}; correct it, or run without --strict")


def _open_elsewhere(
    reader: type[DatasetReader], place: str, location: str, options: DatasetOptions
) -> DatasetReader:
    folder = open_folder(parse_location(place))
    folder.location = location  # as messages and reasons name it
    return reader(folder, options)


def advice_on(folder: SafeFolder, file: str) -> str:
    """What to type so that a file is used: the advice of the first format that has some.

    That of `table` comes last, since any list may be a table.

    Args:
        folder: The dataset.
        file: A path in it.
    """
    names = sorted(FORMATS, key=lambda name: name == TABLE)
    advice = (FORMATS[name].load().advice(folder, file) for name in names)
    return next(filter(None, advice), "") or general_advice(file, folder.head)
