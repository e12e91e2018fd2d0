"""CelebA and lists in its form (`--format celeba`).

    DATASET/
      list_attr_celeba.txt       how many; the names of the attributes; then a line an image: its
                                 name, and 1 or -1 for each attribute. Or list_attr_celeba.csv with
                                 the column image_id; or CelebAMask-HQ-attribute-anno.txt
      list_eval_partition.txt    the split of each image: 0 train, 1 val, 2 test; or .csv; optional
      identity_CelebA.txt        the person of each image, optional
      img_align_celeba/…         the images, in any folder; aligned ones are preferred

An image's labels are the attributes that it has. Every attribute, true or false, and `identity` may
become a column (`--column all`), which `sparc-analyze bias` compares
(`--attribute column:Smiling=true`). Where no list divides the images, `--holdout-by identity` keeps
those of a person together.
"""

import posixpath
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property

from sparc.common.errors import DatasetError
from sparc.common.text import shorten
from sparc.extract.datasets.formats.published.lists import (
    Line,
    file_called,
    read_lines,
)
from sparc.extract.datasets.formats.reader import DatasetReader
from sparc.extract.datasets.safe_folder import SafeFolder, folder_of, split_suffix
from sparc.extract.datasets.source import ImageRecord, Source

_ATTRIBUTES = (
    "list_attr_celeba.txt",
    "list_attr_celeba.csv",
    "celebamask-hq-attribute-anno.txt",
)
_PARTITIONS = ("list_eval_partition.txt", "list_eval_partition.csv")
_IDENTITIES = ("identity_celeba.txt", "identity_celeba.csv")
_IMAGES = (
    "img_align_celeba/",
    "img_align_celeba/img_align_celeba/",
    "img_celeba/",
    "CelebA-HQ-img/",
)

_SPLITS = {"0": "train", "1": "val", "2": "test"}
_VALUES = {"1": True, "-1": False, "0": False}
_IDENTITY = "identity"


class CelebaDataset(DatasetReader):
    """Images with lists of attributes; see the module."""

    absence = "no list_attr_celeba.txt"

    @classmethod
    def evidence(cls, folder: SafeFolder) -> str | None:
        """The list of attributes."""
        return file_called(folder, *_ATTRIBUTES) or None

    @classmethod
    def advice(cls, folder: SafeFolder, file: str) -> str:  # noqa: ARG003
        """For the persons, and for the list of attributes in a folder of another format."""
        name = posixpath.basename(file).lower()
        if name in _IDENTITIES:
            return f"--column {_IDENTITY} keeps the person"
        return "--format celeba reads it" if name in _ATTRIBUTES else ""

    def splits(self) -> Collection[str]:
        """Those of the partition, where there is one."""
        present = {*self._partition.values()}
        return [split for split in _SPLITS.values() if split in present]

    def read(self, split: str) -> Source:
        """The images in the order of the list of attributes."""
        file = file_called(self.folder, *_ATTRIBUTES)
        if not file:
            raise DatasetError(f"{self.folder} has no list_attr_celeba.txt or .csv")
        names = self.account.names(self.folder.images)
        below = (*(f"{folder_of(file)}{images}" for images in _IMAGES), folder_of(file), "")
        identities = self._values(*_IDENTITIES) if self.columns else {}
        omissions = self.account.omissions(file)
        attributes, lines = self._attributes(file)
        records: list[ImageRecord] = []
        for line in lines:
            name, *values = line.words
            if len(values) != len(attributes):
                omissions.add("image", f"it has not {len(attributes)} values", line.where)
                continue
            if self._partition and name not in self._partition:
                omissions.add("image", "the partition does not name it", line.where)
                continue
            if split and self._partition[name] != split:
                continue
            flags = {a: _VALUES.get(v) for a, v in zip(attributes, values, strict=True)}
            if None in flags.values():
                omissions.add("attribute", "its value is not 1 or -1", line.where)
            of_person = {_IDENTITY: identities.get(name)} if identities else {}
            records.append(
                ImageRecord(
                    split_suffix(name)[0],
                    names.path(name, below=below),
                    labels=[attribute for attribute, flag in flags.items() if flag],
                    columns=self.columns.of({**flags, **of_person}, without=()),
                )
            )
        if not records:
            raise DatasetError(f"{self.folder}/{file} lists no image that can be used")
        self.account.uses(file, used=attributes)
        return Source(records=records, named_in=file)

    def is_of_other_split(self, file: str, split: str) -> bool:
        """Whether the partition puts an image of this name into another split."""
        return self._partition.get(posixpath.basename(file), split) != split

    @cached_property
    def _partition(self) -> Mapping[str, str]:
        """The split of each image, by file name."""
        values = self._values(*_PARTITIONS)
        return {name: _SPLITS[value] for name, value in values.items() if value in _SPLITS}

    def _values(self, *files: str) -> Mapping[str, str]:
        """The second word of each line of a list, by the first; nothing without such a list."""
        file = file_called(self.folder, *files)
        lines = read_lines(self.folder, file, _separator(file)) if file else ()
        return {line.words[0]: line.words[1] for line in lines if len(line.words) > 1}

    def _attributes(self, file: str) -> tuple[Sequence[str], Iterator[Line]]:
        """The names of the attributes, and the lines of the images."""
        lines = read_lines(self.folder, file, _separator(file))
        header = next(lines, Line(1, ()))
        if [word.isdecimal() for word in header.words] == [True]:  # how many images there are
            header = next(lines, Line(2, ()))
        names = header.words[1:] if file.lower().endswith(".csv") else header.words
        if len(set(names)) != len(names) or not names:
            shown = shorten(" ".join(names), 80) or "it is not there"
            raise DatasetError(
                f"{self.folder}/{file}, {header.where} should name the attributes, each once: "
                f"{shown}"
            )
        return names, lines


def _separator(file: str) -> str | None:
    return "," if file.lower().endswith(".csv") else None
