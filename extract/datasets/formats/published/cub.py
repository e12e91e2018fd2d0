"""Caltech-UCSD Birds, NABirds and lists in their form (`--format cub`).

    DATASET/                                    or below CUB_200_2011
      images.txt                                id and path: 1 001.Albatross/a.jpg
      images/001.Albatross/a.jpg                the images
      image_class_labels.txt                    id and class
      classes.txt                               class and name: 1 001.Black_footed_Albatross
      hierarchy.txt                             class and the class above it (NABirds), optional
      train_test_split.txt                      id and 1 (train) or 0 (test), optional
      attributes/attributes.txt                 attribute and name: 1 has_bill_shape::curved; or
                                                beside CUB_200_2011
      attributes/image_attribute_labels.txt     id, attribute, and 1 (present) or 0

An image's label is its class. Every attribute, true or false, may become a column (`--column all`,
or `--column has_bill_shape::curved`), which `sparc-analyze bias` compares.
"""

import posixpath
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property

import numpy as np

from sparc.common.errors import DatasetError
from sparc.extract.datasets.formats.published.lists import file_called, read_lines
from sparc.extract.datasets.formats.reader import DatasetReader
from sparc.extract.datasets.hierarchy import Edge, Hierarchy, hierarchy_of_pairs
from sparc.extract.datasets.safe_folder import SafeFolder, folder_of, split_suffix
from sparc.extract.datasets.source import ImageRecord, Source

_IMAGES = "images.txt"
_LABELS = "image_class_labels.txt"
_ATTRIBUTES = "image_attribute_labels.txt"

_SPLITS = {"1": "train", "0": "test"}
_NUMBER = re.compile(r"\d+\.(?=\D)")
"""What the names of CUB's classes begin with."""

_PRESENT, _ABSENT, _UNKNOWN = 1, 0, -1
_VALUES = {"1": _PRESENT, "0": _ABSENT}


