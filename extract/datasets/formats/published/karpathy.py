"""Andrej Karpathy's splits of COCO, Flickr8k and Flickr30k (`--format karpathy`).

    DATASET/
      dataset_coco.json      {"images": [{"filepath": "val2014", "filename": "a.jpg", "cocoid": 7,
                               "split": "train", "sentences": [{"raw": "a red fish", …}, …]}, …]}
      val2014/a.jpg          the images, in any folder

The file may have any name and lie in any folder. Its splits are those of `split`; in COCO `restval`
are the images of COCO's validation set that most papers train on as well: `--split train+restval`.
Each sentence is a caption (`raw`, or its `tokens`). A sample's id is `cocoid`, which COCO's own
files use too, or the name of the image's file without suffix. Where several such files lie in the
folder, as in the archive that holds all three, the one whose images are there is read.
"""

import posixpath
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from sparc.common.errors import DatasetError
from sparc.common.text import listed, shorten
from sparc.extract.datasets.account import Omissions
from sparc.extract.datasets.formats.published.documents import documents_with
from sparc.extract.datasets.formats.reader import DatasetReader
from sparc.extract.datasets.json_lists import JsonLists
from sparc.extract.datasets.safe_folder import SafeFolder, folder_of, split_suffix
from sparc.extract.datasets.source import ImageRecord, Source
from sparc.extract.datasets.tables.cells import identifier, text_of
from sparc.extract.datasets.tables.finding import metadata_files

_MARKS = ('"images"', '"filename"', '"sentences"')
_FILE_NAME = re.compile(rb'"filename"\s*:\s*"([^"\\]+)"')
_READ = ("filepath", "filename", "split", "sentences", "cocoid")
_NOT_COLUMNS = (*_READ, "sentids", "imgid", "sentid", "raw", "tokens")

ALL_TRAINING = "train+restval"
"""Stands for both splits that most papers train on."""


class _Image(NamedTuple):
    sample_id: str
    name: str
    split: str
    captions: Sequence[str]
    columns: Mapping[str, Any]
    caption_columns: Sequence[Mapping[str, Any]]


