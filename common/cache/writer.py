"""Writing an activation cache, chunk by chunk, so that it can be killed and resumed anywhere.

The protocol on disk is `CACHE.md`, which is normative. A `ChunkWriter` must be the only one in its
folder, or in its shard of it: `sparc.common.cache.shards.locks` sees to that.
"""

import dataclasses
import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sparc.common.cache import tables
from sparc.common.cache.account.document import ACCOUNT_FILE, write_account
from sparc.common.cache.info import (
    ACTIVATIONS,
    CLASSES_FILE,
    CUT_PARTS,
    INFO_FILE,
    MASKS_FILE,
    REJECT_PARTS,
    REJECTS_FILE,
    ROOT_DOCUMENT,
    ROWS_FILE,
    SHARDS,
    THUMBNAILS,
    CacheInfo,
    chunk_files,
)
from sparc.common.cache.layout import ARRAYS, DOCUMENT, root_document
from sparc.common.cache.manifest import Manifest
from sparc.common.cache.parts.cut import read_cut, write_cut
from sparc.common.cache.parts.names import parts_of, remove_parts
from sparc.common.cache.parts.rejects import drop_rejects, write_rejects
from sparc.common.cache.parts.stream_writer import StreamWriter
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.repair import remove_damaged_chunks, remove_damaged_tables
from sparc.common.cache.resume import (
    StreamState,
    existing_info,
    existing_stream,
    refuse_other_classes,
    refuse_other_content,
    refuse_other_dataset,
)
from sparc.common.cache.shards.shard import Shard
from sparc.common.errors import CacheError, DamagedCacheError
from sparc.common.files.folder import Folder
from sparc.common.streams.info import StreamInfo

ROWS_PER_CHUNK = 4096


@dataclasses.dataclass(frozen=True)
class _OpenStream:
    """A stream that is being written: what is known of it, and who writes its chunks."""

    state: StreamState
    writer: StreamWriter


