"""Making a cache out of batches of features, for those that do not fit in memory at once.

A chunk is written as soon as batches have filled it, and its rows behind it. What a killed writer
has written counts when the same batches come again, and the cache that is closed has the bytes
that `sparc.common.cache.arrays.write_arrays` would have written of all batches at once.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparc.common.cache import tables
from sparc.common.cache.info import INFO_FILE, CacheInfo
from sparc.common.cache.own.batch import BATCH, batch_table, together
from sparc.common.cache.own.begun import (
    AppendedStream,
    Begun,
    BegunFolder,
    ChunkRows,
    classes_digest,
    require_like_before,
    streams_of,
)
from sparc.common.cache.own.chunks import Checked, ChunkedStream
from sparc.common.cache.own.closing import Closing
from sparc.common.cache.own.rows import table_of_classes
from sparc.common.cache.own.values import as_array, common_rows, require_modality
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.removal import remove_cache
from sparc.common.cache.resume import refuse_other_content
from sparc.common.cache.shards.locks import sole_writer
from sparc.common.cache.thumbnails.sizes import SIDE, side_fault
from sparc.common.cache.writer import ROWS_PER_CHUNK
from sparc.common.errors import CacheError
from sparc.common.files.folder import Folder


class CacheWriter:
    """Writes a cache to which batches are appended; `CacheWriter.open` begins one or continues it.

        with CacheWriter.open("cache", modality={"clip": "text"}) as cache:
            for batch in batches:
                cache.append({"dino": batch.dino, "clip": batch.clip}, captions=batch.captions)

    At the end of the block the cache is closed: it can be read from then on. An error leaves it
    open: it is continued when the same batches come again. In memory are one chunk of features a
    stream and one batch.
    """

    def __init__(
        self,
        folder: Folder,
        *,
        modality: Mapping[str, str],
        classes: pa.Table,
        dtype: Literal["float16", "float32"],
        rows_per_chunk: int,
        thumbnails: int,
    ) -> None:
        self.folder = folder
        self.rows = 0
        """Rows appended so far, and those that `skip_written` counted."""
        self._modality = modality
        self._classes = classes
        self._dtype = dtype
        self._rows_per_chunk = rows_per_chunk
        self._thumbnails = thumbnails
        self._files = BegunFolder(folder)
        self._finished: CacheInfo | None = None
        self._begun: Begun | None = None
        self._streams: dict[str, ChunkedStream] = {}
        self._written = 0
        self._pending: list[pa.Table] = []
        self._schema: pa.Schema = BATCH
        self._last: pa.Table | None = None
        self._held = ExitStack()
        self._is_open = True

    @classmethod
    def open(
        cls,
        location: str | os.PathLike[str] | Folder,
        *,
        modality: Mapping[str, Literal["image", "text"]] | None = None,
        classes: Sequence[str] | pa.Table | None = None,
        thumbnails: int = SIDE,
        dtype: Literal["float16", "float32"] = "float32",
        rows_per_chunk: int = ROWS_PER_CHUNK,
        overwrite: bool = False,
    ) -> "CacheWriter":
        """Begin a cache, or continue one whose writer was stopped.

        The folder is locked until the cache is closed, or an error leaves the `with` block.

        Args:
            location: The cache's folder or URL.
            modality: `image` or `text` by stream; image where it says nothing.
            classes: The names of the classes that labels are of, or a table of schema
                `tables.CLASSES`.
            thumbnails: Longest side in pixels of the pictures that the cache keeps of the images
                that batches name; 0 keeps none.
            dtype: Type to store.
            rows_per_chunk: Rows per chunk.
            overwrite: Remove the cache that the folder holds, finished or not, and start over.

        Raises:
            CacheError: The folder holds something else, or an argument has no meaning.
            LockedError: Another process writes to the cache.
        """
        if rows_per_chunk < 1:
            raise CacheError(f"rows_per_chunk must be at least 1, not {rows_per_chunk}")
        if dtype not in ("float16", "float32"):
            raise CacheError(f"dtype must be float16 or float32, not {dtype!r}")
        if (fault := side_fault(thumbnails)) is not None:
            raise CacheError(fault)
        writer = cls(
            location if isinstance(location, Folder) else Folder(location),
            modality=modality or {},
            classes=table_of_classes(classes),
            dtype=dtype,
            rows_per_chunk=rows_per_chunk,
            thumbnails=thumbnails,
        )
        with ExitStack() as held:
            held.enter_context(sole_writer(writer.folder))
            if overwrite:
                remove_cache(writer.folder)
            writer._look()
            writer._held = held.pop_all()
        return writer

    def _look(self) -> None:
        """See what the folder holds."""
        self.folder.remove_partial_files()
        if self.folder.exists(INFO_FILE):
            self._finished = CacheInfo.read(self.folder)
        elif not self._files.exists:
            refuse_other_content(self.folder)
        chunks = self._files.chunks() if self._files.exists else 0
        if chunks and self._finished is None:
            rows = self._files.rows(chunks - 1)
            if rows is None or len(rows.table) < self._rows_per_chunk:
                chunks -= 1  # the writer was closing the cache: more batches may come this time
                self._files.forget(chunks)
        self._written = chunks

    def __enter__(self) -> "CacheWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self._is_open = False
            self._held.__exit__(kind, error, traceback)  # a folder that stays empty goes again

    # ------------------------------------------------------------------ batches

    @property
    def rows_written(self) -> int:
        """Rows of the chunks that were written when the cache was opened: see `skip_written`."""
        if self._finished is not None and not self._files.exists:
            return self._finished.rows
        last = self._files.rows(self._written - 1) if self._written else None
        return (self._written - 1) * self._rows_per_chunk + len(last.table) if last else 0

    def skip_written(self) -> int:
        """Count what was written before as appended, so that it need not be given again.

        Call it before the first `append`, and go on with the row that it returns. Without it, all
        batches come again and are compared with what was written.

        Returns:
            How many rows are counted: those of all chunks that are sound.

        Raises:
            CacheError: Batches were appended already.
        """
        if self.rows:
            raise CacheError("skip_written comes before the first batch is appended")
        if not self._files.exists:
            return self.rows_written
        before = self._files.read()
        self._begun = self._begin(before.streams, has_ids=before.has_ids)
        self._streams = self._chunked(self._begun)
        for chunk in range(self._written):
            rows = self._files.rows(chunk)
            if rows is None or not all(
                stream.keep(chunk, len(rows.table)) for stream in self._streams.values()
            ):
                break
            self._schema = together(self._schema, rows.table.schema) if chunk else rows.table.schema
            self._last = rows.table.slice(len(rows.table) - 1)
            self.rows += len(rows.table)
        return self.rows

    def append(
        self,
        features: Mapping[str, npt.ArrayLike],
        *,
        sample_ids: Sequence[str] | Sequence[int] | None = None,
        captions: Sequence[str | None] | None = None,
        images: Sequence[str | os.PathLike[str] | None] | None = None,
        label_ids: Sequence[int | None] | Sequence[Sequence[int]] | npt.NDArray[Any] | None = None,
        columns: Mapping[str, Any] | None = None,
    ) -> None:
        """Append the next rows.

        Args:
            features: By stream name, (rows, dim) each, with the same number of rows: arrays,
                tensors of any device, or what NumPy makes arrays of. Every batch has the streams
                and widths of the first one. A row that is zero or not finite is not valid in that
                stream.
            sample_ids: As for `write_arrays`, like all that follow; either every batch has them or
                none.
            captions: The rows' captions.
            images: The files of the rows' images.
            label_ids: The rows' classes.
            columns: What else is known of the rows, by name; every batch has the same names.

        Raises:
            CacheError: The batch does not fit those before, or itself; then nothing of it is
                appended. Or what was written before is not what is given again.
        """
        if not self._is_open:
            raise CacheError(f"{self.folder} is closed: append before its `with` block ends")
        if not isinstance(features, Mapping) or not all(isinstance(name, str) for name in features):
            raise CacheError(
                'a batch needs the names of its streams, in a dict: append({"dino": dino})'
            )
        arrays = {name: as_array(name, values) for name, values in features.items()}
        rows = common_rows(arrays)
        streams, has_ids = streams_of(arrays, self._modality), sample_ids is not None
        if self._begun is None:
            require_modality(self._modality, arrays)
        else:
            require_like_before(self._begun, streams, has_ids=has_ids, row=self.rows)
        begun = self._begun or self._begin(streams, has_ids=has_ids)
        opened = self._streams or self._chunked(begun)
        table = batch_table(
            rows,
            self._classes,
            sample_ids=sample_ids,
            captions=captions,
            images=images,
            label_ids=label_ids,
            columns=columns or {},
            first_row=self.rows,
        )
        if not rows:
            return
        if self._finished is not None and self.rows + rows > self._finished.rows:
            raise CacheError(
                f"{self.folder} is a finished cache of {self._finished.rows:,} rows, and more were "
                "appended: choose another folder, or write over it with overwrite=True"
            )
        schema = together(self._schema, table.schema) if self.rows else table.schema
        same_image = self._same_image(table)
        batch = {
            name: opened[name].check(values, self.rows, same_image)
            for name, values in arrays.items()
        }
        self._begun, self._streams, self._schema = begun, opened, schema
        self._last = table.slice(rows - 1)
        self._fill(batch, table)

    def _fill(self, batch: Mapping[str, Checked], table: pa.Table) -> None:
        """Put a batch into chunks, and write those that are full."""
        first_row, done = self.rows, 0
        while done < len(table):
            at = self.rows % self._rows_per_chunk
            part = slice(done, min(done + self._rows_per_chunk - at, len(table)))
            for name, features in batch.items():
                self._streams[name].fill(at, part, features, first_row)
            self._pending.append(table.slice(part.start, part.stop - part.start))
            done = part.stop
            self.rows = first_row + done
            if self.rows % self._rows_per_chunk == 0:
                self._write_chunk()

    def _write_chunk(self) -> None:
        """Write the features of the chunk that is being filled, and its rows behind them."""
        assert self._begun is not None
        self._files.begin(self._begun)
        chunk = (self.rows - 1) // self._rows_per_chunk
        table = pa.concat_tables(self._pending, promote_options="permissive").combine_chunks()
        finished = self._finished
        is_kept = chunk < self._written
        reasons = {}
        for name, stream in self._streams.items():
            keeps = is_kept or (finished is not None and name in finished.streams)
            reasons[name] = stream.write(chunk, len(table), keeps=keeps)
        before = self._files.rows(chunk) if is_kept else None
        if before is not None and not _same(before.table, table):
            raise CacheError(
                f"{self.folder} was begun with other rows (chunk {chunk} differs in what is known "
                "of them): give the same again, or start over with overwrite=True"
            )
        if before is None or before.table.schema != table.schema:
            self._files.write(chunk, ChunkRows(table, reasons))
        self._pending = []

    def _same_image(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """Which rows of a batch have the image of the row before, as far as they name one."""
        key = "sample_id" if table["sample_id"].null_count == 0 else "image"
        names = table[key]
        before = 0
        if self._last is not None:
            names = pa.chunked_array([*self._last[key].chunks, *names.chunks], pa.string())
            before = 1
        same = tables.same_as_before(names)
        result: npt.NDArray[np.bool_] = same & np.asarray(names.is_valid())
        return result[before:]

    def _begin(self, streams: tuple[AppendedStream, ...], *, has_ids: bool) -> Begun:
        """How the cache is written, held to what was written before."""
        begun = Begun(
            rows_per_chunk=self._rows_per_chunk,
            dtype=self._dtype,
            has_ids=has_ids,
            classes_sha256=classes_digest(self._classes),
            streams=streams,
        )
        if self._finished is not None:
            infos = [stream.info for stream in self._chunked(begun).values()]
            closing = Closing(self.folder, self._classes)
            closing.require_same_form(self._finished, self._rows_per_chunk, infos)
        if self._files.exists:
            self._files.begin(begun)
        return begun

    def _chunked(self, begun: Begun) -> dict[str, ChunkedStream]:
        return {s.name: ChunkedStream(self.folder, s, begun) for s in begun.streams}

    # ------------------------------------------------------------------ the end

    def close(self) -> ActivationCache:
        """Write what is left, and what makes a cache of it all; a `with` block does it.

        Returns:
            The cache, opened for reading.

        Raises:
            CacheError: No row was appended, all rows of a stream lack features, or rows of one
                image contradict each other or do not follow one another.
        """
        if not self._is_open:
            return ActivationCache(self.folder)
        self._is_open = False
        with self._held:
            if self._finished is not None and self._begun is None:
                return ActivationCache(self.folder)  # nothing was given that it might not hold
            if not self.rows:
                raise CacheError(f"no row was appended to {self.folder}")
            if self._pending:
                self._write_chunk()
            known = [self._known(chunk) for chunk in range(self._chunks)]
            closing = Closing(self.folder, self._classes)
            closing.close(known, list(self._streams.values()), self._finished, self._rows_per_chunk)
            self._files.remove()
            closing.write_thumbnails(self._thumbnails)
        return ActivationCache(self.folder)

    def _known(self, chunk: int) -> ChunkRows:
        rows = self._files.rows(chunk)
        if rows is None:
            raise CacheError(
                f"{self.folder}: what is known of the rows of chunk {chunk} was lost or damaged "
                "after it was written: append all batches again"
            )
        return rows

    @property
    def _chunks(self) -> int:
        return -(-self.rows // self._rows_per_chunk)


def _same(before: pa.Table, now: pa.Table) -> bool:
    """Whether rows were written before: columns may meanwhile have turned out to be of floats."""
    if before.column_names != now.column_names:
        return False
    try:
        return bool(before.cast(now.schema).equals(now))
    except (pa.ArrowException, ValueError):
        return False
