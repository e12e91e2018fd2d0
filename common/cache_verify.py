"""Looking for damage in an activation cache: checksums, tables and every promise of `CACHE.md`.

Where a reader stops at the first fault, this goes on and lists them all.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sparc.common import tables
from sparc.common.cache import (
    CLASSES_FILE,
    INFO_FILE,
    MASKS_FILE,
    REJECTS_FILE,
    ROWS_FILE,
    ActivationCache,
)
from sparc.common.errors import CacheError, DamagedCacheError, IncompleteCacheError


class Damage(NamedTuple):
    """Something in a cache that is not as it was written, or not as it must be.

    Attributes:
        where: A file of the cache, or an array as `stream/features`.
        what: What is wrong with it.
        rows: The rows that it concerns, where it concerns some and not all.
    """

    where: str
    what: str
    rows: range | None = None

    def __str__(self) -> str:
        rows = f", rows {self.rows.start} to {self.rows.stop - 1}" if self.rows else ""
        return f"{self.where}{rows}: {self.what}"


def verify(
    cache: ActivationCache, *, checked: Callable[[int], object] | None = None
) -> Iterator[Damage]:
    """Check a whole cache, reading every byte of it once, a chunk at a time.

    Args:
        cache: The cache; a chunk that was never written counts as damage.
        checked: Told how many more rows of a stream have been checked, if given.

    Yields:
        Every damage that was found.
    """
    rows = yield from _read(cache.rows, ROWS_FILE)
    classes = yield from _read(cache.classes, CLASSES_FILE)
    rejects = yield from _read(cache.rejects, REJECTS_FILE)
    masks = yield from _read(cache.masks, MASKS_FILE)
    if rows is not None:
        yield from _check_rows(cache, rows)
    if classes is not None:
        yield from _check_classes(classes)
        if rows is not None:
            yield from _check_labels(rows, len(classes))
    if masks is not None and rows is not None and classes is not None:
        yield from _check_masks(masks, rows, len(classes))
    if rejects is not None:
        yield from _check_rejects(cache, rejects, rows)
    complete = not any(cache.missing_chunks(stream) for stream in cache.stream_names)
    if complete and not cache.folder.exists(REJECTS_FILE):
        yield Damage(REJECTS_FILE, "it is missing, though every chunk has been written")
    for stream in cache.stream_names:
        yield from _check_stream(cache, stream, rejects, checked)


def _read(
    read: Callable[[], pa.Table | None], name: str
) -> "Iterator[Damage] | Any":  # a generator that returns the table
    try:
        return read()
    except DamagedCacheError as error:
        yield Damage(name, str(error))
        return None


def _check_rows(cache: ActivationCache, rows: pa.Table) -> Iterator[Damage]:
    if tables.manifest_digest(rows) != cache.info.manifest_digest:
        yield Damage(ROWS_FILE, f"its digest is not the manifest_digest of {INFO_FILE}")
    numbers = rows.column("row").to_numpy()
    wrong = np.flatnonzero(numbers != np.arange(len(rows)))
    if len(wrong):
        yield Damage(ROWS_FILE, "column row does not count from 0", _span(wrong))
    ids = rows.column("sample_id").combine_chunks()
    starts = np.ones(len(rows), dtype=np.bool_)
    if len(rows) > 1:
        starts[1:] = pc.not_equal(ids.slice(1), ids.slice(0, len(ids) - 1)).to_numpy(
            zero_copy_only=False
        )
    if int(starts.sum()) != pc.count_distinct(ids).as_py():
        yield Damage(ROWS_FILE, "the rows of one sample_id do not all follow one another")


def _check_classes(classes: pa.Table) -> Iterator[Damage]:
    count = len(classes)
    if classes.column("class_id").to_pylist() != list(range(count)):
        yield Damage(CLASSES_FILE, "column class_id does not count from 0")
        return
    parents = classes.column("parent_id").to_pylist()
    depths = classes.column("depth").to_pylist()
    for class_id, (parent, depth) in enumerate(zip(parents, depths, strict=True)):
        if parent is not None and not 0 <= parent < count:
            yield Damage(CLASSES_FILE, f"class {class_id} has the parent {parent}, which is none")
        if depth < 1 or (parent is None) != (depth == 1):
            yield Damage(CLASSES_FILE, f"class {class_id} is at depth {depth}, parent {parent}")
        elif parent is not None and 0 <= parent < count and depths[parent] >= depth:
            yield Damage(CLASSES_FILE, f"class {class_id} is not deeper than its parent {parent}")


def _check_labels(rows: pa.Table, classes: int) -> Iterator[Damage]:
    labels = rows.column("label_ids").combine_chunks()
    ids = labels.flatten().to_numpy(zero_copy_only=False)
    bad = (ids < 0) | (ids >= classes)
    if bad.any():
        holders = pc.list_parent_indices(labels).to_numpy(zero_copy_only=False)
        span = _span(np.asarray(holders)[bad])
        yield Damage(ROWS_FILE, f"label_ids hold classes that {CLASSES_FILE} has not", span)


def _check_masks(masks: pa.Table, rows: pa.Table, classes: int) -> Iterator[Damage]:
    ids = masks.column("class_id").to_numpy()
    if ((ids < 0) | (ids >= classes)).any():
        yield Damage(MASKS_FILE, f"class_id names classes that {CLASSES_FILE} has not")
    known = pc.is_in(masks.column("sample_id"), rows.column("sample_id").combine_chunks())
    if not pc.all(known, min_count=0).as_py():
        yield Damage(MASKS_FILE, f"sample_id names pictures that {ROWS_FILE} has not")
    counts = masks.column("counts").combine_chunks()
    lengths = np.diff(counts.offsets.to_numpy())
    runs = counts.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
    covered = np.zeros(len(masks), dtype=np.int64)
    np.add.at(covered, np.repeat(np.arange(len(masks)), lengths), runs)
    area = masks.column("height").to_numpy().astype(np.int64) * masks.column("width").to_numpy()
    for index in np.flatnonzero(covered != area):
        yield Damage(MASKS_FILE, f"the runs of mask {index} do not add up to height x width")


def _check_rejects(
    cache: ActivationCache, rejects: pa.Table, rows: pa.Table | None
) -> Iterator[Damage]:
    numbers = rejects.column("row").to_numpy()
    outside = (numbers < 0) | (numbers >= cache.info.rows)
    if outside.any():
        yield Damage(REJECTS_FILE, "it names rows that the cache has not")
    elif rows is not None:
        wanted = rows.column("sample_id").take(rejects.column("row"))
        if not pc.all(pc.equal(wanted, rejects.column("sample_id")), min_count=0).as_py():
            yield Damage(REJECTS_FILE, f"its sample_id is not the one of {ROWS_FILE}")
    for stream in sorted(set(rejects.column("stream").unique().to_pylist())):
        if stream not in cache.stream_names:
            yield Damage(REJECTS_FILE, f"it names the stream {stream!r}, which the cache has not")


def _check_stream(
    cache: ActivationCache,
    stream: str,
    rejects: pa.Table | None,
    checked: Callable[[int], object] | None,
) -> Iterator[Damage]:
    try:
        faults = cache.layout_faults(stream)
    except DamagedCacheError as error:
        yield Damage(stream, str(error))
        return
    for fault in faults:
        yield Damage(stream, fault)
    rejected = np.zeros(cache.info.rows, dtype=np.bool_)
    if rejects is not None:
        of_stream = rejects.filter(pc.equal(rejects.column("stream"), stream))
        numbers = of_stream.column("row").to_numpy()
        rejected[numbers[(numbers >= 0) & (numbers < cache.info.rows)]] = True
    for chunk in range(cache.info.chunks):
        rows = cache.info.chunk_rows(chunk)
        values = yield from _read_chunk(cache.features, stream, "features", chunk, rows)
        valid = yield from _read_chunk(cache.valid, stream, "valid", chunk, rows)
        if valid is not None and rejects is not None:
            for row in np.flatnonzero(valid == rejected[rows.start : rows.stop]) + rows.start:
                what = (
                    "is valid and rejected" if rejected[row] else "is not valid, without a reason"
                )
                yield Damage(f"{stream}/valid", f"the row {what}", range(row, row + 1))
        if valid is not None and values is not None:
            yield from _check_values(stream, rows, values, valid)
        if checked is not None:
            checked(len(rows))


def _read_chunk(
    read: Callable[[str, int], npt.NDArray[Any]], stream: str, name: str, chunk: int, rows: range
) -> "Iterator[Damage] | Any":  # a generator that returns the values
    where = f"{stream}/{name}, chunk {chunk}"
    try:
        return read(stream, chunk)
    except IncompleteCacheError:
        yield Damage(where, "it has not been written", rows)
    except CacheError as error:
        yield Damage(where, str(error.__cause__ or error), rows)
    return None


def _check_values(
    stream: str, rows: range, values: npt.NDArray[Any], valid: npt.NDArray[np.bool_]
) -> Iterator[Damage]:
    finite = np.isfinite(values).all(axis=1)
    # As bytes: NumPy is slow at comparing float16 values.
    zero = ~values.view(np.uint8).any(axis=1)
    for what, wrong in (
        ("a valid feature is not finite", valid & ~finite),
        ("a valid feature is zero", valid & zero),
        ("the feature of a row that is not valid is not zero", ~valid & ~zero),
    ):
        for row in np.flatnonzero(wrong) + rows.start:
            yield Damage(f"{stream}/features", what, range(row, row + 1))


def _span(rows: npt.NDArray[Any]) -> range:
    """The smallest span that holds all of those rows."""
    return range(int(rows.min()), int(rows.max()) + 1)
