"""The objects of an annotation file: the classes of images, and where their objects are."""

import sys
from collections.abc import Collection, Iterator, Mapping

from sparc.extract.datasets.account import Omissions
from sparc.extract.datasets.formats.coco.document import Document, ListedImage
from sparc.extract.datasets.masks import read_segmentation
from sparc.extract.datasets.safe_folder import SafeFolder
from sparc.extract.datasets.source import ObjectMask
from sparc.extract.datasets.tables.cells import identifier


def read_labels(
    document: Document, categories: Collection[str], images: Collection[str]
) -> dict[str, tuple[str, ...]]:
    """The categories that images have objects of, by the image's id.

    Args:
        document: Its list `annotations` is read, without the outlines of objects.
        categories: The keys of its categories.
        images: The ids of its images.

    Raises:
        DatasetError: There are annotations, and none is an object of an image.
    """
    labels: dict[str, dict[str, None]] = {}
    for image_id, label in document.objects(categories, images):
        labels.setdefault(image_id, {})[sys.intern(label)] = None
    document.require_some(labels, "object")
    return {image_id: tuple(of_image) for image_id, of_image in labels.items()}


def read_masks(
    folder: SafeFolder,
    name: str,
    categories: Collection[str],
    images: Mapping[str, ListedImage],
    omissions: Omissions,
    wanted: Collection[str],
) -> Iterator[ObjectMask]:
    """The objects with an outline, in the order of an annotation file.

    The file is read a second time, since most extractions need no outlines.

    Args:
        folder: The dataset.
        name: The file in it.
        categories: The keys of its categories.
        images: Its images, by id.
        omissions: Where the objects whose outline cannot be read are counted.
        wanted: The ids of the images whose objects are wanted.
    """
    with Document(folder, name, Omissions(name)) as document:  # these are counted already
        for position, annotation in document.entries("annotations", "object"):
            image_id = identifier(annotation.get("image_id"))
            label = identifier(annotation.get("category_id"))
            segmentation = annotation.get("segmentation")
            if image_id not in wanted or image_id not in images:
                continue
            if label not in categories or not segmentation:
                continue  # without a segmentation, an object has nothing but a box
            image = images[image_id]
            try:
                mask = read_segmentation(segmentation, image.height, image.width)
            except (ValueError, TypeError, OverflowError):
                why = "its segmentation cannot be read"
                omissions.add("mask", why, f"annotations[{position}]")
                continue
            yield ObjectMask(image_id, sys.intern(label), *mask)
