"""The layout of COCO (`--format coco`).

    DATASET/
      annotations/captions_<split>.json     images and captions  (also directly in DATASET)
      annotations/instances_<split>.json    objects with categories, optional
      <split>/…  or  images/<split>/…  or  images/…  or  …       the images, by `file_name`

A sample's id is its image's id. Its labels are the categories of its objects; a category's parent
is the category whose name is its `supercategory` or, without such a category, a class of that name.
So a supercategory may itself be a category with a supercategory, to any depth. Further fields of an
image, and of the annotation that holds a caption, may become columns of the cache (`--column`).
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, NamedTuple

from sparc.common.errors import DatasetError
from sparc.common.progress import say
from sparc.common.text import amount, shorten
from sparc.extract.datasets.account import Omissions
from sparc.extract.datasets.formats.reader import DatasetReader
from sparc.extract.datasets.hierarchy import Edge, Hierarchy, build_hierarchy
from sparc.extract.datasets.masks import read_segmentation
from sparc.extract.datasets.metadata import read_json
from sparc.extract.datasets.safe_folder import SafeFolder
from sparc.extract.datasets.source import ImageRecord, ObjectMask, Source

_ANNOTATIONS = re.compile(r"(?:annotations/)?(captions|instances)_([^/]+)\.json")


def annotation_files(files: Iterable[str]) -> dict[str, dict[str, str]]:
    """The annotation files of a dataset: by split, then by kind (`captions`, `instances`)."""
    by_split: dict[str, dict[str, str]] = defaultdict(dict)
    for name in files:
        if match := _ANNOTATIONS.fullmatch(name):
            by_split[match[2]].setdefault(match[1], name)
    return dict(by_split)


class CocoDataset(DatasetReader):
    """A dataset in the layout of COCO; see the module."""

    absence = "no captions_<split>.json or instances_<split>.json"

    @classmethod
    def evidence(cls, folder: SafeFolder) -> str | None:
        """An annotation file."""
        return next(filter(_ANNOTATIONS.fullmatch, folder.files), None)

    def splits(self) -> Collection[str]:
        """Those with an annotation file."""
        splits = annotation_files(self.folder.files)
        if not splits:
            raise DatasetError(
                f"{self.folder} has neither annotations/captions_<split>.json nor "
                "annotations/instances_<split>.json, so it is not in the layout of COCO"
            )
        return splits

    def read(self, split: str) -> Source:
        """The images, in the order of the annotation file."""
        names = annotation_files(self.folder.files)[split]
        documents = [
            _Document(self.folder, names[kind], self.account.omissions(names[kind]))
            for kind in ("captions", "instances")
            if kind in names
        ]
        images: dict[str, dict[str, Any]] = {}
        for document in documents:
            for image_id, image in document.images().items():
                images.setdefault(image_id, image)
        annotations = self._annotations(documents[0], images) if "captions" in names else {}
        instances = documents[-1] if "instances" in names else None
        categories = _Categories(instances) if instances else None
        objects = _objects(instances, categories, images) if instances and categories else {}
        where = names.get("captions", names.get("instances", ""))
        paths = self._image_paths(split, images)
        return Source(
            named_in=where,
            records=[
                ImageRecord(
                    image_id,
                    paths[image_id],
                    captions=[a["caption"] for a in annotations.get(image_id, ())],
                    labels=tuple(dict.fromkeys(o.label for o in objects.get(image_id, ()))),
                    columns=self.columns.of(image, without=("id", "file_name")),
                    caption_columns=[
                        self.columns.of(a, without=("id", "image_id", "caption"))
                        for a in annotations.get(image_id, ())
                    ],
                )
                for image_id, image in images.items()
            ],
            names=categories.names if categories else {},
            hierarchy=categories.hierarchy if categories else Hierarchy(),
            masks=(lambda wanted: _masks(objects, images, wanted, str(instances)))
            if instances
            else None,
        )

    def _annotations(
        self, document: "_Document", images: Mapping[str, Any]
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """The annotations that hold captions, by image."""
        annotations: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for image_id, where, annotation in document.annotations("caption", images):
            caption = annotation.get("caption")
            if isinstance(caption, str) and caption.strip():
                annotations[image_id].append(annotation)
            else:
                document.omissions.add("caption", "it is no text", where)
        document.require_some(annotations, "caption")
        return annotations

    def _image_paths(self, split: str, images: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        files = set(self.folder.files)
        places = (f"{split}/", f"images/{split}/", "images/", "")
        used = next((p for p in places if p and any(f.startswith(p) for f in files)), "")
        paths: dict[str, str] = {}
        for image_id, image in images.items():
            name = image["file_name"]
            path = next((p + name for p in places if p + name in files), None)
            if path is None:
                # An absolute name stays as it is: reading it is refused.
                path = name if name.startswith("/") else used + name
            paths[image_id] = path
        return paths


class _Document:
    """One annotation file.

    Args:
        folder: The dataset.
        name: The file.
        omissions: Where the entries that are left out are counted.
    """

    def __init__(self, folder: SafeFolder, name: str, omissions: Omissions) -> None:
        self._where = f"{folder}/{name}"
        self.omissions = omissions
        self._document = read_json(folder.path(name), self._where)
        if not isinstance(self._document, dict):
            raise DatasetError(f"{self} is not a JSON object")

    def __str__(self) -> str:
        return self._where

    def entries(self, key: str, what: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The objects of a list, each with its position for messages.

        Args:
            key: Of the list.
            what: What its entries are called; those that are no objects are left out.
        """
        values = self._document.get(key)
        if not isinstance(values, list):
            raise DatasetError(f"{self} has no list {key!r}")
        for position, value in enumerate(values):
            where = f"{key}[{position}]"
            if isinstance(value, dict):
                yield where, value
            else:
                self.omissions.add(what, "it is not an object", where)

    def images(self) -> Mapping[str, dict[str, Any]]:
        """The images by id.

        Raises:
            DatasetError: One id has two different images, or no entry is one.
        """
        images: dict[str, dict[str, Any]] = {}
        for where, image in self.entries("images", "image"):
            image_id, name = _identifier(image.get("id")), image.get("file_name")
            if image_id is None:
                self.omissions.add("image", "it has no id", where)
            elif not isinstance(name, str) or not name:
                self.omissions.add("image", "it has no file_name", where)
            elif images.setdefault(image_id, image) != image:
                raise DatasetError(
                    f"{self}, {where}: id {shorten(image_id, 80)} occurs twice, with file_name "
                    f"{shorten(repr(images[image_id]['file_name']), 80)} and "
                    f"{shorten(repr(name), 80)}"
                )
        if not images:
            first = f" that can be used: {self.omissions.first}" if self.omissions.first else ""
            raise DatasetError(f"{self} has no images{first}")
        return images

    def annotations(
        self, what: str, images: Mapping[str, Any]
    ) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """The annotations of images that are listed: the image's id, the place, the annotation.

        Args:
            what: What an annotation is called.
            images: The images, by id.

        Raises:
            DatasetError: There are annotations, and none belongs to an image.
        """
        used = 0
        strange = ""
        for where, annotation in self.entries("annotations", what):
            image_id = _identifier(annotation.get("image_id"))
            if image_id is None:
                self.omissions.add(what, "it has no image_id", where)
            elif image_id not in images:
                strange = strange or image_id
                self.omissions.add(what, "its image is not listed", where)
            else:
                used += 1
                yield image_id, where, annotation
        if strange and not used:
            raise DatasetError(
                f"{self}: none of the annotations belongs to an image that is listed: image_id is "
                f"{shorten(strange, 40)}, ids are such as {shorten(next(iter(images)), 40)}"
            )

    def require_some(self, entries: Sized, what: str) -> None:
        """Refuse a file whose every entry was left out.

        Args:
            entries: Those that were not.
            what: What they are called.

        Raises:
            DatasetError: There were some, and none can be used.
        """
        if not entries and self.omissions.first:
            raise DatasetError(f"{self}: no {what} can be used: {self.omissions.first}")


