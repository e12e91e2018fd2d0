"""The layout of COCO (`--format coco`), and what other programs export under its name.

    DATASET/
      annotations/captions_<split>.json     images and captions  (also directly in DATASET)
      annotations/instances_<split>.json    objects with categories, optional
      <split>/…  or  images/<split>/…  or  images/…  or  …       the images, by `file_name`

Without files of these names, JSON documents with `images` and `annotations` are read whatever they
are called: FiftyOne's `labels.json` beside `data`, Roboflow's `<split>/_annotations.coco.json`,
Label Studio's `result.json`, CVAT's and others' `annotations/<split>.json`. Keypoints, stuff and
panoptic segments are not read. LVIS is `--format lvis`.

A sample's id is its image's id. Its labels are the categories of its objects; a category's parent
is the category whose name is its `supercategory` or, without such a category, a class of that name.
So a supercategory may itself be a category with a supercategory, to any depth. Further fields of an
image, and of the annotation that holds a caption, may become columns of the cache (`--column`).
"""

from collections.abc import Collection, Mapping
from functools import cached_property, partial

from sparc.common.errors import DatasetError
from sparc.common.text import shorten
from sparc.extract.datasets.formats.coco.categories import Categories
from sparc.extract.datasets.formats.coco.document import Captions, Document, ListedImage
from sparc.extract.datasets.formats.coco.layout import (
    LVIS,
    AnnotationFiles,
    coco_files,
    image_base,
    is_own_name,
    is_read,
    lvis_files,
    own_folders,
)
from sparc.extract.datasets.formats.coco.objects import read_labels, read_masks
from sparc.extract.datasets.formats.reader import DatasetReader
from sparc.extract.datasets.hierarchy import Hierarchy
from sparc.extract.datasets.safe_folder import SafeFolder
from sparc.extract.datasets.source import ImageRecord, Source
from sparc.extract.datasets.tables.finding import metadata_files
from sparc.extract.datasets.tables.sidecars import has_texts_beside