class ChunkWriter:
    """Writes the streams of a cache; `ChunkWriter.open` begins one or continues it.

    Args:
        folder: The cache's folder.
        info: What its `cache.json` says.
        rows: The rows table.
        repair: Whether `open_stream` checks every chunk and removes those that are damaged.
        shard: Of which chunks are this writer's; None: all are.
        alone: Whether no other shard is at work. One that is may be writing any other chunk.
    """

    def __init__(
        self,
        folder: Folder,
        info: CacheInfo,
        rows: pa.Table,
        *,
        repair: bool,
        shard: Shard | None = None,
        alone: bool = True,
    ) -> None:
        self.folder = folder
        self.info = info
        self._rows = rows
        self._repair = repair
        self._chunks = (shard or Shard(1, 1)).chunks(info.chunks)
        self._alone = alone
        self._streams: dict[str, _OpenStream] = {}
        self._reader: ActivationCache | None = None

    @classmethod
    def open(
        cls,
        location: str | os.PathLike[str] | Folder,
        manifest: Manifest,
        *,
        rows_per_chunk: int = ROWS_PER_CHUNK,
        repair: bool = False,
        packages: Iterable[str] = (),
        shard: Shard | None = None,
        alone: bool = True,
    ) -> "ChunkWriter":
        """Begin a cache, or continue one that was made from the same dataset.

        Writes the tables and `cache.json` where they are missing.

        Args:
            location: The cache's folder or URL.
            manifest: The dataset's rows.
            rows_per_chunk: Rows per chunk; the same as before where a cache is continued.
            repair: Check every byte of what is there, and remove what is damaged, to be written
                again. Otherwise only what is missing is written.
            packages: Packages whose versions a new cache records beside the usual ones.
            shard: Of which chunks are this writer's; None: all are.
            alone: Whether no other shard is at work.

        Raises:
            CacheError: The folder holds something else, or a cache of another dataset or setting.
        """
        folder = location if isinstance(location, Folder) else Folder(location)
        wanted = manifest.info(rows_per_chunk, packages)
        if wanted.rows == 0:
            raise CacheError(f"{manifest.dataset} has no rows to encode")
        existing = existing_info(folder, wanted, repair=repair)
        if existing is None:
            refuse_other_content(folder)
        if alone:
            folder.remove_partial_files()
        if existing is None or not existing.streams:
            # A cache without streams holds nothing worth keeping: it is begun again.
            writer = cls(folder, wanted, manifest.rows, repair=repair, shard=shard, alone=alone)
            writer._begin(manifest)
        else:
            refuse_other_dataset(folder, existing, wanted, manifest.rows)
            writer = cls(folder, existing, manifest.rows, repair=repair, shard=shard, alone=alone)
            writer._continue(manifest)
        return writer

    def _begin(self, manifest: Manifest) -> None:
        tables.write_table(self.folder, ROWS_FILE, manifest.rows)
        tables.write_table(self.folder, CLASSES_FILE, manifest.classes)
        for name in (MASKS_FILE, ACCOUNT_FILE, THUMBNAILS):
            self.folder.remove(name)
        self._write_missing(manifest)
        self._put_info(self.info)

    def _continue(self, manifest: Manifest) -> None:
        self._put_info(self.info)
        if self._repair:
            remove_damaged_tables(self.cache, has_masks=manifest.masks is not None)
        for name, table in ((ROWS_FILE, manifest.rows), (CLASSES_FILE, manifest.classes)):
            if not self.folder.exists(name):  # lost, or removed because it was damaged
                tables.write_table(self.folder, name, table)
        refuse_other_classes(self.folder, manifest.classes)
        self._write_missing(manifest)

    def _write_missing(self, manifest: Manifest) -> None:
        write_account(self.folder, manifest.account)
        if manifest.masks is not None and not self.folder.exists(MASKS_FILE):
            tables.write_table(self.folder, MASKS_FILE, manifest.masks)

    @property
    def cache(self) -> ActivationCache:
        """The cache as it has been written so far."""
        if self._reader is None:
            self._reader = ActivationCache(self.folder)
        return self._reader

    @property
    def stream_writers(self) -> dict[str, StreamWriter]:
        """What writes the chunks of each stream that is open."""
        return {name: opened.writer for name, opened in self._streams.items()}

    # ------------------------------------------------------------------ streams

    def open_stream(self, stream: StreamInfo) -> list[int]:
        """Add a stream, or continue it.

        Args:
            stream: What the stream is and what makes it.

        Returns:
            The chunks that this writer has still to write, in order.

        Raises:
            CacheError: The cache holds a stream of that name that was made in another way, or
                nothing says any more how its chunks were made.
        """
        name = stream.name
        below = f"{ACTIVATIONS}/{name}"
        is_begun = name in self.info.streams and (not self._alone or self._has_chunks(name))
        if is_begun:
            state, lost = existing_stream(self.folder, self.info, stream)
        else:
            # What may lie there does not count: the stream begins under today's settings.
            self.folder.remove(below)
            state = StreamState.new(stream, self.info.chunks)
            lost = list(state.documents(self.info))
        documents = state.documents(self.info)
        for file in lost:
            self._write_document(f"{below}/{file}", documents[file])
        if name not in self.info.streams:
            names = (*self.info.streams, name)
            self._put_info(dataclasses.replace(self.info, streams=names))
        chunks = StreamWriter(self.folder, self.info, self._rows, state.info)
        self._streams[name] = _OpenStream(state, chunks)
        if self._repair and is_begun:
            remove_damaged_chunks(self.cache, name)
        missing = [chunk for chunk in self.cache.missing_chunks(name) if chunk in self._chunks]
        self._forget(name, missing)
        return missing

    def write(
        self,
        stream: str,
        chunk: int,
        features: npt.NDArray[Any],
        reasons: Mapping[int, str] | None = None,
        *,
        cut: int | None = None,
    ) -> None:
        """Write a chunk of a stream that `open_stream` opened; see `StreamWriter.write`."""
        self._streams[stream].writer.write(chunk, features, reasons, cut=cut)

    def holds(self, stream: str, chunk: int, checksums: tuple[int, int]) -> bool:
        """Whether a chunk that another process wrote lies here.

        Args:
            stream: Which stream.
            chunk: Which chunk.
            checksums: What its `features` and its `valid` end in, as that process says.
        """
        stored = self.cache.stored
        try:
            there = [stored.checksum(stream, array, chunk) for array in ARRAYS]
        except FileNotFoundError:
            return False
        return tuple(there) == checksums

    def discard(self, stream: str, chunks: Collection[int]) -> None:
        """Remove written chunks, to be written again."""
        for chunk in chunks:
            for file in reversed(chunk_files(stream, chunk)):
                self.folder.remove(file)
        self._forget(stream, chunks)

    def finish(self) -> None:
        """Gather what is known of single chunks; call it alone, when every chunk is written."""
        for stream in self._streams:
            self._record_chunks(stream)
        if self.cache.reject_parts() or not self.folder.exists(REJECTS_FILE):
            tables.write_table(self.folder, REJECTS_FILE, self.cache.rejects_so_far())
        self.folder.remove(REJECT_PARTS)
        self._remove_gathered_cut()
        with suppress(DamagedCacheError):  # of a stream that is not written here
            if not any(self.cache.missing_chunks(stream) for stream in self.info.streams):
                self.folder.remove(SHARDS)

    # ------------------------------------------------------------------ what is known of chunks

    def count_cut(self, stream: str, cut: Mapping[int, int]) -> None:
        """Record how many captions were cut at the encoder's context, by chunk."""
        known = self._streams[stream].state.cut
        for chunk, count in cut.items():
            if known.get(chunk) != count:
                write_cut(self.folder, stream, chunk, count)

    def uncounted(self, stream: str) -> list[int]:
        """The chunks written here whose number of cut captions is not recorded, in order."""
        counted = {*self._streams[stream].state.cut, *read_cut(self.folder, stream)}
        known = counted.union(self.cache.missing_chunks(stream))
        return [chunk for chunk in self._chunks if chunk not in known]

    def unexplained(self, stream: str, *, thorough: bool) -> list[int]:
        """The rows of chunks written here that are not valid without a recorded reason, in order.

        Args:
            stream: A stream that `open_stream` opened.
            thorough: Look even where the table of rejects exists, which holds them all unless
                parts that were not gathered yet are lost.
        """
        if self.folder.exists(REJECTS_FILE) and not thorough:
            return []
        valid = np.ones(self.info.rows, dtype=np.bool_)
        missing = set(self.cache.missing_chunks(stream))
        for chunk in self._chunks:
            if chunk not in missing:
                rows = self.info.chunk_rows(chunk)
                valid[rows.start : rows.stop] = self.cache.valid(stream, chunk)
        parts = parts_of(self.folder, REJECT_PARTS, stream)
        own = [file for chunk, file in parts.items() if chunk in self._chunks]
        rejects = self.cache.rejects_so_far(own)
        of_stream = rejects.filter(pc.equal(rejects.column("stream"), stream))
        explained = of_stream.column("row").to_numpy()
        valid[explained[(explained >= 0) & (explained < len(valid))]] = True
        return [int(row) for row in np.flatnonzero(~valid)]

    def explain(self, stream: str, reasons: Mapping[int, str]) -> None:
        """Record why rows are not valid, in the place of reasons that were lost."""
        by_chunk: dict[int, dict[int, str]] = {}
        for row, reason in reasons.items():
            by_chunk.setdefault(row // self.info.rows_per_chunk, {})[row] = reason
        for chunk, of_chunk in by_chunk.items():
            write_rejects(self.folder, self._rows, stream, chunk, of_chunk)

    def _record_chunks(self, stream: str) -> None:
        """Record of the chunks how many captions were cut, and their checksums.

        By the latter an exchanged chunk is noticed.
        """
        state = self._streams[stream].state
        cut = {**state.cut, **read_cut(self.folder, stream)}
        is_new = cut != state.cut
        state.cut = cut
        for name, checksums in state.checksums.items():
            for chunk, checksum in enumerate(checksums):
                if checksum is None:
                    checksums[chunk] = self.cache.stored.checksum(stream, name, chunk)
                    is_new = True
        if is_new:
            self._write_records(stream)

    def _remove_gathered_cut(self) -> None:
        """Remove the numbers of cut captions that the streams' attributes say by now."""
        for stream in self._streams:
            remove_parts(self.folder, CUT_PARTS, stream, range(self.info.chunks))
        if not self.folder.files(CUT_PARTS):  # none of a stream that is still being made
            self.folder.remove(CUT_PARTS)

    def _write_records(self, stream: str) -> None:
        """Write what is recorded of the chunks of a stream, in the attributes of `valid`."""
        file = f"valid/{DOCUMENT}"
        document = self._streams[stream].state.documents(self.info)[file]
        self._write_document(f"{ACTIVATIONS}/{stream}/{file}", document)

    def _has_chunks(self, stream: str) -> bool:
        """Whether both objects of any chunk of a stream were written, damaged or not."""
        files = set(self.folder.files(f"{ACTIVATIONS}/{stream}"))
        return any(files.issuperset(chunk_files(stream, c)) for c in range(self.info.chunks))

    def _forget(self, stream: str, chunks: Collection[int]) -> None:
        """Forget what is recorded of chunks: it may be different when they are written again."""
        was_recorded = False
        for kind in (REJECT_PARTS, CUT_PARTS):
            remove_parts(self.folder, kind, stream, chunks)
        for chunk in chunks:
            for checksums in self._streams[stream].state.checksums.values():
                was_recorded = was_recorded or checksums[chunk] is not None
                checksums[chunk] = None
        if was_recorded:
            self._write_records(stream)
        drop_rejects(self.folder, stream, chunks, rows_per_chunk=self.info.rows_per_chunk)

    # ------------------------------------------------------------------ documents

    def _put_info(self, info: CacheInfo) -> None:
        """Write `cache.json` and its copy, where they do not say this already."""
        self.info = info
        # The copy first: what cache.json does not name yet does not count.
        for name, content in (
            (ROOT_DOCUMENT, root_document(info.to_document())),
            (INFO_FILE, info.to_json()),
        ):
            if not self.folder.exists(name) or self.folder.read(name) != content:
                self._write_document(name, content)

    def _write_document(self, name: str, content: bytes) -> None:
        """Write metadata, of which a reader keeps what it has read."""
        self.folder.write(name, content)
        self._reader = None