class _Categories:
    """The categories of a document and the tree of their supercategories.

    Attributes:
        names: By key; the key of a category is its id.
        hierarchy: Categories, and supercategories that are not categories themselves.
    """

    def __init__(self, document: _Document) -> None:
        self.names: dict[str, str] = {}
        by_name: dict[str, str] = {}
        above: dict[str, str] = {}
        for where, category in document.entries("categories", "category"):
            key = _identifier(category.get("id"))
            name, parent = category.get("name"), category.get("supercategory") or ""
            if key is None or not isinstance(name, str) or not isinstance(parent, str):
                document.omissions.add(
                    "category", "it has no id or name, or a supercategory that is not text", where
                )
                continue
            if (self.names.get(key, name), above.get(key, parent)) != (name, parent):
                raise DatasetError(
                    f"{document}, {where}: id {shorten(key, 80)} occurs twice, as "
                    f"{shorten(repr(self.names[key]), 80)} and {shorten(repr(name), 80)}"
                )
            self.names[key] = name
            by_name.setdefault(name, key)
            above[key] = parent
        edges: list[Edge] = []
        for key, parent_name in list(above.items()):
            parent = by_name.get(parent_name)
            # COCO's person has the supercategory person, which becomes another class.
            if parent_name and (parent is None or parent == key):
                parent = f"supercategory/{parent_name}"
                self.names[parent] = parent_name
                edges.append(Edge(None, parent))
            edges.append(Edge(parent if parent_name else None, key))
        self.hierarchy = build_hierarchy(edges, str(document))


class _Object(NamedTuple):
    """An object in an image: the key of its category, and where it is."""

    label: str
    segmentation: Any


def _objects(
    document: _Document, categories: _Categories, images: Mapping[str, Any]
) -> dict[str, list[_Object]]:
    objects: dict[str, list[_Object]] = defaultdict(list)
    for image_id, where, annotation in document.annotations("object", images):
        label = _identifier(annotation.get("category_id"))
        if label is None:
            document.omissions.add("object", "it has no category_id", where)
        elif label not in categories.names:
            document.omissions.add("object", "its category is not listed", where)
        else:
            objects[image_id].append(_Object(label, annotation.get("segmentation")))
    document.require_some(objects, "object")
    return objects


def _identifier(value: Any) -> str | None:
    """An id as text; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        return None
    return str(value)


def _masks(
    objects: Mapping[str, Sequence[_Object]],
    images: Mapping[str, Mapping[str, Any]],
    wanted: frozenset[str],
    where: str,
) -> Iterator[ObjectMask]:
    unreadable = 0
    for image_id, image in images.items():
        if image_id not in wanted:
            continue
        for label, segmentation in objects.get(image_id, ()):
            if not segmentation:
                continue  # an object with nothing but a box
            try:
                mask = read_segmentation(segmentation, image.get("height"), image.get("width"))
            except (ValueError, TypeError, OverflowError):
                unreadable += 1
                continue
            yield ObjectMask(image_id, label, *mask)
    if unreadable:
        say(f"{where}: {amount(unreadable, 'object')} with an unreadable segmentation left out")
