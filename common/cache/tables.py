"""The tables beside the activations: rows, classes and rejects, as Parquet with fixed schemas.

The table of the rows may also hold columns of the dataset (`sparc.common.cache.columns`).
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from json.encoder import encode_basestring as _quote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sparc.common.cache.columns import digest_header, digest_values, stored_type
from sparc.common.errors import CacheError, DamagedCacheError
from sparc.common.files.folder import Folder
from sparc.common.files.parquet import ParquetTable, parquet_bytes, read_parquet
from sparc.common.text import reason

ROWS = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("image", pa.string()),
        pa.field("caption", pa.string()),
        pa.field("label_ids", pa.list_(pa.int32()), nullable=False),
    ]
)
"""One (image, caption) pair a row. `sample_id` names the image: the captions of one image are
consecutive rows with the same `sample_id`, `image` and `label_ids`."""

CLASSES = pa.schema(
    [
        pa.field("class_id", pa.int32(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("parent_id", pa.int32()),
        pa.field("depth", pa.int32(), nullable=False),
    ]
)
"""`class_id` counts from 0 in table order; `key` is the dataset's own identifier. A class without
a parent has depth 1; a class that stands twice in the dataset's tree keeps its deeper place."""

REJECTS = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("stream", pa.string(), nullable=False),
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)
"""Why a row is not valid in a stream; one line for each."""

MASKS = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("class_id", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("counts", pa.list_(pa.int32()), nullable=False),
    ]
)
"""Where an object is in an image: run lengths of zeros and ones in turn, column by column,
beginning with zeros (the uncompressed run-length encoding of COCO)."""


def dataset_columns(rows: pa.Schema) -> pa.Schema:
    """The columns of the dataset in a table of rows, sorted by name, with their stored types.

    Columns of other types, which another program may have added, are left out.
    """
    stored = {field.name: stored_type(field.type) for field in rows}
    names = sorted(name for name, kind in stored.items() if kind and name not in ROWS.names)
    return pa.schema([(name, stored[name]) for name in names])


def with_columns(rows: pa.Table, columns: Mapping[str, pa.Array]) -> pa.Table:
    """A table of schema `ROWS` with columns of the dataset, sorted by name.

    Raises:
        ValueError: A column has no name, or the name of one of ours.
    """
    for name in sorted(columns):
        check_column_name(name)
        rows = rows.append_column(name, columns[name])
    return rows


def check_column_name(name: str) -> None:
    """Refuse a name that a column of the dataset cannot have.

    Raises:
        ValueError: It is empty, or a name in `ROWS`.
    """
    if not name:
        raise ValueError("a column needs a name")
    if name in ROWS.names:
        raise ValueError(f"every cache has a column {name} of its own")


def empty(schema: pa.Schema) -> pa.Table:
    """A table of that schema without rows."""
    return schema.empty_table()


def write_table(folder: Folder, name: str, table: pa.Table) -> None:
    """Write a Parquet file whole; the same table always gives the same bytes."""
    folder.write(name, parquet_bytes(table))


def read_table(
    folder: Folder, name: str, schema: pa.Schema, columns: list[str] | None = None
) -> pa.Table:
    """Read a Parquet file and hold it to its schema.

    Raises:
        DamagedCacheError: The file is missing, is not Parquet, or has other columns.
    """
    with _readable(folder, name), folder.open(name) as file:
        table = read_parquet(file, columns)
    wanted = schema if columns is None else pa.schema([schema.field(c) for c in columns])
    try:
        return table.select(wanted.names).cast(wanted)
    except (KeyError, ValueError, pa.ArrowException) as error:
        raise DamagedCacheError(f"{folder}/{name} has other columns than it should") from error


def rows_schema(folder: Folder, name: str) -> pa.Schema:
    """`ROWS` and the columns of the dataset in a stored table of rows.

    Raises:
        DamagedCacheError: The file is missing or is not Parquet.
    """
    with _readable(folder, name), folder.open(name) as file:
        return pa.schema([*ROWS, *dataset_columns(ParquetTable(file).schema)])


