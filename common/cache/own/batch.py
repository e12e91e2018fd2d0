"""What is known of the rows of a batch, as a table; batches of one cache put together again."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sparc.common.cache import tables
from sparc.common.cache.columns import column_array
from sparc.common.cache.own.rows import (
    captions_of_rows,
    names_of_rows,
    require_classes,
    rows_of_labels,
)
from sparc.common.cache.own.values import require_lengths
from sparc.common.errors import CacheError
from sparc.common.images.files import common_folder, real_path
from sparc.common.text import reason

BATCH = pa.schema(
    [
        pa.field("sample_id", pa.string()),
        pa.field("image", pa.string()),
        pa.field("caption", pa.string()),
        pa.field("label_ids", pa.list_(pa.int32()), nullable=False),
    ]
)
"""The rows of a batch before all are known: `image` is an absolute path, and `sample_id` is null
where the name of the image, or the number of the row, stands for it. Columns of the dataset
follow."""


class WholeRows(NamedTuple):
    """The rows of a cache, once all batches are there.

    Attributes:
        table: Of schema `tables.ROWS`, with columns of the dataset.
        images: The folder that holds the images; empty where no row has one.
    """

    table: pa.Table
    images: str


def batch_table(
    rows: int,
    classes: pa.Table,
    *,
    sample_ids: Sequence[Any] | None,
    captions: Sequence[Any] | None,
    images: Sequence[str | os.PathLike[str] | None] | None,
    label_ids: Any,
    columns: Mapping[str, Any],
    first_row: int,
) -> pa.Table:
    """The rows of a batch, of schema `BATCH` with columns of the dataset sorted by name.

    Args:
        rows: How many.
        classes: A table of schema `tables.CLASSES`.
        sample_ids: As `sparc.common.cache.arrays.write_arrays` takes them, and so are the others.
        captions: Their captions.
        images: The files of their images.
        label_ids: Their classes.
        columns: What else is known of them.
        first_row: The row of the cache that is the first of the batch, for messages.

    Raises:
        CacheError: Something has no form that rows can have, or not a value a row.
    """
    given = {"sample_ids": sample_ids, "captions": captions, "images": images}
    require_lengths(rows, given)
    labels = rows_of_labels(label_ids) if label_ids is not None else [[]] * rows
    require_lengths(rows, {"label_ids": labels})
    require_classes(labels, classes)
    files = [
        None if image is None else real_path(image, first_row + row)
        for row, image in enumerate(images or [None] * rows)
    ]
    table = pa.table(
        {
            "sample_id": [None] * rows if sample_ids is None else names_of_rows(sample_ids),
            "image": files,
            "caption": captions_of_rows(captions if captions is not None else [None] * rows),
            "label_ids": labels,
        },
        schema=BATCH,
    )
    for name in sorted(columns):
        table = table.append_column(name, _column(name, columns[name], rows))
    return table


def _column(name: str, values: Any, rows: int) -> pa.Array:
    """A column of the dataset; of type null where the batch does not say what its values are."""
    try:
        tables.check_column_name(name)
        array = column_array(values)
        if array.null_count == len(array) and pa.types.is_null(_type_of(values)):
            array = pa.nulls(len(array))
    except ValueError as error:
        raise CacheError(f"column {name!r}: {error}") from error
    require_lengths(rows, {f"column {name!r}": array})
    return array


def _type_of(values: Any) -> pa.DataType:
    return pa.array(values, from_pandas=True).type


def together(before: pa.Schema, batch: pa.Schema) -> pa.Schema:
    """The schema that holds the rows of some batches and of one more.

    Raises:
        CacheError: The batch has other columns of the dataset, or values of another kind.
    """
    for name in {*before.names}.symmetric_difference(batch.names):
        what = "lacks the" if name in before.names else "has a"
        others = "others have" if name in before.names else "others lack"
        raise CacheError(f"the batch {what} column {name!r}, which the {others}")
    try:
        return pa.unify_schemas([before, batch], promote_options="permissive")
    except (pa.ArrowException, ValueError) as error:
        raise CacheError(f"columns of the batch and of those before differ: {reason(error)}") from (
            error
        )


def whole_rows(batches: Sequence[pa.Table]) -> WholeRows:
    """The rows of a cache out of those of all its batches, in order.

    Raises:
        CacheError: Their images have no folder in common, or rows of one image contradict each
            other.
    """
    table = pa.concat_tables(batches, promote_options="permissive").combine_chunks()
    paths = table["image"]
    folder = ""
    if paths.null_count < len(paths):
        ends = pc.min_max(paths)
        folder = common_folder(ends["min"].as_py(), ends["max"].as_py())
    names = pc.utf8_slice_codeunits(paths, start=len(folder) + 1)
    numbers = pa.array(np.arange(len(table)))
    ids = pc.coalesce(table["sample_id"], names, pc.cast(numbers, pa.string()))
    rows = pa.table([numbers, ids, names, table["caption"], table["label_ids"]], schema=tables.ROWS)
    further = {
        n: column_array(table[n].combine_chunks())
        for n in table.column_names
        if n not in BATCH.names
    }
    rows = tables.with_columns(rows, further)
    if (contradiction := next(tables.image_faults(rows), None)) is not None:
        fault, wrong = contradiction
        raise CacheError(f"row {wrong[0]}: {fault}")
    return WholeRows(rows, folder)
