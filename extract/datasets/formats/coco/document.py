"""One annotation file: its images, its captions, and the entries of its other lists.

Entries are read one at a time, so that a file of gigabytes takes the memory of what is kept of it.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sized
from types import MappingProxyType
from typing import Any, NamedTuple, TypeGuard

from sparc.common.errors import DatasetError
from sparc.common.text import shorten
from sparc.extract.datasets.account import Omissions
from sparc.extract.datasets.columns import RecordColumns
from sparc.extract.datasets.json_lists import JsonLists
from sparc.extract.datasets.safe_folder import SafeFolder
from sparc.extract.datasets.tables.cells import identifier

_NO_COLUMNS: Mapping[str, Any] = MappingProxyType({})
"""Those of every entry where none are wanted: a million empty ones would take memory."""


_ENTRIES_WITH_ALL_KEYS = 100
"""Entries of a list that have every key that entries of it have."""

IMAGE_NAMES = ("file_name", "filename", "path", "coco_url")
"""The keys that name an image's file, the first of them that is there. The last is that of LVIS, a
URL that ends in the split's folder and the name."""


class ListedImage(NamedTuple):
    """An image as an annotation file lists it.

    Attributes:
        file_name: What the file calls it.
        height: In pixels, unchecked.
        width: The same.
        columns: The fields that become columns of the cache.
    """

    file_name: str
    height: Any
    width: Any
    columns: Mapping[str, Any]


class Captions(NamedTuple):
    """The captions of an image.

    Attributes:
        texts: Unchanged.
        columns: The fields of the annotation of each that become columns of the cache; empty where
            none are wanted.
    """

    texts: list[str]
    columns: list[Mapping[str, Any]]


