"""What lies in a folder while batches are appended to its cache, until that is closed.

`appended/begun.json` says how the cache is written, and `appended/<chunk>.parquet` holds the rows
of a chunk whose features are written. A chunk without its rows does not count. See section 6.1 of
`CACHE.md`.
"""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy.typing as npt
import pyarrow as pa

from sparc.common.cache.info import APPENDED, APPENDED_FILE
from sparc.common.config import first_difference, to_mapping
from sparc.common.documents import DocumentKind, seal
from sparc.common.errors import CacheError
from sparc.common.files.folder import Folder
from sparc.common.files.parquet import parquet_bytes, read_parquet
from sparc.common.parsing import parse_object
from sparc.common.streams.info import Modality, check_name
from sparc.common.text import reason, shorten

_KIND = DocumentKind("sparc-appended-rows", 1, CacheError)

_REASONS = b"sparc_reasons"
"""The key-value metadata of the rows of a chunk that say why some have no feature."""

Reasons = Mapping[str, Mapping[int, str]]
"""By stream and by row of the cache, why the row has no feature."""


class ChunkRows(NamedTuple):
    """What is known of the rows of a chunk whose features are written.

    Attributes:
        table: See `sparc.common.cache.own.batch.BATCH`.
        reasons: Why some of them have no feature.
    """

    table: pa.Table
    reasons: Reasons


@dataclasses.dataclass(frozen=True, kw_only=True)
class AppendedStream:
    """A stream of which every batch has features.

    Attributes:
        name: The stream.
        modality: What its features are of.
        dim: Width of a feature.
    """

    name: str
    modality: Modality
    dim: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Begun:
    """How a cache is written to which batches are appended; its first batch decides some of it.

    Attributes:
        rows_per_chunk: Rows per chunk.
        dtype: Type of the stored features.
        has_ids: Whether batches say what the rows' images are called.
        classes_sha256: Digest of the table of classes.
        streams: The streams, in their order in the cache.
    """

    rows_per_chunk: int
    dtype: Literal["float16", "float32"]
    has_ids: bool
    classes_sha256: str
    streams: tuple[AppendedStream, ...]


def streams_of(
    arrays: Mapping[str, npt.NDArray[Any]], modality: Mapping[str, str]
) -> tuple[AppendedStream, ...]:
    """The streams of a batch.

    Args:
        arrays: By stream name, (rows, dim).
        modality: `image` or `text` by stream; image where it says nothing.

    Raises:
        ConfigError: No stream may be called so.
    """
    return tuple(
        AppendedStream(
            name=check_name(name),
            modality="text" if modality.get(name) == "text" else "image",
            dim=values.shape[1],
        )
        for name, values in arrays.items()
    )


def require_like_before(
    begun: Begun, streams: Sequence[AppendedStream], *, has_ids: bool, row: int
) -> None:
    """Refuse a batch that does not have what the batches before it have.

    Args:
        begun: How the cache is written.
        streams: The streams of the batch.
        has_ids: Whether it says what the rows' images are called.
        row: The row of the cache that is its first, for messages.

    Raises:
        CacheError: It has other streams, of another width, or names images where they did not.
    """
    before = {stream.name: stream for stream in begun.streams}
    now = {stream.name: stream for stream in streams}
    for name in {**before, **now}:
        if name not in now:
            raise CacheError(f"the batch at row {row:,} lacks stream {name}")
        if name not in before:
            raise CacheError(f"the batch at row {row:,} has a stream {name} that others lack")
        if now[name].dim != before[name].dim:
            raise CacheError(
                f"stream {name}: features of {now[name].dim} values in the batch at row {row:,}, "
                f"of {before[name].dim} before"
            )
    if has_ids != begun.has_ids:
        raise CacheError(
            f"the batch at row {row:,} {'has' if has_ids else 'lacks'} sample_ids, unlike those "
            "before: give them with every batch or with none"
        )


def classes_digest(classes: pa.Table) -> str:
    """What identifies a table of classes: the SHA-256 of its file."""
    return hashlib.sha256(parquet_bytes(classes)).hexdigest()


class BegunFolder:
    """The files of a cache to which batches are appended, beside its features.

    Args:
        folder: The cache's folder.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    @property
    def exists(self) -> bool:
        """Whether a cache was begun in batches here, and not closed."""
        return self._folder.exists(APPENDED_FILE)

    def begin(self, wanted: Begun) -> None:
        """Write how the cache is written, or hold what was begun before to it.

        Raises:
            CacheError: It was begun in another way, or cannot be read.
        """
        if not self.exists:
            self._folder.remove(APPENDED)
            self._folder.write(APPENDED_FILE, seal(_KIND.document(to_mapping(wanted))))
            return
        if (difference := first_difference(self.read(), wanted)) is not None:
            what, there, now = difference
            raise CacheError(
                f"{self._folder} was begun with other batches ({what}: {_shown(there)} there, "
                f"{_shown(now)} now): give the same again, or start over with overwrite=True"
            )

    def read(self) -> Begun:
        """How the cache is written.

        Raises:
            CacheError: The file is of another version or damaged.
        """
        where = f"{self._folder}/{APPENDED_FILE}"
        try:
            return _KIND.sealed(Begun, self._folder.read(APPENDED_FILE), where=where)
        except ValueError as error:
            raise CacheError(
                f"{where} is damaged: {reason(error)}; start over with overwrite=True"
            ) from error

    # ------------------------------------------------------------------ chunks

    def chunks(self) -> int:
        """How many chunks are written, from the first one on without a gap."""
        names = set(self._folder.files(APPENDED))
        return next(chunk for chunk in itertools.count() if _file(chunk) not in names)

    def rows(self, chunk: int) -> ChunkRows | None:
        """What is known of a chunk; None where it is not written, or cannot be read any more."""
        try:
            with self._folder.open(_file(chunk)) as file:
                table = read_parquet(file)
            listed = parse_object((table.schema.metadata or {})[_REASONS])
            reasons = {s: {int(row): str(why) for row, why in listed[s].items()} for s in listed}
        except (OSError, ValueError, KeyError, pa.ArrowException):
            return None
        return ChunkRows(table.replace_schema_metadata(None), reasons)

    def write(self, chunk: int, rows: ChunkRows) -> None:
        """Write what is known of the rows of a chunk: from then on the chunk is done."""
        metadata = {_REASONS: json.dumps(rows.reasons).encode()}
        content = parquet_bytes(rows.table.replace_schema_metadata(metadata))
        self._folder.write(_file(chunk), content)

    def forget(self, chunk: int) -> None:
        """Let a chunk not count as written."""
        self._folder.remove(_file(chunk))

    def remove(self) -> None:
        """Remove all of it: the cache is closed. Without the first file the others do not count."""
        self._folder.remove(APPENDED_FILE)
        self._folder.remove(APPENDED)


def _file(chunk: int) -> str:
    return f"{APPENDED}/{chunk:08d}.parquet"


def _shown(value: Any) -> str:
    return shorten(str(value), 80)
