"""From a reader's images to the manifest: holdout, limit, captions, rows.

Every reader ends here, so that these options mean the same for all formats. This module must not
know how any dataset is stored.
"""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from sparc.common.cache import tables
from sparc.common.cache.columns import column_array
from sparc.common.cache.manifest import Manifest
from sparc.common.errors import DatasetError
from sparc.common.files.paths import absolute_if_here
from sparc.common.progress import say
from sparc.common.text import shorten
from sparc.extract.datasets.base import Captions, DatasetOptions
from sparc.extract.datasets.columns import column_types, merged
from sparc.extract.datasets.hierarchy import class_table
from sparc.extract.datasets.source import ImageRecord, Source

_KEY = "key"
"""The column of masks that their `class_id` takes the place of, once classes are numbered."""

_MASKS_AT_ONCE = 4096
_IMAGES_AT_ONCE = 8192
"""Arrow keeps the memory that it needs in between, which is little where little is made at once."""


def build_manifest(
    location: str, source: Source, options: DatasetOptions, *, split: str = ""
) -> Manifest:
    """The manifest of a reader's images.

    Args:
        location: The dataset's folder.
        source: Its images, classes and masks.
        options: Their `format` is recorded.
        split: The dataset's own split; empty where it is not divided.

    Raises:
        DatasetError: No image is left, or two have the same id.
    """
    if not source.records:
        raise DatasetError(f"{location} has no images")
    _check_ids(source.records, location)
    records = choose_records(source.records, options, location)
    masks = _find_masks(source, records, location) if options.masks else None
    types = column_types(source.records, options.columns, location)
    used = {label for record in records for label in record.labels}
    if masks is not None:
        used.update(pc.unique(masks.column(_KEY)).to_pylist())
    classes, class_ids = class_table(used, source.names, source.hierarchy)
    return Manifest(
        dataset=absolute_if_here(location),
        dataset_format=options.format,
        split=options.split if options.holdout else split,
        rows=rows_table(records, options.captions, class_ids, types),
        classes=classes,
        masks=None if masks is None else _with_class_ids(masks, class_ids),
    )


def choose_records(
    records: Sequence[ImageRecord], options: DatasetOptions, location: str
) -> Sequence[ImageRecord]:
    """The images of the requested part, up to the limit.

    Raises:
        DatasetError: None is left.
    """
    if options.holdout:
        wants_test = options.split == "test"
        records = [
            record
            for record in records
            if is_held_out(record.group or record.sample_id, options.holdout) == wants_test
        ]
        if not records:
            raise DatasetError(
                f"{location}: no image falls into {options.split} with holdout {options.holdout}"
            )
    return records[: options.limit] if options.limit else records


def is_held_out(name: str, fraction: float) -> bool:
    """Whether an image, or a group of them, is held out.

    This depends on the name only, so that no image changes sides when others are added, and what is
    held out at a smaller fraction also is at a larger one.
    """
    digest = hashlib.blake2b(name.encode(), digest_size=8, key=b"sparc holdout").digest()
    return int.from_bytes(digest, "big") < fraction * 2**64


def rows_table(
    records: Sequence[ImageRecord],
    captions: Captions,
    class_ids: Mapping[str, int],
    types: Mapping[str, pa.DataType],
) -> pa.Table:
    """The rows of records, of schema `tables.ROWS`; an image without captions has one row.

    Args:
        records: The images.
        captions: How captions make rows.
        class_ids: The classes, by key.
        types: The columns of the dataset that are kept, by name.
    """
    parts: list[pa.Table] = []
    rows = 0
    for first in range(0, len(records), _IMAGES_AT_ONCE):
        some = records[first : first + _IMAGES_AT_ONCE]
        parts.append(_rows_from(rows, some, captions, class_ids, types))
        rows += len(parts[-1])
    return pa.concat_tables(parts)


