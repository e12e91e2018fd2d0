"""Whether a folder may be continued as the cache of a dataset, and what is known of its streams.

Everything here reads, compares and refuses; nothing is written.
"""

import dataclasses
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa

from sparc.common.cache import tables
from sparc.common.cache.account.document import ACCOUNT_FILE
from sparc.common.cache.info import (
    ACTIVATIONS,
    APPEND_ADVICE,
    APPENDED_FILE,
    ARRAYS_DATASET,
    CLASSES_FILE,
    CLUSTER_FILE,
    INFO_FILE,
    KIND,
    MASKS_FILE,
    ROOT_DOCUMENT,
    ROWS_FILE,
    CacheInfo,
)
from sparc.common.cache.layout import (
    DOCUMENT,
    STREAM_DOCUMENTS,
    Checksums,
    array_faults,
    attributes_of,
    group_differs,
    recorded_checksums,
    recorded_cut,
    records_of,
    stream_documents,
)
from sparc.common.cache.reader import ActivationCache
from sparc.common.config import from_mapping
from sparc.common.errors import CacheError, ConfigError, DamagedCacheError, UnknownSettingError
from sparc.common.files.durable import is_leftover
from sparc.common.files.folder import Folder
from sparc.common.files.lock import LOCK_FILE
from sparc.common.progress import say
from sparc.common.streams.info import StreamInfo
from sparc.common.streams.origin import EncoderDifference, excused_fields
from sparc.common.text import printable, shorten

_TABLES = {ROWS_FILE: tables.ROWS, CLASSES_FILE: tables.CLASSES, MASKS_FILE: tables.MASKS}
"""What is written before `cache.json` is; other programs use these names, too."""


# ---------------------------------------------------------------------- the folder


def recognize(folder: Folder) -> None:
    """Refuse a folder that is neither a cache, of any dataset, nor the start of one.

    One in which batches are being appended is such a start.

    Raises:
        CacheError: It holds something else, or a cache of another version.
    """
    if CacheInfo.read_copy(folder) is None:
        if not folder.exists(INFO_FILE):
            if not folder.exists(APPENDED_FILE):
                refuse_other_content(folder)
        elif f'"{KIND.format}"'.encode() not in folder.read(INFO_FILE):
            CacheInfo.read(folder)  # one that is damaged may still be repaired


def refuse_other_content(folder: Folder) -> None:
    """Refuse a folder without `cache.json` that holds more than an interrupted start of a cache."""
    if folder.exists(APPENDED_FILE):
        raise CacheError(
            f"{folder} holds a cache that was begun in batches and not closed: {APPEND_ADVICE}; or "
            "remove it, or choose another folder"
        )
    ours: tuple[str, ...] = (*_TABLES, ACCOUNT_FILE, INFO_FILE, CLUSTER_FILE)
    if CacheInfo.read_copy(folder) is not None:
        ours = (*ours, ROOT_DOCUMENT)
    for name in folder.files():
        is_begun = is_leftover(name, (*ours, ROOT_DOCUMENT, LOCK_FILE))
        is_foreign = name in _TABLES and not tables.has_schema(folder, name, _TABLES[name])
        if is_foreign or (name not in (*ours, LOCK_FILE) and not is_begun):
            raise CacheError(
                f"{folder} is not empty and not a cache (it holds {name}): choose another"
            )