class CocoDataset(DatasetReader):
    """A dataset in the layout of COCO; see the module."""

    absence = "no captions_<split>.json, instances_<split>.json or export of that kind"

    @classmethod
    def annotation_files(cls, folder: SafeFolder) -> dict[str, AnnotationFiles]:
        """The annotation files of the format by split; an empty split is that of no division."""
        return coco_files(folder)

    @classmethod
    def evidence(cls, folder: SafeFolder) -> str | None:
        """An annotation file; one of another program only where images have no other captions."""
        files = cls.annotation_files(folder)
        file = next((name for of_split in files.values() for name in of_split.names), None)
        if file is None or is_own_name(file):
            return file
        return None if metadata_files(folder) or has_texts_beside(folder) else file

    @classmethod
    def advice(cls, folder: SafeFolder, file: str) -> str:
        """That this format reads a file, if it is an annotation file."""
        if not file.lower().endswith(".json") or LVIS.fullmatch(file):
            return ""
        return "--format coco reads it" if is_read(folder, file) else ""

    def is_of_other_split(self, file: str, split: str) -> bool:
        """By the annotation files, and by the folders of images."""
        ours = image_base(self._files[split])
        for other, files in self._files.items():
            base = image_base(files)
            places = own_folders(base, other) if base == ours else [base]
            if other != split and (file in files.names or file.startswith(tuple(places))):
                return True
        return False

    @cached_property
    def _files(self) -> dict[str, AnnotationFiles]:
        return self.annotation_files(self.folder)

    def splits(self) -> Collection[str]:
        """Those with an annotation file."""
        if not self._files:
            raise DatasetError(
                f"{self.folder} is not a dataset of {self.options.format}: it has {self.absence}"
            )
        return self._files if any(self._files) else ()

    def read(self, split: str) -> Source:
        """The images, in the order of the annotation files."""
        files = self._files[split]
        images: dict[str, ListedImage] = {}
        captions: Mapping[str, Captions] = {}
        labels: Mapping[str, tuple[str, ...]] = {}
        classes: Mapping[str, str] = {}
        hierarchy = Hierarchy()
        masks = None
        for name in files.names:
            with Document(self.folder, name, self.account.omissions(name)) as document:
                listed = document.images(self.columns)
                images = _united(images, listed, str(document))
                if name == files.captions:
                    captions = document.captions(images, self.columns)
                if name == files.objects:
                    categories = Categories(document)
                    classes, hierarchy = categories.names, categories.hierarchy
                    labels = read_labels(document, classes, images)
                    masks = partial(
                        read_masks, self.folder, name, classes, listed, document.omissions
                    )
                self._enter(document, name)
        paths = self._image_paths(files, split, images)
        none = Captions([], [])
        return Source(
            named_in=files.names[0],
            records=[
                ImageRecord(
                    image_id,
                    paths[image_id],
                    captions=captions.get(image_id, none).texts,
                    labels=labels.get(image_id, ()),
                    columns=image.columns,
                    caption_columns=captions.get(image_id, none).columns,
                )
                for image_id, image in images.items()
            ],
            names=classes,
            hierarchy=hierarchy,
            masks=masks,
        )

    def _enter(self, document: Document, name: str) -> None:
        """Enter in the account which keys of a document are used."""
        used, others = document.used_keys, document.other_keys
        advice = "--column NAME keeps one of images or captions"
        if "segmentation" in others and not self.options.masks:
            advice = f"--masks reads segmentation, {advice}"
        elif "segmentation" in others:
            used = {**used, "segmentation": None}
        unread = [key for key in others if key not in used]
        self.columns.enter(self.account, name, used, unread, advice)

    def _image_paths(
        self, files: AnnotationFiles, split: str, images: Mapping[str, ListedImage]
    ) -> dict[str, str]:
        """The files of images, by id; where there is none, where it should be."""
        pictures = set(self.folder.images)
        paths: dict[str, str] = {}
        for base in dict.fromkeys((image_base(files), "")):
            paths = self._paths_below(base, split, images, pictures)
            if any(path in pictures for path in paths.values()):
                break
        return paths

    def _paths_below(
        self,
        base: str,
        split: str,
        images: Mapping[str, ListedImage],
        pictures: Collection[str],
    ) -> dict[str, str]:
        """The same where images are below one folder, which ends in `/`, or is the dataset's."""
        shared = [f"{base}images/", f"{base}data/", base]
        own = [place for place in own_folders(base, split) if _holds_any(place, pictures)]
        # Files of other splits may have the same names: those of this split come first.
        below = own or [place for place in shared if _holds_any(place, pictures)] or [base]
        # Nor may a bare name mean a file in the folder of another split.
        others = (place for s in self._files if s != split for place in own_folders(base, s))
        elsewhere = tuple(others)
        names = self.account.names([p for p in pictures if not p.startswith(elsewhere)])
        paths: dict[str, str] = {}
        for image_id, image in images.items():
            name = image.file_name
            path = next((p + name for p in (*own, *shared) if p + name in pictures), None)
            path = path or names.resolve(name, [*below, *([] if own else [base])])
            # An absolute name stays as it is: reading it is refused.
            paths[image_id] = path or (name if name.startswith("/") else f"{below[0]}{name}")
        return paths


class LvisDataset(CocoDataset):
    """LVIS (`--format lvis`): `lvis_v1_<split>.json`, anywhere, with the images of COCO.

    Its objects are labels and masks, as in COCO's own files. An image is named by its `coco_url`
    (`train2017/…jpg`). Its categories are synsets of WordNet without a tree.
    """

    absence = "no lvis_v1_<split>.json"
    yields_to = ("coco", "karpathy")

    @classmethod
    def annotation_files(cls, folder: SafeFolder) -> dict[str, AnnotationFiles]:
        """The files of LVIS."""
        return lvis_files(folder)

    @classmethod
    def advice(cls, folder: SafeFolder, file: str) -> str:  # noqa: ARG003
        """That this format reads a file, by its name."""
        return "--format lvis reads it" if LVIS.fullmatch(file) else ""


def _holds_any(place: str, pictures: Collection[str]) -> bool:
    return any(picture.startswith(place) for picture in pictures)


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
