"""Pascal VOC, and what other programs export under its name (`--format voc`).

    DATASET/                             or below VOCdevkit/VOC2012, several years too
      Annotations/000001.xml             the objects of an image: <object><name>cat</name>…
      JPEGImages/000001.jpg              the images; or images/, or beside the annotations
      ImageSets/Main/train.txt           a split: an id a line
      ImageSets/Main/cat_train.txt       a class: an id and 1, 0 (difficult) or -1 (absent) a line
      SegmentationObject/000001.png      the objects' numbers by pixel, in the order of the .xml
      SegmentationClass/000001.png       the numbers of VOC's 20 classes by pixel

Labels are the names of an image's objects, difficult ones too, or, where it has no .xml, the
classes whose list does not say -1. Without ImageSets, first folders named like splits are splits,
and an image without .xml is a row without labels. With `--masks` an object has the pixels of its
number in SegmentationObject, or else a class those of its number in SegmentationClass. Boxes are
not masks: they are not kept.
"""

import posixpath
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from sparc.common import rle
from sparc.common.errors import DatasetError, MissingFileError
from sparc.common.images.decoding import ImageError, decode_numbers
from sparc.extract.datasets.formats.published.lists import read_lines
from sparc.extract.datasets.formats.published.safe_xml import parse_xml
from sparc.extract.datasets.formats.reader import DatasetReader
from sparc.extract.datasets.safe_folder import LARGEST_TEXT, SafeFolder, folder_of, split_suffix
from sparc.extract.datasets.source import ImageRecord, ObjectMask, Source
from sparc.extract.datasets.splits import split_folders
from sparc.extract.datasets.tables.finding import metadata_files

_HOLDS_ANNOTATIONS = ("annotations", "annotation", "xmls", "xml", "labels")
_MASKS = ("SegmentationObject", "SegmentationClass")
_HOLDS_MASKS = ("segmentationclass", "segmentationobject", "segmentations", "trimaps", "masks")
_IS_ANNOTATION = re.compile(rb"<annotation[\s>]")
_IMAGE_SET = re.compile(r"(?P<base>(?:.*/)?)ImageSets/(?P<kind>[^/]+)/(?P<name>[^/]+)\.txt")
_KINDS = ("Main", "Segmentation", "Layout")
"""Whose lists are the splits: those of the first kind that is there."""

_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
"""The classes of VOC, in the order of their numbers from 1."""


class _Key(NamedTuple):
    """What an annotation and its image have in common.

    Attributes:
        base: The folder that holds both, empty or ending in `/`.
        stem: The name of their files without suffix.
    """

    base: str
    stem: str


class _Annotation(NamedTuple):
    """An .xml file: the image's file name that it gives, and the names of the objects."""

    file_name: str
    objects: Sequence[str]