class KarpathyDataset(DatasetReader):
    """A dataset with splits and sentences in one JSON file; see the module."""

    absence = "no Karpathy JSON such as dataset_coco.json"
    yields_to = ("coco",)

    @classmethod
    def evidence(cls, folder: SafeFolder) -> str | None:
        """A file with `images` that have `sentences`, unless the folder has other metadata."""
        return None if metadata_files(folder) else next(iter(_candidates(folder)), None)

    @classmethod
    def advice(cls, folder: SafeFolder, file: str) -> str:
        """For a file that is read where this format is chosen."""
        return "--format karpathy reads it" if file in _candidates(folder) else ""

    def splits(self) -> Collection[str]:
        """The values of `split`; the two training sets of COCO also as one."""
        splits = dict.fromkeys(image.split for image in self._images if image.split)
        if {"train", "restval"} <= splits.keys():
            splits[ALL_TRAINING] = None
        return splits

    def read(self, split: str) -> Source:
        """The images of a split, in the order of the file."""
        wanted = split.split("+")
        file = self._file
        names = self.account.names(self.folder.images)
        below = (folder_of(file), "")
        return Source(
            named_in=file,
            records=[
                ImageRecord(
                    image.sample_id,
                    names.path(image.name, posixpath.basename(image.name), below=below),
                    captions=image.captions,
                    columns=image.columns,
                    caption_columns=image.caption_columns,
                )
                for image in self._images
                if image.split in wanted
            ],
        )

    def is_of_other_split(self, file: str, split: str) -> bool:
        """Whether an image of another split has this file's name."""
        splits = self._splits_of.get(posixpath.basename(file), set())
        return bool(splits) and splits.isdisjoint(split.split("+"))

    @cached_property
    def _file(self) -> str:
        candidates = _candidates(self.folder)
        if len(candidates) > 1:
            own = {posixpath.basename(image) for image in self.folder.images}
            candidates = [f for f in candidates if _named_first(self.folder, f) & own] or candidates
        if not candidates:
            raise DatasetError(
                f"{self.folder} has no JSON file of images with filename and sentences, so it is "
                "not in the form of Karpathy's splits"
            )
        if len(candidates) > 1:
            raise DatasetError(
                f"{self.folder} has {listed(candidates)}: keep the one that is meant"
            )
        return candidates[0]

    @cached_property
    def _splits_of(self) -> Mapping[str, set[str]]:
        """The splits of the images, by the name of their file."""
        splits: dict[str, set[str]] = defaultdict(set)
        for image in self._images:
            splits[posixpath.basename(image.name)].add(image.split)
        return splits

    @cached_property
    def _images(self) -> Sequence[_Image]:
        where = f"{self.folder}/{self._file}"
        omissions = self.account.omissions(self._file)
        images: dict[str, _Image] = {}
        others: dict[str, None] = {}
        for image in self._usable(omissions, others):
            earlier = images.setdefault(image.sample_id, image)
            if earlier != image:
                raise DatasetError(
                    f"{where}: two different images have the id {shorten(image.sample_id, 80)!r}"
                )
        if any(image.split for image in images.values()):
            for image in [image for image in images.values() if not image.split]:
                omissions.add("image", "it has no split", f"image {image.sample_id}")
                del images[image.sample_id]
        if not images:
            raise DatasetError(f"{where} has no image that can be used: {omissions.first}")
        self.columns.enter(self.account, self._file, _READ, others)
        return list(images.values())

    def _usable(self, omissions: Omissions, others: dict[str, None]) -> Iterator[_Image]:
        """The images of the file.

        Args:
            omissions: Counts the entries that cannot be used.
            others: Gets the fields that are not read.
        """
        for position, entry in self._entries(omissions):
            where = f"images[{position}]"
            if not isinstance(entry, dict):
                omissions.add("image", "it is not an object", where)
                continue
            name, split = text_of(entry.get("filename")), text_of(entry.get("split"))
            if not name:
                omissions.add("image", "it has no filename", where)
                continue
            others.update(dict.fromkeys(entry.keys() - _NOT_COLUMNS))
            sentences = list(_sentences(entry.get("sentences"), omissions, where))
            yield _Image(
                identifier(entry.get("cocoid")) or split_suffix(name)[0],
                posixpath.join(text_of(entry.get("filepath")), name),
                split,
                [caption for caption, _ in sentences],
                self.columns.of(entry, without=_NOT_COLUMNS),
                [self.columns.of(fields, without=_NOT_COLUMNS) for _, fields in sentences],
            )

    def _entries(self, omissions: Omissions) -> Iterator[tuple[int, Any]]:
        path = self.folder.path(self._file)
        with JsonLists(path, f"{self.folder}/{self._file}", omissions) as lists:
            yield from lists.entries("images", "image")


def _candidates(folder: SafeFolder) -> list[str]:
    return documents_with(folder, *_MARKS)


def _named_first(folder: SafeFolder, file: str) -> set[str]:
    """Names of the first images of a document."""
    head = folder.head(file, 1 << 16)
    return {name.decode(errors="replace") for name in _FILE_NAME.findall(head)}


def _sentences(
    value: Any, omissions: Omissions, where: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if value is None:
        return
    if not isinstance(value, list):
        omissions.add("caption", "sentences is not a list", where)
        return
    for position, sentence in enumerate(value):
        fields = sentence if isinstance(sentence, dict) else {"raw": sentence}
        tokens = fields.get("tokens")
        caption = text_of(fields.get("raw"))
        if not caption and isinstance(tokens, list):
            caption = " ".join(token for token in tokens if isinstance(token, str))
        if caption:
            yield caption, fields
        else:
            omissions.add("caption", "it is not text", f"{where}.sentences[{position}]")
