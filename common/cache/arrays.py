"""Making a cache from arrays that somebody already has, and refusing those that contradict it."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparc.common.cache import tables
from sparc.common.cache.columns import column_array
from sparc.common.cache.features import bad_features, features_digest, find_faults
from sparc.common.cache.info import ARRAYS_DATASET
from sparc.common.cache.manifest import Manifest
from sparc.common.cache.own.rows import (
    captions_of_rows,
    names_of_rows,
    require_classes,
    rows_of_labels,
    table_of_classes,
)
from sparc.common.cache.own.values import (
    as_array,
    common_rows,
    note_on_not_finite,
    require_lengths,
    require_modality,
    require_same_features,
)
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.removal import remove_cache
from sparc.common.cache.shards.locks import sole_writer
from sparc.common.cache.thumbnails.own_images import write_thumbnails
from sparc.common.cache.thumbnails.sizes import SIDE, side_fault
from sparc.common.cache.writer import ROWS_PER_CHUNK, ChunkWriter
from sparc.common.errors import CacheError
from sparc.common.files.folder import Folder
from sparc.common.images.files import ImageFiles, locate
from sparc.common.progress import say
from sparc.common.streams.info import StreamInfo
from sparc.common.streams.origin import StreamOrigin

Arrays = Mapping[str, npt.NDArray[Any]]
"""By stream name, (rows, dim)."""


def write_arrays(
    location: str | os.PathLike[str] | Folder,
    features: Mapping[str, npt.ArrayLike],
    *,
    modality: Mapping[str, Literal["image", "text"]] | None = None,
    sample_ids: Sequence[str] | Sequence[int] | None = None,
    captions: Sequence[str | None] | None = None,
    images: Sequence[str | os.PathLike[str] | None] | None = None,
    label_ids: Sequence[int | None] | Sequence[Sequence[int]] | npt.NDArray[Any] | None = None,
    classes: Sequence[str] | pa.Table | None = None,
    columns: Mapping[str, Any] | None = None,
    thumbnails: int = SIDE,
    dtype: Literal["float16", "float32"] = "float32",
    rows_per_chunk: int = ROWS_PER_CHUNK,
    overwrite: bool = False,
) -> ActivationCache:
    """Make a cache from features that you already have.

        write_arrays("cache", {"dino": dino, "clip": clip}, captions=captions, images=files)

    Where the folder holds a cache already, its chunks must be those of the features; what is
    missing or damaged is written again.

    Args:
        location: The cache's folder or URL.
        features: By stream name, (rows, dim) each, with the same number of rows: arrays, tensors
            of any device, or what NumPy makes arrays of. A row that is zero or not finite is not
            valid in that stream.
        modality: `image` or `text` by stream; image where it says nothing.
        sample_ids: What the rows' images are called; by default the names of `images`, or else
            the row numbers. The rows of one image must follow one another, with the same labels
            and, in a stream of images, the same feature.
        captions: The rows' captions; None, or NaN as in pandas, where a row has none.
        images: The files of the rows' images, which contact sheets show; they stay where they are.
            Each is read once, for a thumbnail; one that cannot be read has none.
        label_ids: The rows' classes, as places in `classes`: an int a row, None where a row has no
            label, or a list of ints a row.
        classes: The names of the classes; or, where they form a tree, a table of schema
            `tables.CLASSES`: class_id (from 0), key, name, parent_id, depth.
        columns: What else is known of the rows, by name: texts, integers, floats or booleans, a
            value per row, None or NaN where it is not known. `rows.parquet` keeps them.
        thumbnails: Longest side in pixels of the pictures that the cache keeps of `images`, to show
            them where the files are not at hand; 0 keeps none.
        dtype: Type to store.
        rows_per_chunk: Rows per chunk.
        overwrite: Remove the cache that the folder holds, whatever it was made from. A folder that
            holds anything else is refused all the same.

    Returns:
        The cache, opened for reading.

    Raises:
        CacheError: The arguments do not fit each other, features are no floats, rows of one image
            contradict each other, or the folder holds something else.
    """
    _require_order(location, features)
    arrays = {name: as_array(name, values) for name, values in features.items()}
    rows = common_rows(arrays)
    require_lengths(rows, {"sample_ids": sample_ids, "captions": captions, "images": images})
    if rows_per_chunk < 1:
        raise CacheError(f"rows_per_chunk must be at least 1, not {rows_per_chunk}")
    if (fault := side_fault(thumbnails)) is not None:
        raise CacheError(fault)
    labels = rows_of_labels(label_ids) if label_ids is not None else [[]] * rows
    require_lengths(rows, {"label_ids": labels})
    class_table = table_of_classes(classes)
    require_classes(labels, class_table)
    files = None if images is None else locate(images)
    table = _rows_table(rows, sample_ids, captions, labels, files)
    table = _with_columns(table, columns or {})
    streams = _streams(arrays, modality or {}, dtype)
    _require_consistent_images(table, arrays, streams)
    notes = _notes_on_finite(arrays)
    manifest = Manifest(
        dataset=ARRAYS_DATASET if files is None else files.folder,
        dataset_format=ARRAYS_DATASET,
        split="",
        rows=table,
        classes=class_table,
    )
    folder = Folder(location) if not isinstance(location, Folder) else location
    with sole_writer(folder):
        if overwrite:
            remove_cache(folder)
        writer = ChunkWriter.open(folder, manifest, rows_per_chunk=rows_per_chunk, repair=True)
        for stream in streams:
            _write_stream(writer, stream, arrays[stream.name])
        writer.finish()
        if files is not None and thumbnails:
            write_thumbnails(folder, writer.info, table, files.folder, thumbnails)
    for note in notes:
        say(note)
    return ActivationCache(folder)


def _rows_table(
    rows: int,
    sample_ids: Sequence[str] | Sequence[int] | None,
    captions: Sequence[str | None] | None,
    labels: Sequence[Sequence[int]],
    files: ImageFiles | None,
) -> pa.Table:
    names = files.names if files is not None else [None] * rows
    if sample_ids is None:
        sample_ids = [name or str(row) for row, name in enumerate(names)]
    columns: dict[str, Any] = {
        "row": range(rows),
        "sample_id": names_of_rows(sample_ids),
        "image": names,
        "caption": captions_of_rows(captions if captions is not None else [None] * rows),
        "label_ids": labels,
    }
    return pa.table(columns, schema=tables.ROWS)


def _with_columns(table: pa.Table, columns: Mapping[str, Any]) -> pa.Table:
    arrays = {}
    for name, values in columns.items():
        try:
            tables.check_column_name(name)
            arrays[name] = column_array(values)
        except ValueError as error:
            raise CacheError(f"column {name!r}: {error}") from error
    require_lengths(len(table), {f"column {name!r}": array for name, array in arrays.items()})
    return tables.with_columns(table, arrays)


def _streams(
    arrays: Arrays, modality: Mapping[str, str], dtype: Literal["float16", "float32"]
) -> list[StreamInfo]:
    require_modality(modality, arrays)
    return [
        StreamInfo(
            name=name,
            modality="text" if modality.get(name) == "text" else "image",
            dim=values.shape[1],
            dtype=dtype,
            origin=StreamOrigin(
                spec="array",
                features_sha256=features_digest(values, dtype, rows_at_once=ROWS_PER_CHUNK),
            ),
        )
        for name, values in arrays.items()
    ]


def _write_stream(writer: ChunkWriter, stream: StreamInfo, features: npt.NDArray[Any]) -> None:
    """Write the chunks that are missing, and hold the others to the features.

    The writer has done that already where the stream's record has a digest of the features.
    """
    missing = set(writer.open_stream(stream))
    digested = bool(writer.cache.stream(stream.name).origin.features_sha256)
    for chunk in sorted(missing) if digested else range(writer.info.chunks):
        rows = writer.info.chunk_rows(chunk)
        part = features[rows.start : rows.stop]
        reasons = bad_features(part, rows.start, dtype=stream.dtype)
        if chunk in missing:
            writer.write(stream.name, chunk, part, reasons)
        else:
            _require_equal(writer.cache, stream.name, chunk, part, reasons)


# ---------------------------------------------------------------------- what is refused


def _require_order(location: Any, features: Any) -> None:
    """Refuse arguments that were swapped, or arrays without the names of their streams."""
    form = 'write_arrays("cache", {"dino": dino, "clip": clip})'
    if not isinstance(location, str | os.PathLike | Folder):
        kind = type(location).__name__
        raise CacheError(f"the cache's folder comes first, not a {kind}: {form}")
    if not isinstance(features, Mapping) or not all(isinstance(name, str) for name in features):
        raise CacheError(f"features need the names of their streams, in a dict: {form}")


def _notes_on_finite(arrays: Arrays) -> list[str]:
    """What to say of features that hold NaN or infinity; a stream that has no others is refused."""
    notes = []
    for name, values in arrays.items():
        pieces = (values[at : at + ROWS_PER_CHUNK] for at in range(0, len(values), ROWS_PER_CHUNK))
        bad = sum(int(find_faults(piece).not_finite.sum()) for piece in pieces)
        notes.append(note_on_not_finite(name, bad, len(values)))
    return [note for note in notes if note]


def _require_consistent_images(
    table: pa.Table, arrays: Arrays, streams: Sequence[StreamInfo]
) -> None:
    """Refuse rows of one image that contradict each other."""
    if (contradiction := next(tables.image_faults(table), None)) is not None:
        fault, wrong = contradiction
        raise CacheError(f"row {wrong[0]}: {fault}")
    same_image = tables.same_image(table)
    for stream in streams:
        for start in range(0, len(table), ROWS_PER_CHUNK) if stream.modality == "image" else ():
            rows = slice(max(start - 1, 0), start + ROWS_PER_CHUNK)
            features = arrays[stream.name][rows]
            require_same_features(stream, features, same_image[rows], first_row=rows.start)


def _require_equal(
    cache: ActivationCache,
    stream: str,
    chunk: int,
    features: npt.NDArray[Any],
    reasons: Mapping[int, str],
) -> None:
    """Refuse a written chunk that holds other features."""
    stored = cache.features(stream, chunk)
    wanted = features.astype(stored.dtype)
    wanted[[row - cache.info.chunk_rows(chunk).start for row in reasons]] = 0
    if not np.array_equal(stored, wanted):
        raise CacheError(
            f"{cache.folder} holds other features of stream {stream} (chunk {chunk} differs): "
            "choose another folder, or write over it with overwrite=True"
        )
