"""The images of a cache that maps are scored on, with their masks and absent classes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sparc.analyze.localize.scoring.measures import Mask
from sparc.common import rle
from sparc.common.cache.reader import ActivationCache
from sparc.common.text import shorten
from sparc.extract.encoders.tower import LocalizeError

LARGEST_SIDE = 512
"""Maps and masks of larger images are compared at this size."""

ABSENT_TEXTS = 10
"""Absent classes that are scored in each image."""


class ScoredImage(NamedTuple):
    """An image with masks.

    Attributes:
        sample_id: Its id in the cache.
        image: Its name for `CacheImages.open`.
        masks: By class, the union of its objects, (height, width).
        classes: The classes known to be in it, and their ancestors.
    """

    sample_id: str
    image: str
    masks: Mapping[int, Mask]
    classes: frozenset[int] = frozenset()


def draw_images(cache: ActivationCache, size: int, seed: int) -> list[ScoredImage]:
    """Draw images with masks at random, ordered by id.

    Args:
        cache: The cache.
        size: Images at most.
        seed: Seed of the draw.

    Raises:
        LocalizeError: The cache has no masks, or one is damaged.
    """
    masks = cache.masks()
    if masks is None or not len(masks):
        raise LocalizeError(
            f"{cache.folder} has no masks to score against: extract the dataset with --masks"
        )
    rows = cache.rows(["sample_id", "image", "label_ids"]).to_pylist()
    labels = {row["sample_id"]: row["label_ids"] or () for row in rows}
    images = {row["sample_id"]: row["image"] for row in rows if row["image"] is not None}
    by_image: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in masks.to_pylist():
        if row["sample_id"] in images:
            by_image[row["sample_id"]].append(row)
    ids = sorted(by_image)
    if len(ids) > size:
        chosen = np.random.default_rng(seed).choice(len(ids), size, replace=False)
        ids = [ids[i] for i in np.sort(chosen)]
    parents = dict(
        zip(
            *(cache.classes().column(c).to_pylist() for c in ("class_id", "parent_id")), strict=True
        )
    )
    scored = []
    for i in ids:
        masks_of_image = _by_class(by_image[i], cache)
        if masks_of_image:
            known = {*labels[i], *(row["class_id"] for row in by_image[i])}
            classes = _with_ancestors(known, parents)
            scored.append(ScoredImage(i, images[i], masks_of_image, classes))
    return scored


def _with_ancestors(classes: set[int], parents: Mapping[int, int | None]) -> frozenset[int]:
    result: set[int] = set()
    waiting = list(classes)
    while waiting:
        class_id = waiting.pop()
        if class_id not in result:
            result.add(class_id)
            parent = parents.get(class_id)
            waiting += [] if parent is None else [parent]
    return frozenset(result)


def draw_absent(images: Sequence[ScoredImage], seed: int) -> list[list[int]]:
    """For each image, up to `ABSENT_TEXTS` classes that others have and it is not known to have."""
    wanted = sorted({class_id for image in images for class_id in image.masks})
    generator = np.random.default_rng(seed)
    drawn = []
    for image in images:
        others = [class_id for class_id in wanted if class_id not in image.classes]
        number = min(ABSENT_TEXTS, len(others))
        drawn.append([int(c) for c in generator.choice(others, number, replace=False)])
    return drawn


def _by_class(rows: Sequence[Mapping[str, Any]], cache: ActivationCache) -> dict[int, Mask]:
    """The union of each class's masks, without classes that cover nothing or everything."""
    unions: dict[int, Mask] = {}
    for row in rows:
        try:
            mask = rle.decode(row["counts"], row["height"], row["width"])
        except ValueError as error:
            raise LocalizeError(
                f"{cache.folder}: a mask of sample {shorten(row['sample_id'], 60)} is damaged: "
                f"{error}"
            ) from error
        class_id = row["class_id"]
        unions[class_id] = unions[class_id] | mask if class_id in unions else mask
    return {c: mask for c, mask in unions.items() if mask.any() and not mask.all()}


def compared_size(width: int, height: int) -> tuple[int, int]:
    """The width and height at which maps and masks of an image are compared."""
    scale = min(1.0, LARGEST_SIDE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def resized(mask: Mask, size: tuple[int, int], image: ScoredImage) -> Mask:
    """Resize a mask by nearest neighbour, never to an empty or full one.

    Where nearest neighbours miss all of it, every place that it touches is taken; where they miss
    all of the rest, every place that it fills.

    Raises:
        LocalizeError: Mask and image have different aspect ratios.
    """
    width, height = size
    if abs(mask.shape[0] * width - mask.shape[1] * height) > max(mask.shape):
        raise LocalizeError(
            f"sample {shorten(image.sample_id, 60)}: its mask of {mask.shape[1]} x "
            f"{mask.shape[0]} pixels has another shape than its image"
        )
    rows = ((np.arange(height) + 0.5) * mask.shape[0] / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * mask.shape[1] / width).astype(np.int64)
    small: Mask = mask[np.ix_(rows, columns)]
    if not small.any():
        return _touched(mask, size)
    return ~_touched(~mask, size) if small.all() else small


def _touched(mask: Mask, size: tuple[int, int]) -> Mask:
    """The places of a smaller image in which a mask has any pixel, (height, width) bool."""
    width, height = size
    rows, columns = np.nonzero(mask)
    touched = np.zeros((height, width), np.bool_)
    touched[rows * height // mask.shape[0], columns * width // mask.shape[1]] = True
    return touched
