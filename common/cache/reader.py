"""Reading an activation cache. The protocol on disk is `CACHE.md`, which is normative.

An `ActivationCache` hands out whole chunks of rows; rows are never gathered one by one. How the
chunks lie in Zarr is the business of `sparc.common.cache.stored`.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparc.common.cache import tables
from sparc.common.cache.info import (
    AGREEMENT_FILE,
    CLASSES_FILE,
    INFO_FILE,
    MASKS_FILE,
    REJECT_PARTS,
    REJECTS_FILE,
    ROWS_FILE,
    CacheInfo,
    damaged,
    finish_advice,
    repair_advice,
)
from sparc.common.cache.parts.cut import read_cut
from sparc.common.cache.stored import StoredStreams
from sparc.common.cache.thumbnails.reader import Thumbnails
from sparc.common.errors import CacheError, DamagedCacheError, IncompleteCacheError
from sparc.common.files.folder import Folder
from sparc.common.files.shipped import located
from sparc.common.streams.info import StreamInfo
from sparc.common.text import shorten

if TYPE_CHECKING:
    import torch

_BELIEVED_ROWS = 1 << 20
_LARGEST_ROWS = 1 << 32
"""Most rows of a cache whose table cannot be read."""


@dataclasses.dataclass(frozen=True)
class Aligned:
    """The rows of a chunk that are valid in all of some streams, with their features.

    Attributes:
        rows: Row numbers of the cache, ascending: (n,) int64.
        features: By stream, (n, dim) as stored, float16 or float32; row i belongs to `rows[i]`.
    """

    rows: npt.NDArray[np.int64]
    features: Mapping[str, npt.NDArray[Any]]

    def __len__(self) -> int:
        return len(self.rows)

    def tensors(self) -> "dict[str, torch.Tensor]":
        """The features as PyTorch tensors, which share their memory."""
        import torch

        return {name: torch.from_numpy(values) for name, values in self.features.items()}


class ActivationCache:
    """An activation cache, opened for reading.

    Args:
        location: The cache's folder or URL; or `demo`, held-out rows that ship with the package.

    Raises:
        CacheError: There is no cache, or it is of another version.
        DamagedCacheError: Its metadata are not readable.
    """

    def __init__(self, location: str | os.PathLike[str] | Folder) -> None:
        if not isinstance(location, Folder):
            location = Folder(located(location, "cache"))
        self.folder = location
        self.info = CacheInfo.read(self.folder)
        self._require_plausible()
        self.stored = StoredStreams(self.folder, self.info)
        """The streams as they lie in Zarr: for writing, verifying and tests."""
        self.thumbnails = Thumbnails(self.folder, self.info)
        """Small pictures of the rows' images, if the cache has any."""

    def __repr__(self) -> str:
        widths = []
        for name in self.stream_names:
            try:
                widths.append(f"{name} {self.stream(name).dim:,}")
            except CacheError:
                widths.append(f"{name} (damaged)")
        streams = ", ".join(widths) or "no streams"
        return f"ActivationCache({str(self.folder)!r}: {self.info.rows:,} rows; {streams})"

    def _require_plausible(self) -> None:
        """Refuse more rows than the table has, before anything loops over them."""
        if self.info.rows <= _BELIEVED_ROWS:
            return
        try:
            table_rows = tables.count_rows(self.folder, ROWS_FILE)
        except DamagedCacheError:  # reported where the table is needed
            table_rows = _LARGEST_ROWS
        if self.info.rows > table_rows or self.info.chunks > _LARGEST_ROWS >> 10:
            raise self._damaged(f"{INFO_FILE} claims {self.info.rows:,} rows")

    @property
    def stream_names(self) -> tuple[str, ...]:
        """All streams, in their fixed order, complete or not."""
        return self.info.streams

    @cached_property
    def streams(self) -> Mapping[str, StreamInfo]:
        """What each stream is, by name, in the cache's order."""
        return {name: self.stream(name) for name in self.info.streams}

    def stream(self, name: str) -> StreamInfo:
        """What a stream is and what made it.

        Raises:
            CacheError: The cache has no stream of that name.
            DamagedCacheError: Its attributes cannot be read.
        """
        self.choose([name])
        return self.stored.stream(name)

    def choose(self, names: Sequence[str] = ()) -> tuple[str, ...]:
        """Those streams, in the cache's order; all of them where no name is given.

        Raises:
            CacheError: The cache has no stream of that name.
        """
        for name in names:
            if name not in self.info.streams:
                raise CacheError(
                    f"{self.folder} has no stream {name!r}; it has {', '.join(self.info.streams)}"
                )
        return tuple(n for n in self.info.streams if not names or n in names)

    # ------------------------------------------------------------------ completeness

    def missing_chunks(self, stream: str) -> list[int]:
        """Chunks of a stream that have not been written, or not as a whole, in order.

        Only sizes are looked at: an object that was cut off, or is longer than it can be, counts
        as missing.
        """
        self.choose([stream])
        whole = self.stored.whole_chunks(stream)
        return [chunk for chunk in range(self.info.chunks) if chunk not in whole]

    def require_complete(self, streams: Sequence[str] = ()) -> None:
        """Refuse a cache whose extraction has not finished.

        Raises:
            IncompleteCacheError: Says which chunks of which streams are missing, and the way out.
        """
        for stream in self.choose(streams):
            missing = self.missing_chunks(stream)
            if missing:
                shown = ", ".join(map(str, missing[:8])) + (", …" if len(missing) > 8 else "")
                raise IncompleteCacheError(
                    f"{self.folder} is incomplete: stream {stream} lacks {len(missing)} of "
                    f"{self.info.chunks} chunks ({shown}); "
                    + finish_advice(self.folder, self.info.made_from)
                )

    # ------------------------------------------------------------------ activations

    def features(
        self, stream: str, chunk: int, *, out: npt.NDArray[Any] | None = None
    ) -> npt.NDArray[Any]:
        """The features of a chunk, as stored.

        Args:
            stream: Which stream.
            chunk: Which chunk.
            out: Where to put them, if not in a new array: C-contiguous, of the returned shape and
                dtype.

        Returns:
            (rows of the chunk, dim), float16 or float32. Rows that are not valid hold zeros.

        Raises:
            IncompleteCacheError: The chunk has not been written.
            DamagedCacheError: Its bytes are not those that were written.
            ValueError: `out` is not as it must be.
        """
        if out is not None:
            info = self.stream(stream)
            shape = (len(self.info.chunk_rows(chunk)), info.dim)
            if out.shape != shape or out.dtype != info.dtype or not out.flags.c_contiguous:
                raise ValueError(f"out must be a C-contiguous array of {shape} {info.dtype}")
        self.choose([stream])
        return self.stored.read(stream, "features", chunk, out)

    def valid(self, stream: str, chunk: int) -> npt.NDArray[np.bool_]:
        """Which rows of a chunk have a feature: (rows,) bool. Raises as `features` does."""
        self.choose([stream])
        return self.stored.read(stream, "valid", chunk)

    def valid_in_all(self, chunk: int, streams: Sequence[str] = ()) -> npt.NDArray[np.bool_]:
        """Which rows of a chunk are valid in every one of the streams: (rows,) bool."""
        flags = np.ones(len(self.info.chunk_rows(chunk)), dtype=np.bool_)
        for name in self.choose(streams):
            flags &= self.valid(name, chunk)
        return flags

    def valid_rows(self, streams: Sequence[str] = ()) -> npt.NDArray[np.bool_]:
        """Which rows of the cache are valid in every one of the streams: (rows,) bool."""
        chunks = range(self.info.chunks)
        return np.concatenate([self.valid_in_all(chunk, streams) for chunk in chunks])

    def aligned(self, chunk: int, streams: Sequence[str] = ()) -> Aligned:
        """The rows of a chunk that are valid in every one of the streams, with their features.

        Nothing is copied where all rows of the chunk are; nothing is read where none is.

        Args:
            chunk: Which chunk.
            streams: Which streams; all of them where no name is given.

        Raises:
            IncompleteCacheError: The chunk has not been written.
            DamagedCacheError: Its bytes are not those that were written.
        """
        names = self.choose(streams)
        valid = self.valid_in_all(chunk, names)
        rows = self.info.chunk_rows(chunk).start + np.flatnonzero(valid)
        return Aligned(rows, {name: self._valid_features(name, chunk, valid) for name in names})

    def _valid_features(
        self, stream: str, chunk: int, valid: npt.NDArray[np.bool_]
    ) -> npt.NDArray[Any]:
        if not valid.any():
            info = self.stream(stream)
            return np.empty((0, info.dim), dtype=info.dtype)
        values = self.features(stream, chunk)
        return values if valid.all() else values[valid]

    def cut(self, stream: str) -> int:
        """How many captions were cut at the context of a text stream's encoder."""
        self.choose([stream])
        return sum({**self.stored.cut(stream), **read_cut(self.folder, stream)}.values())

    def dask_features(self, stream: str) -> Any:
        """The features as a `dask.array`, one block per chunk."""
        import dask.array

        self.choose([stream])
        return dask.array.from_zarr(self.stored.array(stream, "features"))

    # ------------------------------------------------------------------ tables

    @property
    def columns(self) -> pa.Schema:
        """The columns of the dataset that the rows table holds beside those of `tables.ROWS`."""
        return tables.dataset_columns(self._rows_schema)

    @cached_property
    def _rows_schema(self) -> pa.Schema:
        with self._advising():
            return tables.rows_schema(self.folder, ROWS_FILE)

    def rows(self, columns: list[str] | None = None) -> pa.Table:
        """The rows table, of schema `tables.ROWS`, or some columns of it or of `columns`.

        Raises:
            CacheError: There is no such column.
        """
        schema = tables.ROWS
        if not set(columns or ()).issubset(schema.names):
            schema = self._rows_schema
            for name in set(columns or ()).difference(schema.names):
                known = shorten(", ".join(schema.names), 200)
                raise CacheError(f"{self.folder} has no column {name!r}; it has {known}")
        table = self._table(ROWS_FILE, schema, columns)
        if len(table) != self.info.rows:
            raise self._damaged(f"{ROWS_FILE} has {len(table)} rows, the cache {self.info.rows}")
        return table

    def row_batches(self, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
        """Some columns of the rows table, in batches.

        Args:
            columns: Columns of `tables.ROWS`.
            size: Rows of every batch but the last.

        Raises:
            DamagedCacheError: The table has another number of rows than the cache, or is damaged.
        """
        rows = 0
        with self._advising():
            for batch in tables.read_batches(self.folder, ROWS_FILE, tables.ROWS, columns, size):
                rows += len(batch)
                if rows > self.info.rows:
                    break
                yield batch
        if rows != self.info.rows:
            known = tables.count_rows(self.folder, ROWS_FILE)
            raise self._damaged(f"{ROWS_FILE} has {known} rows, the cache {self.info.rows}")

    def classes(self) -> pa.Table:
        """The classes table, of schema `tables.CLASSES`; empty where the dataset has no labels.

        Raises:
            DamagedCacheError: A `class_id` is not the place of its class in the table, as readers
                take it to be.
        """
        table = self._table(CLASSES_FILE, tables.CLASSES)
        if not tables.counts_from_0(table["class_id"]):
            raise self._damaged(f"column class_id of {CLASSES_FILE} does not count from 0")
        return table

    def rejects(self) -> pa.Table:
        """Why rows are not valid, of schema `tables.REJECTS`, by row and then by stream."""
        if (
            not self.folder.exists(REJECTS_FILE)
            and not self.reject_parts()
            and not self.folder.exists(AGREEMENT_FILE)
            and not any(self.missing_chunks(stream) for stream in self.stream_names)
        ):
            raise self._damaged(f"{REJECTS_FILE} is missing")
        return self.rejects_so_far()

    def rejects_so_far(self, parts: Sequence[str] | None = None) -> pa.Table:
        """The same while extraction runs, when the table may not have been written yet.

        Args:
            parts: The files of single chunks to read beside the table; None: all that exist.
        """
        names = [REJECTS_FILE] if self.folder.exists(REJECTS_FILE) else []
        names += self.reject_parts() if parts is None else parts
        if not names:
            return tables.empty(tables.REJECTS)
        table = pa.concat_tables([self._table(name, tables.REJECTS) for name in names])
        # A part that was merged but not yet removed stands in both.
        unique = table.group_by(table.column_names).aggregate([]).select(tables.REJECTS.names)
        return unique.cast(tables.REJECTS).sort_by([("row", "ascending"), ("stream", "ascending")])

    def reject_parts(self) -> list[str]:
        """The rejects of single chunks that have not been gathered yet, by file."""
        return [n for n in self.folder.files(REJECT_PARTS) if n.endswith(".parquet")]

    def masks(self) -> pa.Table | None:
        """Object masks, of schema `tables.MASKS`; None where none were extracted."""
        if not self.folder.exists(MASKS_FILE):
            return None
        return self._table(MASKS_FILE, tables.MASKS)

    # ------------------------------------------------------------------ messages

    @property
    def repair_advice(self) -> str:
        """What to do about damage, with the command to run."""
        return repair_advice(str(self.folder), self.info.made_from)

    def _table(self, name: str, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
        with self._advising():
            return tables.read_table(self.folder, name, schema, columns)

    @contextmanager
    def _advising(self) -> Iterator[None]:
        try:
            yield
        except DamagedCacheError as error:
            raise DamagedCacheError(f"{error}; {self.repair_advice}") from error

    def _damaged(self, what: str) -> DamagedCacheError:
        return damaged(self.folder, self.info, what)