class VocDataset(DatasetReader):
    """A dataset in the layout of Pascal VOC; see the module."""

    absence = "no Annotations/*.xml of VOC"
    yields_to = ("coco",)

    @classmethod
    def evidence(cls, folder: SafeFolder) -> str | None:
        """An .xml file that annotates an image, unless the folder has other metadata."""
        if metadata_files(folder):
            return None
        file = next(iter(_annotation_files(folder).values()), None)
        return file if file and _IS_ANNOTATION.search(folder.head(file, 4096)) else None

    @classmethod
    def advice(cls, folder: SafeFolder, file: str) -> str:
        """For the .xml files of another format's folder, and masks."""
        if file.endswith(".xml") and _IS_ANNOTATION.search(folder.head(file, 4096)):
            return "--format voc reads the objects' names"
        if _holder(file) in _MASKS and _annotation_files(folder):
            return "--masks reads them"
        return ""

    def splits(self) -> Collection[str]:
        """The lists in ImageSets, or first folders that are named like splits."""
        return self._lists or split_folders(self._images)

    def read(self, split: str) -> Source:
        """The images of the split's list in its order, or of all annotations, then the others."""
        keys = self._keys_of_list(split) if self._lists else self._keys_below(split)
        of_lists = self._classes_of_lists(split)
        names = self.account.names(self._images)
        ids = self._ids
        records: list[ImageRecord] = []
        shown: set[str] = set()
        annotations: dict[str, tuple[_Key, _Annotation]] = {}
        for key in keys:
            annotation = self._annotation(key)
            path = self._image_of(key)
            if path in shown and annotation is None:
                continue  # an annotation of another name has it
            if path is None:
                name = annotation.file_name if annotation else ""
                path = names.path(name or f"{key.base}JPEGImages/{key.stem}.jpg")
            labels = annotation.objects if annotation else of_lists.get(key, ())
            record = ImageRecord(
                ids.get(path, key.stem), path, labels=tuple(dict.fromkeys(filter(None, labels)))
            )
            records.append(record)
            shown.add(path)
            if annotation:
                annotations[record.sample_id] = key, annotation
        if not records:
            raise DatasetError(f"{self.folder} has no annotations of VOC and no images")
        return Source(
            records=records,
            named_in="the lists of ImageSets" if self._lists else "the annotations",
            masks=(lambda wanted: self._masks(annotations, wanted)) if self._has_masks else None,
        )

    def is_of_other_split(self, file: str, split: str) -> bool:
        """Whether another split's list has the file's image, or its first folder is one."""
        if not self._lists:
            return super().is_of_other_split(file, split)
        match = _IMAGE_SET.fullmatch(file)
        stem = match["name"].rpartition("_")[2] if match else split_suffix(_base_name(file))[0]
        if match:
            return stem != split and stem in self._lists
        return stem in self._listed and stem not in {key.stem for key in self._keys_of_list(split)}

    @cached_property
    def _images(self) -> list[str]:
        """The images that are no masks."""
        return [i for i in self.folder.images if _holder(i).lower() not in _HOLDS_MASKS]

    @cached_property
    def _ids(self) -> Mapping[str, str]:
        """The ids of the images: names without suffix, or paths where several have one name."""
        stems = {image: split_suffix(_base_name(image))[0] for image in self._images}
        if len(set(stems.values())) == len(stems):
            return stems
        return {image: split_suffix(image)[0] for image in self._images}

    @cached_property
    def _by_stem(self) -> Mapping[str, Sequence[str]]:
        by_stem: dict[str, list[str]] = defaultdict(list)
        for image in self._images:
            by_stem[split_suffix(_base_name(image))[0]].append(image)
        return by_stem

    @cached_property
    def _annotation_files(self) -> Mapping[_Key, str]:
        return _annotation_files(self.folder)

    @cached_property
    def _lists(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """The lists of the splits: base and file, by split."""
        matches = [m for file in self.folder.files if (m := _IMAGE_SET.fullmatch(file))]
        kinds = {match["kind"] for match in matches}
        kind = next((kind for kind in _KINDS if kind in kinds), None)
        names = {match["name"] for match in matches if match["kind"] == kind}
        lists: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for match in matches:
            # cat_train.txt lists a class where there is a train.txt.
            if match["kind"] == kind and match["name"].rpartition("_")[2] not in names - {
                match["name"]
            }:
                lists[match["name"]].append((match["base"], match[0]))
        return lists

    @cached_property
    def _listed(self) -> frozenset[str]:
        """The ids of all lists."""
        return frozenset(key.stem for split in self._lists for key in self._keys_of_list(split))

    def _keys_of_list(self, split: str) -> Sequence[_Key]:
        if split not in self._keys:
            keys = (
                _Key(base, words[0])
                for base, file in self._lists[split]
                for _, words in read_lines(self.folder, file)
            )
            self._keys[split] = list(dict.fromkeys(keys))
        return self._keys[split]

    @cached_property
    def _keys(self) -> dict[str, Sequence[_Key]]:
        return {}

    def _keys_below(self, split: str) -> Sequence[_Key]:
        """Those of annotations, then of images without one, of a split's folder or of all."""
        prefix = f"{split}/" if split else ""
        keys = sorted(k for k, file in self._annotation_files.items() if file.startswith(prefix))
        shown = {self._image_of(key) for key in keys}
        for image in self._images:
            if image not in shown and image.startswith(prefix):
                stem = split_suffix(_base_name(image))[0]
                keys.append(_Key(folder_of(image), stem))
        return keys

    def _image_of(self, key: _Key) -> str | None:
        """The only image of that name in the folder that holds the annotation's."""
        fits = [i for i in self._by_stem.get(key.stem, ()) if i.startswith(key.base)]
        beside = [i for i in fits if posixpath.dirname(i) == key.base.rstrip("/")]
        fits = beside or fits
        return fits[0] if len(fits) == 1 else None

    def _annotation(self, key: _Key) -> _Annotation | None:
        file = self._annotation_files.get(key)
        if file is None:
            return None
        try:
            root = parse_xml(self.folder.read(file, largest=LARGEST_TEXT))
        except (ValueError, DatasetError) as error:
            self.account.omissions(file).add("annotation", str(error), key.stem)
            return None
        self.account.uses(file, used=("object/name",), unused=("object/bndbox",))
        if root.tag != "annotation":
            self.account.omissions(file).add("annotation", "it is no <annotation>", key.stem)
            return None
        names = [(entry.findtext("name") or "").strip() for entry in root.iterfind("object")]
        for position, name in enumerate(names, start=1):
            if not name:
                self.account.omissions(file).add("object", "it has no name", f"object {position}")
        return _Annotation((root.findtext("filename") or "").strip(), names)

    def _classes_of_lists(self, split: str) -> Mapping[_Key, Sequence[str]]:
        """The classes of the images without annotation, by the lists of the classes."""
        classes: dict[_Key, list[str]] = defaultdict(list)
        for file in self.folder.files if self._lists else ():
            match = _IMAGE_SET.fullmatch(file)
            if match is None or not match["name"].endswith(f"_{split}") or match["name"] == split:
                continue
            name = match["name"].removesuffix(f"_{split}")
            for _, words in read_lines(self.folder, file):
                if len(words) > 1 and words[1] != "-1":
                    classes[_Key(match["base"], words[0])].append(name)
        return classes

    @property
    def _has_masks(self) -> bool:
        return any(_holder(image) in _MASKS for image in self.folder.images)

    def _masks(
        self, annotations: Mapping[str, tuple[_Key, _Annotation]], wanted: Collection[str]
    ) -> Iterator[ObjectMask]:
        """The objects of images that have a segmentation."""
        for sample_id, (key, annotation) in annotations.items():
            if sample_id not in wanted:
                continue
            by_number = dict(enumerate(annotation.objects, start=1))
            of_objects, of_classes = (f"{key.base}{kind}/{key.stem}.png" for kind in _MASKS)
            file = of_objects
            if file not in self._files:
                file = of_classes
                numbers = {name: number for number, name in enumerate(_CLASSES, start=1)}
                by_number = {numbers[n]: n for n in annotation.objects if n in numbers}
            if file in self._files:
                yield from self._masks_of(file, sample_id, by_number)

    def _masks_of(
        self, file: str, sample_id: str, labels: Mapping[int, str]
    ) -> Iterable[ObjectMask]:
        omissions = self.account.omissions(file)
        try:
            numbers = decode_numbers(self.folder.read(file))
        except (ImageError, MissingFileError) as error:
            omissions.add("mask", str(error), sample_id)
            return
        height, width = numbers.shape
        for number in np.unique(numbers).tolist():
            if number in (0, 255):  # background; the border between objects
                continue
            if not labels.get(number):
                omissions.add("mask", "its number is that of no object", f"number {number}")
                continue
            pixels = np.flatnonzero(number == numbers.T)
            counts = rle.encode_pixels(pixels, height * width)
            yield ObjectMask(sample_id, labels[number], height, width, counts)

    @cached_property
    def _files(self) -> frozenset[str]:
        return frozenset(self.folder.files)


def _annotation_files(folder: SafeFolder) -> dict[_Key, str]:
    """The .xml files in a folder for annotations or beside an image of their name."""
    files = [file for file in folder.files if file.endswith(".xml")]
    images = {split_suffix(image)[0] for image in folder.images} if files else set()
    by_key: dict[_Key, str] = {}
    for file in files:
        stem = split_suffix(file)[0]
        below = posixpath.dirname(file)
        if _holder(file).lower() not in _HOLDS_ANNOTATIONS and stem not in images:
            continue
        while _base_name(below).lower() in _HOLDS_ANNOTATIONS:
            below = posixpath.dirname(below)
        by_key.setdefault(_Key(f"{below}/".lstrip("/"), _base_name(stem)), file)
    return by_key


def _base_name(file: str) -> str:
    return posixpath.basename(file)


def _holder(file: str) -> str:
    """The name of the folder that holds a file."""
    return posixpath.basename(posixpath.dirname(file))