def _rows_from(
    first: int,
    records: Sequence[ImageRecord],
    captions: Captions,
    class_ids: Mapping[str, int],
    types: Mapping[str, pa.DataType],
) -> pa.Table:
    """The rows of some of the records; the number of the first row is given."""
    sample_ids: list[str] = []
    image_paths: list[str] = []
    texts: list[str | None] = []
    label_ids: list[list[int]] = []
    others: dict[str, list[Any]] = {name: [] for name in types}
    for record in records:
        ids = sorted({class_ids[label] for label in record.labels})
        for row in caption_rows(record.captions, captions):
            sample_ids.append(record.sample_id)
            image_paths.append(record.image_path)
            texts.append(row.text)
            label_ids.append(ids)
            if types:
                values = _columns_of(record, row)
                for name, column in others.items():
                    column.append(values.get(name))
    columns = [range(first, first + len(sample_ids)), sample_ids, image_paths, texts, label_ids]
    table = pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, tables.ROWS, strict=True)],
        schema=tables.ROWS,
    )
    kept = {name: column_array(column, types[name]) for name, column in others.items()}
    return tables.with_columns(table, kept)


class CaptionRow(NamedTuple):
    """The caption of a row, and the numbers of the captions of its image that it is made of."""

    text: str | None
    sources: Sequence[int]


def caption_rows(captions: Sequence[str], how: Captions) -> list[CaptionRow]:
    """The captions of an image's rows: stripped, without empty ones; one null if none is left.

    Args:
        captions: As the dataset has them.
        how: One row for each, one for all joined by spaces, or one for the first.
    """
    rows = [CaptionRow(c.strip(), [i]) for i, c in enumerate(captions) if c.strip()]
    if not rows:
        return [CaptionRow(None, range(len(captions)))]
    match how:
        case "each":
            return rows
        case "join":
            texts = " ".join(row.text for row in rows if row.text)
            return [CaptionRow(texts, [number for row in rows for number in row.sources])]
        case "first":
            return rows[:1]


def _columns_of(record: ImageRecord, row: CaptionRow) -> dict[str, Any]:
    """The values of the dataset's columns in a row."""
    if not record.caption_columns:
        return dict(record.columns)
    of_captions = merged((record.caption_columns[n] for n in row.sources), record.sample_id)
    return {**record.columns, **of_captions}


def check_some_present(
    missing: Sequence[str], named: int, location: str, where: str, present: Sequence[str]
) -> None:
    """Say how many of the images that metadata name are missing; refuse if all are.

    Their rows stay: extraction masks them and lists them among the rejects.

    Args:
        missing: Paths of the missing ones.
        named: How many are named.
        location: The dataset.
        where: What names them.
        present: The images that are there, whatever names them.

    Raises:
        DatasetError: All are missing.
    """
    if not missing:
        return
    example = shorten(missing[0], 200)
    if len(missing) == named:
        there = (
            f"its images have names such as {shorten(present[0], 120)}"
            if present
            else "it has no images: unpack or copy them into it"
        )
        raise DatasetError(
            f"{location}: none of the images named in {where} is there ({named:,} in all, for "
            f"example {example}); {there}"
        )
    say(
        f"{location}: {len(missing):,} of {named:,} images named in {where} are not there, "
        f"for example {example}; their rows will be rejected"
    )


def _check_ids(records: Sequence[ImageRecord], location: str) -> None:
    ids: set[str] = set()
    for record in records:
        if record.sample_id in ids:
            raise DatasetError(
                f"{location}: two images have the id {shorten(record.sample_id, 80)!r}"
            )
        ids.add(record.sample_id)


def _find_masks(source: Source, records: Sequence[ImageRecord], location: str) -> pa.Table | None:
    """The objects of images, as the reader gives them: as `tables.MASKS`, but with keys of classes.

    They become Arrow's a few thousand at a time: as Python objects, those of COCO take gigabytes.
    """
    if source.masks is None:
        say(f"{location}: this dataset has no masks")
        return None
    schema = tables.MASKS.set(1, pa.field(_KEY, pa.string(), nullable=False))
    batches: list[pa.RecordBatch] = []
    masks = iter(source.masks(frozenset(record.sample_id for record in records)))
    while some := list(itertools.islice(masks, _MASKS_AT_ONCE)):
        columns = [
            pa.array(column, field.type)
            for column, field in zip(zip(*some, strict=True), schema, strict=True)
        ]
        batches.append(pa.record_batch(columns, schema=schema))
    return pa.Table.from_batches(batches, schema)


def _with_class_ids(masks: pa.Table, class_ids: Mapping[str, int]) -> pa.Table:
    keys = pa.array(list(class_ids), pa.string())
    ids = pa.array(list(class_ids.values()), pa.int32())
    numbers = pc.take(ids, pc.index_in(masks.column(_KEY), keys))
    return masks.set_column(1, tables.MASKS.field("class_id"), numbers)
