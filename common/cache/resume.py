"""Whether a folder may go on as the cache of a dataset: what was written must be what is wanted.

Everything here compares and refuses; nothing is written.
"""

from typing import Any

import pyarrow as pa

from sparc.common.cache import tables
from sparc.common.cache.reader import (
    CLASSES_FILE,
    FORMAT,
    INFO_FILE,
    MASKS_FILE,
    ROOT_DOCUMENT,
    ROWS_FILE,
    ActivationCache,
    CacheInfo,
)
from sparc.common.config import to_mapping
from sparc.common.errors import CacheError
from sparc.common.files.durable import is_leftover
from sparc.common.files.folder import Folder
from sparc.common.files.lock import LOCK_FILE
from sparc.common.streams.spec import StreamInfo, same_spec
from sparc.common.text import shorten

_TABLES = {ROWS_FILE: tables.ROWS, CLASSES_FILE: tables.CLASSES, MASKS_FILE: tables.MASKS}
"""What is written before `cache.json` is; other programs name their tables so, too."""


def recognize(folder: Folder) -> None:
    """Refuse a folder that is neither a cache, of any dataset, nor the start of one.

    Raises:
        CacheError: It holds something else, or a cache of another version.
    """
    if CacheInfo.read_copy(folder) is None:
        if not folder.exists(INFO_FILE):
            refuse_other_content(folder)
        elif f'"{FORMAT}"'.encode() not in folder.read(INFO_FILE):
            CacheInfo.read(folder)  # one that is damaged may still be repaired


def refuse_other_content(folder: Folder) -> None:
    """Without cache.json only what an interrupted start of a cache leaves may be there."""
    ours: tuple[str, ...] = (*_TABLES, INFO_FILE)
    if CacheInfo.read_copy(folder) is not None:
        ours = (*ours, ROOT_DOCUMENT)
    for name in folder.files():
        began = is_leftover(name, (*ours, ROOT_DOCUMENT, LOCK_FILE))
        is_foreign = name in _TABLES and not tables.has_schema(folder, name, _TABLES[name])
        if is_foreign or (name not in (*ours, LOCK_FILE) and not began):
            raise CacheError(
                f"{folder} is not empty and not a cache (it holds {name}): choose another"
            )


def refuse_other_classes(folder: Folder, wanted: pa.Table) -> None:
    """Refuse classes that are not those of the cache."""
    found = ActivationCache(folder).classes()
    if not found.equals(wanted.select(tables.CLASSES.names).cast(tables.CLASSES)):
        raise CacheError(
            f"{folder} was made with other classes; choose another folder, or repeat the settings "
            "of labels, classes and hierarchy"
        )


def refuse_other_dataset(
    folder: Folder, found: CacheInfo, wanted: CacheInfo, rows: pa.Table
) -> None:
    """Refuse rows, or a division into chunks, that are not those of the cache."""
    difference = next(
        (
            f"{what}: {a} there, {b} now"
            for what, a, b in (
                ("rows", found.rows, wanted.rows),
                ("rows a chunk", found.rows_per_chunk, wanted.rows_per_chunk),
            )
            if a != b
        ),
        None,
    )
    if difference is None and found.manifest_digest != wanted.manifest_digest:
        difference = _first_difference(tables.read_table(folder, ROWS_FILE, tables.ROWS), rows)
    if difference is not None:
        raise CacheError(
            f"{folder} was made from another dataset or with other settings ({difference}): repeat "
            f"what made it, from {shorten(found.dataset, 200)}, or choose another folder"
        )


def _first_difference(found: pa.Table, wanted: pa.Table) -> str:
    for name in ("sample_id", "image", "caption", "label_ids"):
        columns = found.column(name).to_pylist(), wanted.column(name).to_pylist()
        for row, (a, b) in enumerate(zip(*columns, strict=True)):
            if a != b:
                return (
                    f"row {row}, {name}: {shorten(repr(a), 60)} there, {shorten(repr(b), 60)} now"
                )
    return f"the manifest_digest of {INFO_FILE} is not that of {ROWS_FILE}"


def stream_difference(found: StreamInfo, wanted: StreamInfo) -> str:
    """In what two streams were not made alike; empty where they were."""
    a, b = _flat(found), _flat(wanted)
    if same_spec(found.origin, wanted.origin):
        del b["spec"]  # it may name a weights file that has been moved
    if not (a["definition_sha256"] and b["definition_sha256"]):
        del b["definition_sha256"]  # older caches have none
    return next((f"{k}: {a.get(k)!r} there, {b[k]!r} now" for k in b if a.get(k) != b[k]), "")


def _flat(stream: StreamInfo) -> dict[str, Any]:
    values = to_mapping(stream)
    origin = values.pop("origin")
    return {**values, **origin}
