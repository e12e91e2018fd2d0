"""From what a reader found to the manifest: labels, holdout, limit, captions, rows.

Every reader ends here, so that these mean the same for all of them. This module must not know how
any dataset lies on disk.
"""

import hashlib
from collections.abc import Mapping, Sequence

import pyarrow as pa

from sparc.common.cache import tables
from sparc.common.cache.manifest import Manifest
from sparc.common.errors import DatasetError
from sparc.common.files.paths import absolute_if_here
from sparc.common.progress import say
from sparc.common.text import shorten
from sparc.extract.datasets.base import Captions, DatasetOptions
from sparc.extract.datasets.hierarchy import Hierarchy, class_table, read_hierarchy
from sparc.extract.datasets.labels import read_class_names, with_labels_of
from sparc.extract.datasets.source import ObjectMask, Picture, Source


def build_manifest(location: str, source: Source, options: DatasetOptions) -> Manifest:
    """The manifest of what a reader found.

    Raises:
        DatasetError: No picture is left, two have the same id, or a labels file does not fit.
    """
    if not source.pictures:
        raise DatasetError(f"{location} has no pictures")
    _check_ids(source.pictures, location)
    pictures, names, hierarchy = source.pictures, source.names, source.hierarchy
    if options.labels is not None:
        pictures = with_labels_of(pictures, options.labels)
        if options.classes is not None:
            names = {**names, **read_class_names(options.classes, str(options.classes))}
        hierarchy = Hierarchy()
        if options.hierarchy is not None:
            hierarchy = read_hierarchy(options.hierarchy, str(options.hierarchy))
    pictures = choose_pictures(pictures, options, location)
    masks = _find_masks(source, pictures, location) if options.masks else None
    used = {label for picture in pictures for label in picture.labels}
    used.update(mask.label for mask in masks or ())
    classes, class_ids = class_table(used, names, hierarchy)
    return Manifest(
        dataset=absolute_if_here(location),
        dataset_format=source.dataset_format,
        split=options.split if options.holdout else source.split,
        rows=rows_table(pictures, options.captions, class_ids),
        classes=classes,
        masks=None if masks is None else _masks_table(masks, class_ids),
    )


def choose_pictures(
    pictures: Sequence[Picture], options: DatasetOptions, location: str
) -> Sequence[Picture]:
    """The pictures of the part that is wanted, and of those the first so many.

    Raises:
        DatasetError: None is left.
    """
    if options.holdout:
        wants_test = options.split == "test"
        pictures = [
            picture
            for picture in pictures
            if is_held_out(picture.group or picture.sample_id, options.holdout) == wants_test
        ]
        if not pictures:
            raise DatasetError(
                f"{location}: no picture falls into {options.split} with holdout {options.holdout}"
            )
    return pictures[: options.limit] if options.limit else pictures


def is_held_out(name: str, fraction: float) -> bool:
    """Whether a picture, or a group of them, is set apart.

    Depends on the name alone, so that it stays where it is when others are added, and what is set
    apart at a smaller fraction also is at a larger one.
    """
    digest = hashlib.blake2b(name.encode(), digest_size=8, key=b"sparc holdout").digest()
    return int.from_bytes(digest, "big") < fraction * 2**64


def rows_table(
    pictures: Sequence[Picture], captions: Captions, class_ids: Mapping[str, int]
) -> pa.Table:
    """The rows of pictures, of schema `tables.ROWS`; a picture without captions has one row."""
    sample_ids: list[str] = []
    images: list[str] = []
    texts: list[str | None] = []
    label_ids: list[list[int]] = []
    for picture in pictures:
        ids = sorted({class_ids[label] for label in picture.labels})
        for text in caption_rows(picture.captions, captions):
            sample_ids.append(picture.sample_id)
            images.append(picture.image)
            texts.append(text)
            label_ids.append(ids)
    columns = [range(len(sample_ids)), sample_ids, images, texts, label_ids]
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, tables.ROWS, strict=True)],
        schema=tables.ROWS,
    )


def caption_rows(captions: Sequence[str], how: Captions) -> list[str | None]:
    """The captions of a picture's rows: stripped, without empty ones; one null where none is left.

    Args:
        captions: As they stand in the dataset.
        how: A row each, all joined by spaces, or only the first.
    """
    texts = [text for text in (caption.strip() for caption in captions) if text]
    if not texts:
        return [None]
    match how:
        case "each":
            return [*texts]
        case "join":
            return [" ".join(texts)]
        case "first":
            return [texts[0]]


def check_some_present(missing: Sequence[str], pictures: int, location: str, where: str) -> None:
    """Say how many of the pictures that metadata name are not there; refuse if none is.

    Their rows stay: extraction masks them and lists them among the rejects.

    Args:
        missing: Paths of those that are not there.
        pictures: How many are named.
        location: The dataset.
        where: What names them.

    Raises:
        DatasetError: All are missing.
    """
    if not missing:
        return
    example = shorten(missing[0], 200)
    if len(missing) == pictures:
        raise DatasetError(
            f"{location}: none of the pictures named in {where} is there ({pictures:,} in all, for "
            f"example {example})"
        )
    say(
        f"{location}: {len(missing):,} of {pictures:,} pictures named in {where} are not there, "
        f"for example {example}; their rows will be rejected"
    )


def _check_ids(pictures: Sequence[Picture], location: str) -> None:
    seen: set[str] = set()
    for picture in pictures:
        if picture.sample_id in seen:
            raise DatasetError(
                f"{location}: two pictures have the id {shorten(picture.sample_id, 80)!r}"
            )
        seen.add(picture.sample_id)


def _find_masks(
    source: Source, pictures: Sequence[Picture], location: str
) -> list[ObjectMask] | None:
    if source.masks is None:
        say(f"{location}: this dataset has no masks")
        return None
    return list(source.masks(frozenset(picture.sample_id for picture in pictures)))


def _masks_table(masks: Sequence[ObjectMask], class_ids: Mapping[str, int]) -> pa.Table:
    columns = [
        [mask.sample_id for mask in masks],
        [class_ids[mask.label] for mask in masks],
        [mask.height for mask in masks],
        [mask.width for mask in masks],
        [mask.counts for mask in masks],
    ]
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, tables.MASKS, strict=True)],
        schema=tables.MASKS,
    )