class Document:
    """An annotation file, open. A context manager, as `JsonLists` is.

    Args:
        folder: The dataset.
        name: The file in it.
        omissions: Where the entries that are left out are counted.

    Attributes:
        used_keys: Keys of its entries that are used.
        other_keys: All other keys of its entries, and some of these.

    Raises:
        DatasetError: It cannot be read, or is not a JSON object.
    """

    def __init__(self, folder: SafeFolder, name: str, omissions: Omissions) -> None:
        self._where = f"{folder}/{name}"
        self.omissions = omissions
        self.used_keys: dict[str, None] = {}
        self.other_keys: dict[str, None] = {}
        self._lists = JsonLists(folder.path(name), self._where, self.omissions)

    def __str__(self) -> str:
        return self._where

    def __enter__(self) -> "Document":
        self._lists.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._lists.__exit__(*error)

    def entries(
        self, key: str, what: str, *, flat: bool = False
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """The objects of a list, each with its position.

        Args:
            key: Of the list.
            what: What its entries are called; those that are no objects are left out.
            flat: As `JsonLists.flat_entries`: what is nested in an entry is not needed.
        """
        read = self._lists.flat_entries if flat else self._lists.entries
        for position, value in read(key, what):
            if isinstance(value, dict):
                yield position, value
            else:
                self.omissions.add(what, "it is not an object", f"{key}[{position}]")

    def images(self, columns: RecordColumns) -> dict[str, ListedImage]:
        """The images by id, in the order of the file.

        Args:
            columns: Which fields become columns.

        Raises:
            DatasetError: One id has two different images, or no entry is one.
        """
        images: dict[str, ListedImage] = {}
        for position, entry in self.entries("images", "image"):
            where = f"images[{position}]"
            key = next((key for key in IMAGE_NAMES if _is_text(entry.get(key))), "")
            image_id, name = identifier(entry.get("id")), _file_name(entry, key)
            self._note_keys(position, entry, ("id", key) if key else ("id",))
            if not image_id:
                self.omissions.add("image", "it has no id", where)
                continue
            if not name:
                self.omissions.add("image", "it has no file_name", where)
                continue
            image = ListedImage(
                name,
                entry.get("height"),
                entry.get("width"),
                columns.of(entry, without=("id", key)) if columns else _NO_COLUMNS,
            )
            if (earlier := images.setdefault(image_id, image)) != image:
                raise DatasetError(
                    f"{self}, {where}: id {shorten(image_id, 80)} occurs twice, with "
                    f"{_difference(earlier, image)}"
                )
        if not images:
            first = f" that can be used: {self.omissions.first}" if self.omissions.first else ""
            raise DatasetError(f"{self} has no images{first}")
        return images

    def annotations(
        self, what: str, images: Collection[str], *, flat: bool = False
    ) -> Iterator[tuple[str, int, dict[str, Any]]]:
        """The annotations of images that are listed: the image's id, the position, the annotation.

        Args:
            what: What an annotation is called.
            images: The ids of the images.
            flat: As for `entries`.

        Raises:
            DatasetError: There are annotations, and none belongs to an image.
        """
        used = 0
        strange = ""
        for position, annotation in self.entries("annotations", what, flat=flat):
            image_id = identifier(annotation.get("image_id"))
            if not image_id:
                self.omissions.add(what, "it has no image_id", f"annotations[{position}]")
            elif image_id not in images:
                strange = strange or image_id
                self.omissions.add(what, "its image is not listed", f"annotations[{position}]")
            else:
                used += 1
                yield image_id, position, annotation
        if strange and not used:
            raise DatasetError(
                f"{self}: none of the annotations belongs to an image that is listed: image_id is "
                f"{shorten(strange, 40)}, ids are such as {shorten(next(iter(images)), 40)}"
            )

    def captions(self, images: Collection[str], columns: RecordColumns) -> dict[str, Captions]:
        """The captions of images that are listed, by the image's id.

        Args:
            images: The ids of the images.
            columns: Which fields of an annotation become columns.

        Raises:
            DatasetError: There are annotations, and none is the caption of an image.
        """
        captions: dict[str, Captions] = {}
        for image_id, position, annotation in self.annotations("caption", images):
            if "caption" not in annotation and "category_id" in annotation:
                continue  # an object, in a file that holds both
            self._note_keys(position, annotation, ("image_id", "caption"))
            caption = annotation.get("caption")
            several = caption if isinstance(caption, list) else [caption]
            texts = list(filter(_is_text, several))
            if not texts:
                self.omissions.add("caption", "it is no text", f"annotations[{position}]")
                continue
            of_image = captions.setdefault(image_id, Captions([], []))
            of_image.texts.extend(texts)
            if columns:
                fields = columns.of(annotation, without=("id", "image_id", "caption"))
                of_image.columns.extend([fields] * len(texts))
        self.require_some(captions, "caption")
        return captions

    def objects(
        self, categories: Collection[str], images: Collection[str]
    ) -> Iterator[tuple[str, str]]:
        """The image and the category of each object, without its outline.

        Args:
            categories: The ids of the categories that are listed.
            images: The ids of the images.

        Raises:
            DatasetError: There are annotations, and none belongs to an image.
        """
        for image_id, position, annotation in self.annotations("object", images, flat=True):
            if "category_id" not in annotation and "caption" in annotation:
                continue  # a caption, in a file that holds both
            self._note_keys(position, annotation, ("image_id", "category_id"))
            label = identifier(annotation.get("category_id"))
            if not label:
                why = "it has no category_id"
            elif label not in categories:
                why = "its category is not listed"
            else:
                yield image_id, label
                continue
            self.omissions.add("object", why, f"annotations[{position}]")

    def _note_keys(self, position: int, entry: Mapping[str, Any], used: Iterable[str]) -> None:
        """Note the keys of the first entries of a list, for the account."""
        if position < _ENTRIES_WITH_ALL_KEYS:
            self.used_keys.update(dict.fromkeys(used))
            self.other_keys.update(dict.fromkeys(entry))

    def require_some(self, entries: Sized, what: str) -> None:
        """Refuse a file whose every entry was left out.

        Args:
            entries: Those that were not.
            what: What they are called.

        Raises:
            DatasetError: There were some, and none can be used.
        """
        if not entries and self.omissions.first:
            raise DatasetError(
                f"{self}: no {what} can be used: {self.omissions.first}; correct the file, or take "
                "it out of the folder"
            )


def _is_text(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and bool(value.strip())


def _file_name(entry: Mapping[str, Any], key: str) -> str:
    """What an image is called by one of `IMAGE_NAMES`; empty where the key is."""
    if not key:
        return ""
    name: str = entry[key]
    return name if key != IMAGE_NAMES[-1] else "/".join(name.split("/")[-2:])


def _difference(one: ListedImage, other: ListedImage) -> str:
    """In what two entries of the same id differ."""
    pairs = zip(one._fields, one, other, strict=True)
    name, first, second = next(pair for pair in pairs if pair[1] != pair[2])
    return f"{name} {shorten(repr(first), 80)} and {shorten(repr(second), 80)}"