class CubDataset(DatasetReader):
    """Images with lists of classes and attributes; see the module."""

    absence = "no images.txt with image_class_labels.txt"

    @classmethod
    def evidence(cls, folder: SafeFolder) -> str | None:
        """The list of images, beside that of their classes."""
        return _image_list(folder) or None

    @classmethod
    def advice(cls, folder: SafeFolder, file: str) -> str:
        """For the attributes, which only columns are made of, and for another format's folder."""
        name, images = posixpath.basename(file).lower(), _image_list(folder)
        if images and name == _ATTRIBUTES:
            return "--column all keeps the attributes"
        return "--format cub reads it" if images and name in (_IMAGES, _LABELS) else ""

    def splits(self) -> Collection[str]:
        """Train and test, where a list divides the images."""
        present = {*self._split_of.values()}
        return [split for split in _SPLITS.values() if split in present]

    def read(self, split: str) -> Source:
        """The images in the order of their list."""
        paths = self._words(_IMAGES)
        classes = self._words(_LABELS)
        omissions = self.account.omissions(self._file(_LABELS))
        names = self.account.names(self._images)
        below = (f"{self._base}images/", self._base, "")
        attributes = self._attributes(list(paths)) if self.columns else lambda _: {}
        records: list[ImageRecord] = []
        for image_id, path in paths.items():
            if split and self._split_of.get(image_id) != split:
                continue
            if image_id not in classes:
                omissions.add("label", "the image has none", f"image {image_id}")
            label = classes.get(image_id, "")
            records.append(
                ImageRecord(
                    image_id,
                    names.path(path, below=below),
                    labels=(label,) if label else (),
                    columns=self.columns.of(attributes(image_id), without=()),
                )
            )
        if not records:
            raise DatasetError(f"{self.folder}/{self._file(_IMAGES)} lists no image to use")
        class_names = self._words("classes.txt")
        return Source(
            records=records,
            named_in=self._file(_IMAGES),
            names={key: _plain(name) for key, name in class_names.items()},
            hierarchy=self._hierarchy(),
        )

    def is_of_other_split(self, file: str, split: str) -> bool:
        """Whether the lists put the image at the end of this path into another split."""
        return self._split_of_path.get(_last_two(file), split) != split

    @cached_property
    def _base(self) -> str:
        """The folder of the lists, empty or ending in `/`."""
        images = _image_list(self.folder)
        if not images:
            raise DatasetError(f"{self.folder} has no {_IMAGES} with {_LABELS} beside it")
        return folder_of(images)

    @cached_property
    def _images(self) -> Sequence[str]:
        """The images that are no segmentations."""
        return [i for i in self.folder.images if not i.startswith(f"{self._base}segmentations/")]

    @cached_property
    def _split_of(self) -> Mapping[str, str]:
        """The split of the images, by id."""
        words = self._words("train_test_split.txt")
        return {image_id: _SPLITS[flag] for image_id, flag in words.items() if flag in _SPLITS}

    @cached_property
    def _split_of_path(self) -> Mapping[str, str]:
        paths = self._words(_IMAGES)
        return {_last_two(paths[i]): split for i, split in self._split_of.items() if i in paths}

    def _file(self, name: str) -> str:
        return file_called(self.folder, name, below=self._base)

    def _words(self, name: str) -> Mapping[str, str]:
        """What comes after the first word of each line of a list, by that word.

        Raises:
            DatasetError: A first word occurs twice with different ones after it.
        """
        file = self._file(name)
        words: dict[str, str] = {}
        for line in read_lines(self.folder, file) if file else ():
            key, value = line.words[0], " ".join(line.words[1:])
            if not value:
                self.account.omissions(file).add("line", "it has one word", line.where)
            elif words.setdefault(key, value) != value:
                raise DatasetError(
                    f"{self.folder}/{file}, {line.where}: {key!r} occurs twice, as "
                    f"{words[key]!r} and {value!r}"
                )
        return words

    def _hierarchy(self) -> Hierarchy:
        above = self._words("hierarchy.txt")
        pairs = [Edge(parent, child) for child, parent in above.items()]
        return hierarchy_of_pairs(pairs, f"{self.folder}/{self._file('hierarchy.txt')}")

    def _attributes(self, image_ids: Sequence[str]) -> Callable[[str], Mapping[str, bool | None]]:
        """Gives an image's attributes by name: true, false, or none where its list lacks them."""
        file = file_called(self.folder, _ATTRIBUTES)
        listed = file_called(self.folder, "attributes.txt")
        if not file or not listed:
            return lambda _: {}
        names: dict[str, str] = {}
        for line in read_lines(self.folder, listed):
            names[line.words[0]] = " ".join(line.words[1:])
        row_of = {image_id: row for row, image_id in enumerate(image_ids)}
        column_of = {attribute: column for column, attribute in enumerate(names)}
        values = np.full((len(row_of), len(column_of)), _UNKNOWN, np.int8)
        omissions = self.account.omissions(file)
        for line in read_lines(self.folder, file):
            image_id, attribute, flag, *_ = *line.words, "", ""
            if image_id not in row_of or attribute not in column_of or flag not in _VALUES:
                omissions.add("attribute", "it is not image, attribute and 0 or 1", line.where)
            else:
                values[row_of[image_id], column_of[attribute]] = _VALUES[flag]
        self.columns.enter(self.account, file, (), names.values())
        meaning = {_PRESENT: True, _ABSENT: False, _UNKNOWN: None}

        def of_image(image_id: str) -> Mapping[str, bool | None]:
            flags = (meaning[value] for value in values[row_of[image_id]].tolist())
            return dict(zip(names.values(), flags, strict=True))

        return of_image


def _image_list(folder: SafeFolder) -> str:
    """The uppermost list of images that lies beside a list of their classes; empty: none."""
    labels = file_called(folder, _LABELS)
    return file_called(folder, _IMAGES, below=folder_of(labels)) if labels else ""


def _last_two(path: str) -> str:
    """The last folder of a path and its stem, by which a list and a listing are compared."""
    return "/".join(split_suffix(path)[0].split("/")[-2:])


def _plain(name: str) -> str:
    """The name of a class as people write it: `001.Black_footed_Albatross` without number."""
    return _NUMBER.sub("", name, count=1).replace("_", " ").strip() or name