def existing_info(folder: Folder, wanted: CacheInfo, *, repair: bool) -> CacheInfo | None:
    """What `cache.json` says, or its copy where it is lost or agrees less with the dataset.

    Args:
        folder: The cache's folder.
        wanted: What it should say of the dataset.
        repair: Pass over a `cache.json` that cannot be read.

    Returns:
        None where there is no cache yet.

    Raises:
        CacheError: It cannot be read, nor, with `repair`, can its copy.
    """
    copy = CacheInfo.read_copy(folder)
    if not folder.exists(INFO_FILE):
        return copy if copy is not None and copy.streams else None
    accounts = [] if copy is None else [copy]
    try:
        accounts.insert(0, CacheInfo.read(folder))
    except CacheError as error:
        if not repair or (not accounts and not isinstance(error, DamagedCacheError)):
            raise
        if not accounts:
            raise CacheError(
                f"{folder}: neither {INFO_FILE} nor {ROOT_DOCUMENT}, which repeats it, "
                "can be read: extract into another folder"
            ) from error
        say(printable(str(error).partition(";")[0]))
    fields = [f.name for f in dataclasses.fields(CacheInfo) if f.name != "streams"]
    return max(accounts, key=lambda i: sum(getattr(i, n) == getattr(wanted, n) for n in fields))


# ---------------------------------------------------------------------- the dataset


def refuse_other_classes(folder: Folder, wanted: pa.Table) -> None:
    """Refuse classes that are not those of the cache."""
    classes = ActivationCache(folder).classes()
    if not classes.equals(wanted.select(tables.CLASSES.names).cast(tables.CLASSES)):
        raise CacheError(
            f"{folder} was made with other classes; choose another folder, or repeat the settings "
            "of labels, classes and hierarchy"
        )


def refuse_other_dataset(
    folder: Folder, existing: CacheInfo, wanted: CacheInfo, rows: pa.Table
) -> None:
    """Refuse rows, or a division into chunks, that are not those of the cache."""
    difference = next(
        (
            f"{what}: {a} there, {b} now"
            for what, a, b in (
                ("rows", existing.rows, wanted.rows),
                ("rows per chunk", existing.rows_per_chunk, wanted.rows_per_chunk),
            )
            if a != b
        ),
        None,
    )
    if difference is None and existing.manifest_digest != wanted.manifest_digest:
        difference = _first_difference(ActivationCache(folder), rows)
    if difference is not None:
        way_out = (
            f"repeat what made it, from {shorten(existing.dataset, 200)}, choose another folder, "
            "or remove this cache with --overwrite"
        )
        if wanted.made_from == ARRAYS_DATASET:
            way_out = "write over it with overwrite=True, or choose another folder"
        raise CacheError(
            f"{folder} was made from another dataset or with other settings ({difference}): "
            f"{way_out}"
        )


def _first_difference(cache: ActivationCache, wanted: pa.Table) -> str:
    """In what a cache's rows are not those of a manifest of as many rows."""
    try:
        existing = cache.rows([*tables.ROWS.names, *cache.columns.names])
    except DamagedCacheError:
        return f"{ROWS_FILE}, which would say more, is missing or damaged"
    columns = cache.columns, tables.dataset_columns(wanted.schema)
    if columns[0] != columns[1]:
        there, now = (
            shorten(", ".join(f"{c.name} {c.type}" for c in schema), 100) or "none"
            for schema in columns
        )
        return f"columns of the dataset: {there} there, {now} now"
    for name in wanted.column_names[1:]:
        values = existing.column(name).to_pylist(), wanted.column(name).to_pylist()
        for row, (a, b) in enumerate(zip(*values, strict=True)):
            if a != b:
                return (
                    f"row {row}, {name}: {shorten(repr(a), 60)} there, {shorten(repr(b), 60)} now"
                )
    return f"the manifest_digest of {INFO_FILE} is not that of {ROWS_FILE}"


# ---------------------------------------------------------------------- a stream


@dataclasses.dataclass
class StreamState:
    """What a writer knows of a stream and keeps in its metadata.

    Attributes:
        info: What the stream is and what made it.
        cut: How many captions were cut at the encoder's context, by chunk, as far as known.
        checksums: Of the chunks of both arrays.
    """

    info: StreamInfo
    cut: dict[int, int]
    checksums: Checksums

    @classmethod
    def new(cls, stream: StreamInfo, chunks: int) -> "StreamState":
        """Of a stream that has no chunks yet."""
        return cls(stream, {}, recorded_checksums({}, chunks))

    def documents(self, cache: CacheInfo) -> dict[str, bytes]:
        """The metadata that the stream should have, by file below its folder."""
        return stream_documents(
            self.info,
            rows=cache.rows,
            rows_per_chunk=cache.rows_per_chunk,
            cut=self.cut,
            checksums=self.checksums,
        )


