"""Reading an activation cache. The protocol on disk is `CACHE.md`, which is normative.

An `ActivationCache` hands out whole chunks of rows; rows are never gathered one by one. Zarr is
known to this module and to `sparc.common.cache_writer` alone.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import zarr

from sparc.common import tables
from sparc.common.config import from_mapping
from sparc.common.errors import (
    CacheError,
    ConfigError,
    DamagedCacheError,
    IncompleteCacheError,
)
from sparc.common.plain_chunks import PlainChunks
from sparc.common.storage import Folder
from sparc.common.streams import StreamInfo

FORMAT = "sparc-activation-cache"
VERSION = 1

INFO_FILE = "cache.json"
ACTIVATIONS = "activations.zarr"
ROWS_FILE = "rows.parquet"
CLASSES_FILE = "classes.parquet"
REJECTS_FILE = "rejects.parquet"
MASKS_FILE = "masks.parquet"
REJECT_PARTS = "rejects"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheInfo:
    """What `cache.json` says.

    Attributes:
        dataset: Where the pictures lie: the folder or URL that was given.
        dataset_format: Which reader read it.
        split: The split of the dataset; empty where it has none.
        rows: Number of rows.
        rows_per_chunk: Rows in every chunk but the last.
        manifest_digest: See `sparc.common.tables.manifest_digest`.
        streams: Names of the streams, in the order in which they joined.
        versions: Version by package, of the software that began the cache.
    """

    dataset: str
    dataset_format: str
    split: str
    rows: int
    rows_per_chunk: int
    manifest_digest: str
    streams: tuple[str, ...]
    versions: Mapping[str, str]

    @property
    def chunks(self) -> int:
        """Number of chunks of every stream."""
        return -(-self.rows // self.rows_per_chunk)

    def chunk_rows(self, chunk: int) -> range:
        """The rows of a chunk.

        Raises:
            IndexError: There is no such chunk.
        """
        if not 0 <= chunk < self.chunks:
            raise IndexError(f"chunk {chunk} of {self.chunks}")
        start = chunk * self.rows_per_chunk
        return range(start, min(start + self.rows_per_chunk, self.rows))

    def to_json(self) -> bytes:
        """The content of `cache.json`."""
        document = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}
        return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()

    @classmethod
    def read(cls, folder: Folder) -> "CacheInfo":
        """Read `cache.json`.

        Raises:
            CacheError: There is none, or it is of another version.
        """
        try:
            document = json.loads(folder.read(INFO_FILE))
            found = document.pop("format"), document.pop("version")
        except FileNotFoundError as error:
            raise CacheError(f"{folder} is not an activation cache: no {INFO_FILE}") from error
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise DamagedCacheError(f"{folder}/{INFO_FILE} is not readable: {error}") from error
        if found != (FORMAT, VERSION):
            raise CacheError(
                f"{folder} is in format {found[0]!r} version {found[1]!r}; this SPARC reads "
                f"version {VERSION}: use the version of SPARC that wrote it"
            )
        try:
            document["streams"] = tuple(document["streams"])
            info = cls(**document)
            if info.rows < 1 or info.rows_per_chunk < 1:
                raise ValueError("rows and rows_per_chunk must be positive")
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedCacheError(f"{folder}/{INFO_FILE} is damaged: {error}") from error
        return info


class ActivationCache:
    """An activation cache, opened for reading.

    Args:
        location: The cache's folder or URL.

    Raises:
        CacheError: There is no cache, or it is of another version.
        DamagedCacheError: Its metadata are not readable.
    """

    def __init__(self, location: Any) -> None:
        self.folder = location if isinstance(location, Folder) else Folder(location)
        self.info = CacheInfo.read(self.folder)

    @property
    def stream_names(self) -> tuple[str, ...]:
        """All streams, in their fixed order, complete or not."""
        return self.info.streams

    @cached_property
    def streams(self) -> Mapping[str, StreamInfo]:
        """What each stream is, by name, in the cache's order."""
        return {name: self._stream_info(name) for name in self.info.streams}

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
        """Chunks of a stream that have not been written, in order."""
        features = self._chunks_present(stream, "features")
        valid = self._chunks_present(stream, "valid")
        return [c for c in range(self.info.chunks) if c not in features or c not in valid]

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
                    f"{self.info.chunks} chunks ({shown}); finish it by running the same "
                    f"`sparc-extract run {self.info.dataset} {self.folder}` again"
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
        """
        values: npt.NDArray[Any] = self._read(stream, "features", chunk, out)
        return values

    def valid(self, stream: str, chunk: int) -> npt.NDArray[np.bool_]:
        """Which rows of a chunk have a feature: (rows,) bool. Raises as `features` does."""
        flags: npt.NDArray[np.bool_] = self._read(stream, "valid", chunk)
        return flags

    def valid_rows(self, streams: Sequence[str] = ()) -> npt.NDArray[np.bool_]:
        """Which rows of the cache are valid in every one of the streams: (rows,) bool."""
        names = self.choose(streams)
        result = np.ones(self.info.rows, dtype=np.bool_)
        for chunk in range(self.info.chunks):
            rows = self.info.chunk_rows(chunk)
            for name in names:
                result[rows.start : rows.stop] &= self.valid(name, chunk)
        return result

    def dask_features(self, stream: str) -> Any:
        """The features as a `dask.array`, one block a chunk."""
        import dask.array

        return dask.array.from_zarr(self._array(stream, "features"))

    # ------------------------------------------------------------------ tables

    def rows(self, columns: list[str] | None = None) -> pa.Table:
        """The rows table, of schema `tables.ROWS` or some of its columns."""
        table = tables.read_table(self.folder, ROWS_FILE, tables.ROWS, columns)
        if len(table) != self.info.rows:
            raise DamagedCacheError(
                f"{self.folder}/{ROWS_FILE} has {len(table)} rows, the cache {self.info.rows}"
            )
        return table

    def row_batches(self, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
        """Some columns of the rows table, so many rows at a time.

        Args:
            columns: Columns of `tables.ROWS`.
            size: Rows of every batch but the last.
        """
        return tables.read_batches(self.folder, ROWS_FILE, tables.ROWS, columns, size)

    def classes(self) -> pa.Table:
        """The classes table, of schema `tables.CLASSES`; empty where the dataset has no labels."""
        return tables.read_table(self.folder, CLASSES_FILE, tables.CLASSES)

    def rejects(self) -> pa.Table:
        """Why rows are not valid, of schema `tables.REJECTS`, by row and then by stream."""
        parts = [
            tables.read_table(self.folder, name, tables.REJECTS)
            for name in (REJECTS_FILE, *self.folder.files(REJECT_PARTS))
            if self.folder.exists(name)
        ]
        if not parts:
            return tables.empty(tables.REJECTS)
        table = pa.concat_tables(parts)
        # A part that was merged but not yet removed stands in both.
        unique = table.group_by(table.column_names).aggregate([]).select(tables.REJECTS.names)
        return unique.cast(tables.REJECTS).sort_by([("row", "ascending"), ("stream", "ascending")])

    def masks(self) -> pa.Table | None:
        """Object masks, of schema `tables.MASKS`; None where none were extracted."""
        if not self.folder.exists(MASKS_FILE):
            return None
        return tables.read_table(self.folder, MASKS_FILE, tables.MASKS)

    # ------------------------------------------------------------------ how it lies in Zarr

    def layout_faults(self, stream: str) -> list[str]:
        """What `CACHE.md` demands of a stream's two arrays and is not so; normally nothing.

        Raises:
            DamagedCacheError: The stream cannot be opened at all.
        """
        info = self.streams[stream]
        per_chunk = self.info.rows_per_chunk
        rows = (self.info.rows,)
        expected: dict[str, tuple[tuple[int, ...], tuple[int, ...], str, tuple[str, ...]]] = {
            "features": (
                (*rows, info.dim),
                (per_chunk, info.dim),
                info.dtype,
                ("row", f"{stream}_dim"),
            ),
            "valid": (rows, (per_chunk,), "bool", ("row",)),
        }
        faults = [] if info.name == stream else [f"its attributes call it {info.name!r}"]
        for name, wanted in expected.items():
            array = self._array(stream, name)
            names = tuple(array.metadata.dimension_names or ())
            found = (array.shape, array.chunks, str(array.dtype), names)
            for what, a, b in zip(
                ("shape", "chunks", "dtype", "dimension names"), found, wanted, strict=True
            ):
                if a != b:
                    faults.append(f"array {name} has {what} {a}, not {b}")
            if type(array.metadata.codecs[-1]).__name__ != "Crc32cCodec":
                faults.append(f"array {name} has no CRC32C as its last codec")
        return faults

    @cached_property
    def _group(self) -> zarr.Group:
        try:
            store = self.folder.zarr_store(ACTIVATIONS, read_only=True)
            return zarr.open_group(store, mode="r")
        except (OSError, ValueError, KeyError) as error:
            raise DamagedCacheError(f"{self.folder}/{ACTIVATIONS} cannot be opened") from error

    def _stream_info(self, name: str) -> StreamInfo:
        try:
            attributes = dict(self._group[name].attrs)
            return from_mapping(StreamInfo, attributes, source=f"stream {name}")
        except KeyError as error:
            raise DamagedCacheError(
                f"{self.folder}: stream {name} is listed in {INFO_FILE}, but has no Zarr group"
            ) from error
        except (ValueError, TypeError, ConfigError) as error:
            raise DamagedCacheError(
                f"{self.folder}: the attributes of stream {name} are damaged: {error}"
            ) from error

    def _array(self, stream: str, name: str) -> Any:
        if stream not in self.info.streams:
            self.choose([stream])
        key = f"{stream}/{name}"
        if key not in self._arrays:
            try:
                self._arrays[key] = self._group[key]
            except (KeyError, ValueError) as error:
                raise DamagedCacheError(f"{self.folder}: array {key} cannot be opened") from error
        return self._arrays[key]

    @cached_property
    def _arrays(self) -> dict[str, Any]:
        return {}

    def _read(self, stream: str, name: str, chunk: int, out: npt.NDArray[Any] | None = None) -> Any:
        rows = self.info.chunk_rows(chunk)
        array = self._array(stream, name)
        try:
            if PlainChunks.fits(self.folder, array):
                plain = PlainChunks(self._local_folder / stream / name, array)
                return plain.read(chunk, len(rows), out)
            values = np.asarray(array[rows.start : rows.stop])
        except FileNotFoundError as error:
            raise self._not_written(stream, name, chunk) from error
        except Exception as error:
            raise DamagedCacheError(
                f"{self.folder}: chunk {chunk} of {stream}/{name} (rows {rows.start} to "
                f"{rows.stop - 1}) is damaged: {error}"
            ) from error
        # Zarr reads a chunk that is not there as the fill value. Every written feature or flag
        # that could look like one is rare, so the file system is asked only then. (Bytes, since
        # NumPy is slow at asking float16 values.)
        if not values.view(np.uint8).any() and chunk not in self._chunks_present(stream, name):
            raise self._not_written(stream, name, chunk)
        if out is None:
            return values
        out[...] = values
        return out

    def _not_written(self, stream: str, name: str, chunk: int) -> IncompleteCacheError:
        return IncompleteCacheError(
            f"{self.folder}: chunk {chunk} of {stream}/{name} has not been written"
        )

    @property
    def _local_folder(self) -> Path:
        assert self.folder.local is not None
        return self.folder.local / ACTIVATIONS

    def _chunks_present(self, stream: str, name: str) -> set[int]:
        prefix = f"{ACTIVATIONS}/{stream}/{name}/c/"
        keys = (f.removeprefix(prefix) for f in self.folder.files(prefix.rstrip("/")))
        first = (key.split("/")[0] for key in keys if not key.endswith(".partial"))
        return {int(index) for index in first if index.isdecimal()}