def has_schema(folder: Folder, name: str, schema: pa.Schema) -> bool:
    """Whether an existing file is Parquet with the columns of a schema, and no others.

    A table of rows may hold columns of the dataset after ours.

    Raises:
        UnsafeError: It is not a regular file.
    """
    try:
        with folder.open(name) as file:
            stored = ParquetTable(file).schema
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return False
    ours, others = stored.names[: len(schema)], stored.names[len(schema) :]
    allowed = dataset_columns(stored).names if schema is ROWS else []
    return (
        ours == schema.names
        and list(map(_kind, stored.types[: len(schema)])) == list(map(_kind, schema.types))
        and sorted(others) == allowed
    )


def _kind(type_: pa.DataType) -> tuple[bool, pa.DataType]:
    """A type without the name that Parquet gives to the values of a list."""
    return (True, type_.value_type) if pa.types.is_list(type_) else (False, type_)


def read_batches(
    folder: Folder, name: str, schema: pa.Schema, columns: Sequence[str], size: int
) -> Iterator[pa.RecordBatch]:
    """Read some columns of a Parquet file a batch at a time, in memory that one batch takes.

    Args:
        folder: The folder.
        name: The file in it.
        schema: What the file is held to.
        columns: Names of columns of the schema.
        size: Rows of every batch but the last.

    Raises:
        DamagedCacheError: As `read_table`.
    """
    wanted = pa.schema([schema.field(column) for column in columns])
    with _readable(folder, name), folder.open(name) as file:
        for batch in ParquetTable(file, columns).batches(size):
            yield batch.cast(wanted)


def count_rows(folder: Folder, name: str) -> int:
    """How many rows a Parquet file has, by its footer.

    Raises:
        DamagedCacheError: As `read_table`.
    """
    with _readable(folder, name), folder.open(name) as file:
        return ParquetTable(file, []).rows