def existing_stream(
    folder: Folder, cache: CacheInfo, wanted: StreamInfo
) -> tuple[StreamState, list[str]]:
    """What is known of a stream that has chunks.

    Args:
        folder: The cache's folder.
        cache: Its `cache.json`.
        wanted: The stream that is to be continued.

    Returns:
        The state of the stream, and which of its documents are lost or damaged.

    Raises:
        CacheError: It was made in another way, or nothing says how.
    """
    below = f"{ACTIVATIONS}/{wanted.name}"
    files = {name: f"{below}/{name}" for name in STREAM_DOCUMENTS}
    stored = {name: folder.read(file) for name, file in files.items() if folder.exists(file)}
    readable, unknown = _stream_infos([stored.get(name, b"") for name in STREAM_DOCUMENTS[:2]])
    if not readable and unknown is not None:
        raise KIND.newer(unknown, where=f"{folder}/{files[DOCUMENT]}")
    if not readable:
        raise CacheError(
            f"{folder}: nothing says any more what made the chunks of stream "
            f"{wanted.name}; remove {below} to encode all of them again"
        )
    same = (info for info in readable if stream_difference(info, wanted) is None)
    made_by = next(same, readable[0])
    if (difference := stream_difference(made_by, wanted)) is not None:
        what, first, second = difference
        if what == "features_sha256":
            raise CacheError(
                f"{folder} holds other features of stream {wanted.name}: choose another folder, "
                "or write over it with overwrite=True"
            )
        encoders = f", of {made_by.origin.spec} and {wanted.origin.spec}"
        digest = what.endswith("_sha256")
        raise CacheError(
            f"{folder}: stream {wanted.name} was made in another way "
            f"({what}: {first!r} there, {second!r} now{encoders if digest else ''}); "
            "give the new stream another name or folder"
        )
    records: dict[str, Any] = {}
    with suppress(ValueError):  # damaged records are gathered again
        records = records_of(stored.get(f"valid/{DOCUMENT}", b""))
    state = StreamState(made_by, recorded_cut(records), recorded_checksums(records, cache.chunks))
    lost = [
        name
        for name, document in state.documents(cache).items()
        if name not in stored or _differs(name, stored[name], document)
    ]
    return state, lost


def stream_difference(existing: StreamInfo, wanted: StreamInfo) -> EncoderDifference | None:
    """In what two streams were not made alike; None where they were."""
    a, b = _flat(existing), _flat(wanted)
    excused = excused_fields(existing.origin, wanted.origin)
    for name, now in b.items():
        if name not in excused and a[name] != now:
            return EncoderDifference(name, a[name], now)
    return None


def _flat(stream: StreamInfo) -> dict[str, Any]:
    return {**vars(stream), **vars(stream.origin), "origin": None}


def _stream_infos(
    documents: Sequence[bytes],
) -> tuple[list[StreamInfo], UnknownSettingError | None]:
    """What documents say made a stream, where they can be read, and a setting that is unknown."""
    infos: list[StreamInfo] = []
    unknown = None
    for document in documents:
        try:
            infos.append(from_mapping(StreamInfo, attributes_of(document) or {}, source=DOCUMENT))
        except UnknownSettingError as error:
            unknown = error
        except (TypeError, ConfigError):
            continue
    return infos, unknown


def _differs(name: str, stored: bytes, wanted: bytes) -> bool:
    """Whether a document says something else than it should."""
    if name == DOCUMENT:
        return group_differs(stored, wanted)
    return bool(array_faults(stored, wanted)) or attributes_of(stored) != attributes_of(wanted)
