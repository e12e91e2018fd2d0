"""Looking for damage in an activation cache: checksums, tables and every promise of `CACHE.md`.

A reader stops at the first fault; this module lists them all.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sparc.common.cache import tables
from sparc.common.cache.account.document import ACCOUNT_FILE, account_fault
from sparc.common.cache.features import differing, find_faults
from sparc.common.cache.info import (
    ACTIVATIONS,
    AGREEMENT_FILE,
    CLASSES_FILE,
    INFO_FILE,
    MASKS_FILE,
    REJECTS_FILE,
    ROOT_DOCUMENT,
    ROWS_FILE,
    CacheInfo,
    chunk_files,
)
from sparc.common.cache.layout import ARRAYS, DOCUMENT, attributes_of, group_differs, root_document
from sparc.common.cache.parts.cut import cut_faults
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.thumbnails.table import thumbnail_file
from sparc.common.errors import DamagedCacheError, IncompleteCacheError
from sparc.common.text import amount, reason

THREADS = 4
"""Chunks checked at once: enough for a disk that answers slowly."""

NOT_WRITTEN = "it has not been written"
"""What is wrong with a chunk that an extraction has still to make."""


class Damage(NamedTuple):
    """Something in a cache that is not as it was written, or not as it must be.

    Attributes:
        where: A file of the cache, or a chunk as `stream, chunk 3`.
        what: What is wrong with it.
        rows: The rows that it concerns, where it concerns some and not all.
        files: What has to be removed before the extraction restores it; nothing where it writes
            over what is damaged.
    """

    where: str
    what: str
    rows: range | None = None
    files: tuple[str, ...] = ()

    def __str__(self) -> str:
        rows = f", rows {self.rows.start} to {self.rows.stop - 1}" if self.rows else ""
        return f"{self.where}{rows}: {self.what}"


def verify(
    cache: ActivationCache, *, checked: Callable[[int], object] | None = None
) -> Iterator[Damage]:
    """Check a whole cache, reading every byte of it once.

    Args:
        cache: The cache; a chunk that was never written counts as damage.
        checked: Called with how many more rows of a stream, or with thumbnails, have been checked,
            if given.

    Yields:
        All damage, one item per chunk.
    """
    rejects = yield from check_tables(cache)
    for stream in cache.stream_names:
        yield from check_stream(cache, stream, rejects, checked=checked)
    yield from check_thumbnails(cache, checked=checked)


def check_tables(
    cache: ActivationCache,
) -> "Iterator[Damage] | Any":  # a generator that returns the rejects
    """Check the tables and `cache.json`; returns the rejects, or None where some are missing.

    Yields:
        All damage.
    """
    yield from check_copy(cache)
    rows = yield from _read(cache, ROWS_FILE, tables.ROWS)
    classes = yield from _read(cache, CLASSES_FILE, tables.CLASSES)
    rejects = yield from _read_rejects(cache)
    masks = None
    if cache.folder.exists(MASKS_FILE):
        masks = yield from _read(cache, MASKS_FILE, tables.MASKS)
    small = {ACCOUNT_FILE: account_fault(cache.folder), **cut_faults(cache.folder)}
    yield from (_in_table(file, fault) for file, fault in small.items() if fault)
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
    return rejects


def _read(
    cache: ActivationCache, name: str, schema: pa.Schema
) -> "Iterator[Damage] | Any":  # a generator that returns the table
    try:
        wanted = tables.rows_schema(cache.folder, name) if schema is tables.ROWS else schema
        return tables.read_table(cache.folder, name, wanted)
    except DamagedCacheError as error:
        yield _in_table(name, _plain(cache, error))
        return None


def _read_rejects(cache: ActivationCache) -> "Iterator[Damage] | Any":
    """The rejects, or None where some cannot be read or the table is missing."""
    names = cache.reject_parts()
    complete = False
    with suppress(DamagedCacheError):  # which is listed with the stream
        complete = not any(cache.missing_chunks(stream) for stream in cache.stream_names)
    is_gathered = complete and not names and not cache.folder.exists(AGREEMENT_FILE)
    if cache.folder.exists(REJECTS_FILE) or is_gathered:
        names.append(REJECTS_FILE)
    whole = True
    for name in names:
        table = yield from _read(cache, name, tables.REJECTS)
        whole = whole and table is not None
    return cache.rejects_so_far() if whole else None


def _in_table(name: str, what: str, rows: range | None = None) -> Damage:
    """Damage in a table, which has to be written again."""
    return Damage(name, what, rows, files=(name,))


def _plain(cache: ActivationCache, error: DamagedCacheError) -> str:
    """What is wrong, without the place that every line begins with and the advice that ends all."""
    what = str(error).removeprefix(f"{cache.folder}: ").removeprefix(f"{cache.folder}/")
    return what.removesuffix(f"; {cache.repair_advice}")


def check_copy(cache: ActivationCache) -> Iterator[Damage]:
    """Hold `cache.json` against the attributes of the Zarr group, which repeat it."""
    try:
        content = cache.folder.read(ROOT_DOCUMENT)
    except FileNotFoundError:
        content = b""
    attributes = attributes_of(content)
    if attributes is None or group_differs(content, root_document(attributes)):
        yield Damage(ROOT_DOCUMENT, "it is missing or not readable")
    elif attributes and CacheInfo.read_copy(cache.folder) != cache.info:
        yield Damage(INFO_FILE, f"it is not what {ROOT_DOCUMENT} repeats")


def _check_rows(cache: ActivationCache, rows: pa.Table) -> Iterator[Damage]:
    if not tables.has_digest(rows, cache.info.manifest_digest):
        yield _in_table(ROWS_FILE, f"its digest is not the manifest_digest of {INFO_FILE}")
    numbers = rows.column("row").to_numpy()
    wrong = np.flatnonzero(numbers != np.arange(len(rows)))
    if len(wrong):
        yield _in_table(ROWS_FILE, "column row does not count from 0", _span(wrong))
    for fault, wrong in tables.image_faults(rows):
        yield _in_table(ROWS_FILE, fault, _span(wrong))


def _check_classes(classes: pa.Table) -> Iterator[Damage]:
    if not tables.counts_from_0(classes["class_id"]):
        yield _in_table(CLASSES_FILE, "column class_id does not count from 0")
        return
    for fault in tables.class_faults(classes):
        yield _in_table(CLASSES_FILE, fault)


def _check_labels(rows: pa.Table, classes: int) -> Iterator[Damage]:
    labels = rows.column("label_ids").combine_chunks()
    ids = labels.flatten().to_numpy(zero_copy_only=False)
    bad = (ids < 0) | (ids >= classes)
    if bad.any():
        holders = pc.list_parent_indices(labels).to_numpy(zero_copy_only=False)
        span = _span(np.asarray(holders)[bad])
        yield _in_table(ROWS_FILE, f"label_ids hold classes that {CLASSES_FILE} has not", span)


def _check_masks(masks: pa.Table, rows: pa.Table, classes: int) -> Iterator[Damage]:
    ids = masks.column("class_id").to_numpy()
    if ((ids < 0) | (ids >= classes)).any():
        yield _in_table(MASKS_FILE, f"class_id names classes that {CLASSES_FILE} has not")
    known = pc.is_in(masks.column("sample_id"), rows.column("sample_id").combine_chunks())
    if not pc.all(known, min_count=0).as_py():
        yield _in_table(MASKS_FILE, f"sample_id names images that {ROWS_FILE} has not")
    yield from (_in_table(MASKS_FILE, fault) for fault in tables.mask_faults(masks))


def _check_rejects(
    cache: ActivationCache, rejects: pa.Table, rows: pa.Table | None
) -> Iterator[Damage]:
    files = (REJECTS_FILE, *cache.reject_parts())
    numbers = rejects.column("row").to_numpy()
    outside = (numbers < 0) | (numbers >= cache.info.rows)
    if outside.any():
        yield Damage(REJECTS_FILE, "it names rows that the cache has not", files=files)
    elif rows is not None:
        wanted = rows.column("sample_id").take(rejects.column("row"))
        if not pc.all(pc.equal(wanted, rejects.column("sample_id")), min_count=0).as_py():
            yield Damage(REJECTS_FILE, f"its sample_id is not the one of {ROWS_FILE}", files=files)
    for stream in sorted(set(rejects.column("stream").unique().to_pylist())):
        if stream not in cache.stream_names:
            yield Damage(
                REJECTS_FILE,
                f"it names the stream {stream!r}, which the cache has not",
                files=files,
            )


def check_stream(
    cache: ActivationCache,
    stream: str,
    rejects: pa.Table | None,
    *,
    checked: Callable[[int], object] | None = None,
) -> Iterator[Damage]:
    """Check the metadata and every chunk of a stream.

    Args:
        cache: The cache.
        stream: Which stream.
        rejects: Of schema `tables.REJECTS`; None where they cannot be read.
        checked: Called with how many more rows have been checked, if given.
    """
    whole = yield from check_metadata(cache, stream)
    if not whole:
        return
    rejected = None
    if rejects is not None:
        rejected = np.zeros(cache.info.rows, dtype=np.bool_)
        of_stream = rejects.filter(pc.equal(rejects.column("stream"), stream))
        numbers = of_stream.column("row").to_numpy()
        rejected[numbers[(numbers >= 0) & (numbers < cache.info.rows)]] = True

    same_image = np.zeros(cache.info.rows, dtype=np.bool_)
    if cache.stream(stream).modality == "image":
        with suppress(DamagedCacheError):  # which is listed with the tables
            same_image = tables.same_image(cache.rows(["sample_id"]))

    def check(chunk: int) -> Damage | None:
        rows = cache.info.chunk_rows(chunk)
        mine = None if rejected is None else rejected[rows.start : rows.stop]
        return _check_chunk(cache, stream, chunk, mine, same_image[rows.start : rows.stop])

    yield from _damage_by_chunk(cache, check, checked)


def check_thumbnails(
    cache: ActivationCache, *, checked: Callable[[int], object] | None = None
) -> Iterator[Damage]:
    """Check the files of thumbnails, every picture included, if there are any; see `verify`."""
    if not cache.thumbnails.chunks:
        return

    def check(chunk: int) -> Damage | None:
        fault = cache.thumbnails.fault(chunk)
        rows, files = cache.info.chunk_rows(chunk), (thumbnail_file(chunk),)
        return None if fault is None else Damage(f"thumbnails, chunk {chunk}", fault, rows, files)

    yield from _damage_by_chunk(cache, check, checked)


def _damage_by_chunk(
    cache: ActivationCache,
    check: Callable[[int], Damage | None],
    checked: Callable[[int], object] | None,
) -> Iterator[Damage]:
    """Check all chunks in several threads, never far ahead of the one whose turn it is."""
    with ThreadPoolExecutor(THREADS) as pool:
        waiting: deque[Future[Damage | None]] = deque()
        for chunk in range(cache.info.chunks):
            ahead = min(chunk + 2 * THREADS, cache.info.chunks)
            waiting.extend(pool.submit(check, c) for c in range(chunk + len(waiting), ahead))
            if (damage := waiting.popleft().result()) is not None:
                yield damage
            if checked is not None:
                checked(len(cache.info.chunk_rows(chunk)))


def check_metadata(
    cache: ActivationCache, stream: str
) -> "Iterator[Damage] | Any":  # a generator that returns whether chunks can be read
    """Check the metadata of a stream and of its arrays, and what is recorded of its chunks.

    Yields:
        All damage.
    """
    try:
        document = cache.stored.documents(stream)
    except DamagedCacheError as error:
        yield Damage(stream, _plain(cache, error))
        return False
    group = cache.folder.read(f"{ACTIVATIONS}/{stream}/{DOCUMENT}")
    if group_differs(group, document[DOCUMENT]):
        yield Damage(stream, f"its {DOCUMENT} is not that of a group")
        return False
    whole = True
    for name in ARRAYS:
        for fault in cache.stored.layout_faults(stream, name):
            yield Damage(stream, f"array {name} {fault}")
            whole = False
    if whole:
        file = f"{ACTIVATIONS}/{stream}/features/{DOCUMENT}"
        copy = attributes_of(cache.folder.read(file))
        if copy and copy != attributes_of(document[DOCUMENT]):
            what = f"{DOCUMENT} and features/{DOCUMENT} differ in what made the stream"
            yield Damage(stream, what)
    return whole


def _check_chunk(
    cache: ActivationCache,
    stream: str,
    chunk: int,
    rejected: npt.NDArray[np.bool_] | None,
    same_image: npt.NDArray[np.bool_],
) -> Damage | None:
    """What is wrong with a chunk, in one line.

    Args:
        cache: The cache.
        stream: Which stream.
        chunk: Which chunk.
        rejected: (rows of the chunk,) whether the row has a reason; None where that is not known.
        same_image: (rows of the chunk,) whether the row shows the image of the row before.
    """
    rows = cache.info.chunk_rows(chunk)
    values, features_fault = _try(cache.features, stream, chunk)
    valid, valid_fault = _try(cache.valid, stream, chunk)
    files = chunk_files(stream, chunk)
    what: list[str] = []
    if features_fault and features_fault == valid_fault:
        what.append(features_fault)
    else:
        faults = zip(ARRAYS, (features_fault, valid_fault), strict=True)
        what.extend(f"{name}: {fault}" for name, fault in faults if fault)
    if values is not None and valid is not None:
        faults_by_row = find_faults(values)
        what += _clause("a valid feature is not finite", rows, valid & faults_by_row.not_finite)
        what += _clause("a valid feature is zero", rows, valid & faults_by_row.zero)
        what += _clause(
            "the feature of a row that is not valid is not zero", rows, ~valid & ~faults_by_row.zero
        )
        unlike = differing(values, same_image, valid)
        what += _clause("the feature is not that of the same image's row before", rows, unlike)
    remakes = bool(what)
    if valid is not None and rejected is not None:
        contradicted = _clause("the row is valid and rejected", rows, valid & rejected)
        remakes = remakes or bool(contradicted)
        what += contradicted
        # Reasons can be restored without encoding the chunk again.
        what += _clause("the row is not valid, without a reason", rows, ~valid & ~rejected)
    if not what:
        return None
    where = f"{stream}, chunk {chunk}"
    return Damage(where, "; ".join(what), rows, files if remakes else ())


def _try(
    read: Callable[[str, int], npt.NDArray[Any]], stream: str, chunk: int
) -> tuple[npt.NDArray[Any] | None, str]:
    """The values, or what hinders reading them."""
    try:
        return read(stream, chunk), ""
    except IncompleteCacheError:
        return None, NOT_WRITTEN
    except DamagedCacheError as error:
        return None, reason(error.__cause__ or error)


def _clause(what: str, rows: range, wrong: npt.NDArray[np.bool_]) -> list[str]:
    """One clause about the rows of a chunk that are wrong; none where none is."""
    places = np.flatnonzero(wrong)
    if not len(places):
        return []
    more = f" and {amount(len(places) - 1, 'more row')}" if len(places) > 1 else ""
    return [f"row {rows.start + int(places[0])}{more}: {what}"]


def _span(rows: npt.NDArray[Any]) -> range:
    """The smallest span that holds all of those rows."""
    return range(int(rows.min()), int(rows.max()) + 1)
