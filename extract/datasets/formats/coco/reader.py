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
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial

from sparc.common.errors import DatasetError
from sparc.common.text import shorten
from sparc.extract.datasets.formats.coco.categories import Categories
from sparc.extract.datasets.formats.coco.document import Caption, Document, ListedImage
from sparc.extract.datasets.formats.coco.objects import read_labels, read_masks
from sparc.extract.datasets.formats.reader import DatasetReader
from sparc.extract.datasets.hierarchy import Hierarchy
from sparc.extract.datasets.safe_folder import SafeFolder
from sparc.extract.datasets.source import ImageRecord, Source

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
        """The images, in the order of the annotation files."""
        names = annotation_files(self.folder.files)[split]
        images: dict[str, ListedImage] = {}
        captions: Mapping[str, Sequence[Caption]] = {}
        labels: Mapping[str, tuple[str, ...]] = {}
        classes: Mapping[str, str] = {}
        hierarchy = Hierarchy()
        masks = None
        if "captions" in names:
            with self._open(names["captions"]) as document:
                images = document.images(self.columns)
                captions = document.captions(images, self.columns)
        if "instances" in names:
            with self._open(names["instances"]) as document:
                outlined = document.images(self.columns)
                images = _united(images, outlined, str(document))
                categories = Categories(document)
                classes, hierarchy = categories.names, categories.hierarchy
                labels = read_labels(document, classes, images)
                masks = partial(
                    read_masks,
                    self.folder,
                    names["instances"],
                    classes,
                    outlined,
                    document.omissions,
                )
        paths = self._image_paths(split, images)
        return Source(
            named_in=next(iter(names.values())),
            records=[
                ImageRecord(
                    image_id,
                    paths[image_id],
                    captions=[caption.text for caption in captions.get(image_id, ())],
                    labels=labels.get(image_id, ()),
                    columns=image.columns,
                    caption_columns=[c.columns for c in captions.get(image_id, ())]
                    if self.columns
                    else (),
                )
                for image_id, image in images.items()
            ],
            names=classes,
            hierarchy=hierarchy,
            masks=masks,
        )

    def _open(self, name: str) -> Document:
        return Document(self.folder, name, self.account.omissions(name))

    def _image_paths(self, split: str, images: Mapping[str, ListedImage]) -> dict[str, str]:
        files = set(self.folder.files)
        places = (f"{split}/", f"images/{split}/", "images/", "")
        used = next((p for p in places if p and any(f.startswith(p) for f in files)), "")
        paths: dict[str, str] = {}
        for image_id, image in images.items():
            name = image.file_name
            path = next((p + name for p in places if p + name in files), None)
            if path is None:
                # An absolute name stays as it is: reading it is refused.
                path = name if name.startswith("/") else used + name
            paths[image_id] = path
        return paths


def _united(
    images: Mapping[str, ListedImage], further: Mapping[str, ListedImage], where: str
) -> dict[str, ListedImage]:
    """The images of two annotation files: those of the first, then those of the second alone.

    Args:
        images: Of the first, by id.
        further: Of the second.
        where: The second, for messages.

    Raises:
        DatasetError: They call different files by one id.
    """
    for image_id, image in further.items():
        earlier = images.get(image_id, image)
        if earlier.file_name != image.file_name:
            raise DatasetError(
                f"{where}: image {shorten(image_id, 80)} is {shorten(repr(image.file_name), 80)}, "
                f"in the file of the captions it is {shorten(repr(earlier.file_name), 80)}"
            )
    return {**images, **{k: image for k, image in further.items() if k not in images}}