@contextmanager
def _readable(folder: Folder, name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DamagedCacheError(f"{folder}/{name} is missing") from error
    except PermissionError as error:
        raise CacheError(f"cannot read {folder}/{name}: {error.strerror}") from error
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise DamagedCacheError(
            f"{folder}/{name} is not readable as Parquet: {reason(error)}"
        ) from error


def counts_from_0(column: pa.ChunkedArray) -> bool:
    """Whether a column of integers holds 0, 1, … in table order."""
    return np.array_equal(column.to_numpy(), np.arange(len(column)))


def class_faults(classes: pa.Table) -> Iterator[str]:
    """What is wrong with the tree of the classes, a line each.

    Args:
        classes: A table of schema `CLASSES` whose `class_id` counts from 0.
    """
    count = len(classes)
    parents = classes.column("parent_id").to_pylist()
    depths = classes.column("depth").to_pylist()
    for class_id, (parent, depth) in enumerate(zip(parents, depths, strict=True)):
        if parent is not None and not 0 <= parent < count:
            yield f"class {class_id} has the parent {parent}, which is none"
        # The dataset's single root is at depth 0, if a row carries it; its children have no parent.
        if depth < 0 or (parent is None) != (depth <= 1):
            yield f"class {class_id} is at depth {depth}, parent {parent}"
        elif parent is not None and 0 <= parent < count and depths[parent] >= depth:
            yield f"class {class_id} is not deeper than its parent {parent}"


def mask_faults(masks: pa.Table) -> Iterator[str]:
    """What is wrong with the runs of object masks, a line each.

    Args:
        masks: A table of schema `MASKS`.
    """
    counts = masks.column("counts").combine_chunks()
    lengths = np.diff(counts.offsets.to_numpy())
    runs = counts.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
    covered = np.zeros(len(masks), dtype=np.int64)
    np.add.at(covered, np.repeat(np.arange(len(masks)), lengths), runs)
    area = masks.column("height").to_numpy().astype(np.int64) * masks.column("width").to_numpy()
    for index in np.flatnonzero(covered != area):
        yield f"the runs of mask {index} do not add up to height x width"


def same_image(rows: pa.Table) -> npt.NDArray[np.bool_]:
    """Which rows have the image of the row before: (rows,) bool.

    Args:
        rows: A table with the column `sample_id` of schema `ROWS`.
    """
    return same_as_before(rows["sample_id"])


def same_as_before(texts: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Which texts are that of the row before, as null is where that is null: (rows,) bool."""
    whole = texts.combine_chunks()
    result = np.zeros(len(whole), dtype=np.bool_)
    if len(whole) > 1:
        after, before = whole.slice(1), whole.slice(0, len(whole) - 1)
        equal = pc.fill_null(pc.equal(after, before), False)
        no_text = pc.and_(after.is_null(), before.is_null())
        result[1:] = pc.or_(equal, no_text).to_numpy(zero_copy_only=False)
    return result


def image_faults(rows: pa.Table) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
    """What contradicts that the rows of an image follow one another and agree.

    Args:
        rows: A table of schema `ROWS`.

    Yields:
        A fault and its rows, ascending.
    """
    repeats = same_image(rows)
    # Images are numbered in the order in which they appear.
    ids = rows["sample_id"].combine_chunks().dictionary_encode()
    images = np.asarray(ids.indices, dtype=np.int64)
    begun = np.append(-1, np.maximum.accumulate(images))[:-1]
    for what, wrong in (
        ("the rows of one sample_id do not all follow one another", ~repeats & (images <= begun)),
        (
            "image is not that of the row before, of the same sample_id",
            repeats & ~same_as_before(rows["image"]),
        ),
        (
            "label_ids are not those of the row before, of the same sample_id",
            repeats & ~_same_lists(rows["label_ids"]),
        ),
    ):
        if wrong.any():
            yield what, np.flatnonzero(wrong)


def _same_lists(column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Which lists are that of the row before."""
    lists = column.combine_chunks()
    lengths = np.asarray(lists.value_lengths(), dtype=np.int64)
    same: npt.NDArray[np.bool_] = np.diff(lengths, prepend=-1) == 0
    values = np.asarray(lists.flatten())
    holders = np.repeat(np.arange(len(lengths)), lengths)
    # Where a list is as long as the one before, each value lies that far behind its counterpart.
    counterparts = np.arange(len(values)) - lengths[holders]
    same[holders[same[holders] & (values != values[counterparts])]] = False
    return same


def manifest_digest(rows: pa.Table) -> str:
    """What identifies a dataset: SHA-256 over (sample_id, image, caption, label_ids) in row order.

    Each row enters as one line of JSON: a list of the four values, UTF-8, no spaces, ending in a
    newline. Where there are columns of the dataset, a line of their names and types comes first,
    and their values follow the four.

    Args:
        rows: A table of schema `ROWS`, with or without columns of the dataset.

    Returns:
        The digest in lower-case hexadecimal.
    """
    digest = hashlib.sha256()
    more = dataset_columns(rows.schema)
    if more:
        digest.update(digest_header(more).encode())
    for batch in rows.to_batches(max_chunksize=65_536):
        texts = [_quoted(batch.column(name)) for name in ("sample_id", "image", "caption")]
        labels = [",".join(map(str, ids)) for ids in batch.column("label_ids").to_pylist()]
        four = [f"{a},{b},{c},[{d}]" for a, b, c, d in zip(*texts, labels, strict=True)]
        others = [digest_values(batch.column(name)) for name in more.names]
        lines = [f"[{','.join(values)}]\n" for values in zip(four, *others, strict=True)]
        digest.update("".join(lines).encode())
    return digest.hexdigest()


def has_digest(rows: pa.Table, digest: str) -> bool:
    """Whether a digest is that of rows, or of these before another program added columns."""
    return digest in (manifest_digest(t) for t in (rows, rows.select(ROWS.names)))


def _quoted(texts: pa.Array) -> list[str]:
    """Texts as JSON: what `json.dumps` makes of each, several times faster."""
    return ["null" if text is None else _quote(text) for text in texts.to_pylist()]
