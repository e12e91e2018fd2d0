"""Reading an activation cache. The protocol on disk is `CACHE.md`, which is normative.

An `ActivationCache` hands out whole chunks of rows; rows are never gathered one by one. Only
`sparc.common` knows Zarr.
"""

import dataclasses
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import zarr

from sparc.common.cache import tables
from sparc.common.cache.layout import (
    ARRAYS,
    CHECKSUM_BYTES,
    DOCUMENT,
    Checksums,
    array_faults,
    attributes_of,
    chunk_bytes,
    claimed_bytes,
    decoded_bytes,
    recorded_checksums,
    recorded_cut,
    records_of,
    stream_documents,
)
from sparc.common.cache.plain_chunks import PlainChunks
from sparc.common.config import from_mapping
from sparc.common.documents import parse_json
from sparc.common.errors import (
    CacheError,
    ConfigError,
    DamagedCacheError,
    IncompleteCacheError,
)
from sparc.common.files.folder import Folder
from sparc.common.files.zarr_store import zarr_store
from sparc.common.streams.spec import StreamInfo, check_name
from sparc.common.text import reason

FORMAT = "sparc-activation-cache"
VERSION = 1

_BELIEVED_ROWS = 1 << 20
_LARGEST_ROWS = 1 << 32
"""Most rows of a cache whose table cannot be read."""

ARRAYS_DATASET = "arrays"
"""What stands for the dataset in a cache of features that were not extracted."""

INFO_FILE = "cache.json"
ACTIVATIONS = "activations.zarr"
ROWS_FILE = "rows.parquet"
CLASSES_FILE = "classes.parquet"
REJECTS_FILE = "rejects.parquet"
MASKS_FILE = "masks.parquet"
REJECT_PARTS = "rejects"
ROOT_DOCUMENT = f"{ACTIVATIONS}/{DOCUMENT}"


def _extract_command(dataset: str, location: str) -> str:
    """What to type in a shell, where a dataset's name must not do anything else."""
    return shlex.join(["sparc-extract", "run", dataset, location])


def repair_advice(location: str, dataset: str = "DATASET") -> str:
    """What to do about damage: the end of an error message."""
    if dataset == ARRAYS_DATASET:
        return "write the same arrays there again: write_arrays re-makes what is damaged"
    return (
        "re-make what is damaged, and nothing else, by running the same "
        f"`{_extract_command(dataset, location)}` again with --repair"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheInfo:
    """What `cache.json` says.

    Attributes:
        dataset: Where the images lie: the folder or URL that was given.
        dataset_format: Which reader read it.
        split: The split of the dataset; empty where it has none.
        rows: Number of rows.
        rows_per_chunk: Rows in every chunk but the last.
        manifest_digest: See `sparc.common.cache.tables.manifest_digest`.
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
        return (json.dumps(self.to_document(), indent=2, ensure_ascii=False) + "\n").encode()

    def to_document(self) -> dict[str, Any]:
        """The same as plain JSON values; the attributes of the Zarr group hold them too."""
        return {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}

    @classmethod
    def read(cls, folder: Folder) -> "CacheInfo":
        """Read `cache.json`.

        Raises:
            CacheError: There is none, or it is of another version.
            DamagedCacheError: It is not what was written.
        """
        try:
            content = folder.read(INFO_FILE)
        except FileNotFoundError as error:
            if cls.read_copy(folder) is not None:
                raise DamagedCacheError(
                    f"{folder} has lost its {INFO_FILE}; {repair_advice(str(folder))}"
                ) from error
            raise CacheError(f"{folder} is not an activation cache: no {INFO_FILE}") from error
        except OSError as error:
            raise CacheError(f"cannot read {folder}/{INFO_FILE}: {error.strerror}") from error
        try:
            return cls.from_document(parse_json(content), str(folder))
        except ValueError as error:
            what = f"{folder}/{INFO_FILE} is not readable: {reason(error)}"
            raise DamagedCacheError(f"{what}; {repair_advice(str(folder))}") from error

    @classmethod
    def read_copy(cls, folder: Folder) -> "CacheInfo | None":
        """What the attributes of the Zarr group say; None where they say nothing."""
        try:
            attributes = attributes_of(folder.read(ROOT_DOCUMENT))
            return cls.from_document(attributes, str(folder)) if attributes else None
        except (OSError, CacheError):
            return None

    @classmethod
    def from_document(cls, document: Any, where: str) -> "CacheInfo":
        """The opposite of `to_document`.

        Raises:
            CacheError: It is of another version.
            DamagedCacheError: It has other keys or types.
        """
        if not isinstance(document, dict) or not {"format", "version"} <= document.keys():
            raise DamagedCacheError(
                f"{where}/{INFO_FILE} is damaged: it names no format; {repair_advice(where)}"
            )
        found = document["format"], document["version"]
        if found != (FORMAT, VERSION):
            raise CacheError(
                f"{where} is in format {found[0]!r} version {found[1]!r}; this SPARC reads "
                f"version {VERSION}: use the version of SPARC that wrote it"
            )
        values = {key: value for key, value in document.items() if key not in ("format", "version")}
        try:
            info = from_mapping(cls, values, source=INFO_FILE)
            if info.rows < 1 or info.rows_per_chunk < 1:
                raise ConfigError("rows and rows_per_chunk must be positive")
            if len(set(map(check_name, info.streams))) < len(info.streams):
                raise ConfigError("a stream is named twice")
        except (ConfigError, TypeError) as error:
            raise DamagedCacheError(
                f"{where}/{INFO_FILE} is damaged: {error}; {repair_advice(where)}"
            ) from error
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
        self._require_plausible()
        self._infos: dict[str, StreamInfo] = {}
        self._arrays: dict[str, Any] = {}
        self._checksums: dict[str, Checksums] = {}

    def _require_plausible(self) -> None:
        """Refuse more rows than the table has, before anything loops over them."""
        if self.info.rows <= _BELIEVED_ROWS:
            return
        try:
            there = tables.count_rows(self.folder, ROWS_FILE)
        except DamagedCacheError:  # which is said where the table is needed
            there = _LARGEST_ROWS
        if self.info.rows > there or self.info.chunks > _LARGEST_ROWS >> 10:
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
        if name not in self._infos:
            self.choose([name])
            self._infos[name] = self._stream_info(name)
        return self._infos[name]

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
        whole = [self._whole_chunks(stream, name) for name in ARRAYS]
        return [c for c in range(self.info.chunks) if not all(c in chunks for chunks in whole)]

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
                    f"{self.info.chunks} chunks ({shown}); {self._finish_advice}"
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
        table = self._table(ROWS_FILE, tables.ROWS, columns)
        if len(table) != self.info.rows:
            raise self._damaged(f"{ROWS_FILE} has {len(table)} rows, the cache {self.info.rows}")
        return table

    def row_batches(self, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
        """Some columns of the rows table, so many rows at a time.

        Args:
            columns: Columns of `tables.ROWS`.
            size: Rows of every batch but the last.
        """
        with self._advising():
            yield from tables.read_batches(self.folder, ROWS_FILE, tables.ROWS, columns, size)

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
            and not any(self.missing_chunks(stream) for stream in self.stream_names)
        ):
            raise self._damaged(f"{REJECTS_FILE} is missing")
        return self.rejects_so_far()

    def rejects_so_far(self) -> pa.Table:
        """The same while extraction runs, when the table may not have been written yet."""
        names = [REJECTS_FILE] if self.folder.exists(REJECTS_FILE) else []
        names += self.reject_parts()
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

    # ------------------------------------------------------------------ how it lies in Zarr

    def stream_documents(self, stream: str) -> dict[str, bytes]:
        """The metadata that a stream's group and arrays should have, by file below its folder."""
        info = self.stream(stream)
        return stream_documents(info, rows=self.info.rows, rows_per_chunk=self.info.rows_per_chunk)

    def layout_faults(self, stream: str, name: str) -> list[str]:
        """In what an array's metadata are not as `CACHE.md` demands; normally nothing.

        Of `features` the attributes are left to `verify`: readers use those of the stream.

        Raises:
            DamagedCacheError: What made the stream cannot be read.
        """
        document = f"{name}/{DOCUMENT}"
        wanted = self.stream_documents(stream)[document]
        try:
            found = self.folder.read(f"{ACTIVATIONS}/{stream}/{document}")
        except FileNotFoundError:
            return ["has lost its metadata"]
        faults = array_faults(found, wanted)
        if not faults and name == "valid":
            try:
                records_of(found)
            except ValueError as error:
                faults = [f"has damaged records: {reason(error)}"]
        return faults

    def chunk_files(self, stream: str, chunk: int) -> tuple[str, str]:
        """The two objects of a chunk, features and flags."""
        folder = f"{ACTIVATIONS}/{stream}"
        return f"{folder}/features/c/{chunk}/0", f"{folder}/valid/c/{chunk}"

    def cut(self, stream: str) -> int:
        """How many captions were cut at the context of a text stream's encoder."""
        return sum(recorded_cut(self._array(stream, "valid").attrs).values())

    @cached_property
    def _group(self) -> zarr.Group:
        try:
            store = zarr_store(self.folder, ACTIVATIONS, read_only=True)
            return zarr.open_group(store, mode="r")
        except Exception as error:  # Zarr raises almost anything at damaged metadata
            raise self._damaged(f"{ACTIVATIONS} cannot be opened: {reason(error)}") from error

    def _stream_info(self, name: str) -> StreamInfo:
        where = f"{ACTIVATIONS}/{name}/{DOCUMENT}"
        try:
            attributes = attributes_of(self.folder.read(where))
        except FileNotFoundError as error:
            raise self._damaged(
                f"stream {name} is listed in {INFO_FILE}, but {where} is missing"
            ) from error
        try:
            found = from_mapping(StreamInfo, attributes or {}, source=where)
            if found.name != name:
                raise ConfigError(f"the name is {found.name!r}")
        except (TypeError, ConfigError) as error:
            raise self._damaged(
                f"the attributes of stream {name}, in {where}, are damaged: {error}"
            ) from error
        return found

    def _array(self, stream: str, name: str) -> Any:
        key = f"{stream}/{name}"
        if key not in self._arrays:
            faults = self.layout_faults(stream, name)
            if faults:
                raise self._damaged(f"array {key} {faults[0]}")
            try:
                self._arrays[key] = self._group[key]
            except (KeyError, ValueError, TypeError) as error:
                raise self._damaged(f"array {key} cannot be opened: {reason(error)}") from error
        return self._arrays[key]

    def _table(self, name: str, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
        with self._advising():
            return tables.read_table(self.folder, name, schema, columns)

    @contextmanager
    def _advising(self) -> Iterator[None]:
        try:
            yield
        except DamagedCacheError as error:
            raise DamagedCacheError(f"{error}; {self.repair_advice}") from error

    @property
    def repair_advice(self) -> str:
        """What to do about damage, with the command to run."""
        return repair_advice(str(self.folder), self.info.dataset)

    @property
    def _finish_advice(self) -> str:
        if self.info.dataset == ARRAYS_DATASET:
            return "finish it by writing the same arrays there again"
        command = _extract_command(self.info.dataset, str(self.folder))
        return f"finish it by running the same `{command}` again"

    def _damaged(self, what: str) -> DamagedCacheError:
        return DamagedCacheError(f"{self.folder}: {what}; {self.repair_advice}")

    def _read(self, stream: str, name: str, chunk: int, out: npt.NDArray[Any] | None = None) -> Any:
        rows = self.info.chunk_rows(chunk)
        array = self._array(stream, name)
        self._array(stream, "valid")  # which records what the chunks of both end in
        is_plain = PlainChunks.fits(self.folder, array)
        try:
            if is_plain:
                plain = PlainChunks(self.folder.inside(f"{ACTIVATIONS}/{stream}/{name}"), array)
                values = plain.read(chunk, len(rows), out)
            else:
                self._require_decodable(stream, name, chunk)
                values = np.asarray(array[rows.start : rows.stop])
            self._require_own(stream, name, chunk)
        except FileNotFoundError as error:
            raise self._not_written(stream, name, chunk) from error
        except PermissionError as error:
            raise CacheError(
                f"{self.folder}: cannot read chunk {chunk} of {stream}/{name}: {error.strerror}"
            ) from error
        except Exception as error:
            raise self._damaged(
                f"chunk {chunk} of {stream}/{name} (rows {rows.start} to {rows.stop - 1}) is "
                f"damaged: {reason(error)}"
            ) from error
        if is_plain:
            return values
        # Zarr reads a chunk that is not there as the fill value. Every written feature or flag
        # that could look like one is rare, so the file system is asked only then. (Bytes, since
        # NumPy is slow at asking float16 values.)
        if not values.view(np.uint8).any() and chunk not in self._chunk_sizes(stream, name):
            raise self._not_written(stream, name, chunk)
        if out is None:
            return values
        out[...] = values
        return out

    def _require_decodable(self, stream: str, name: str, chunk: int) -> None:
        """Refuse a compressed chunk that would become longer than a chunk is."""
        if self.folder.local is None:
            return
        info = self.stream(stream)
        wanted = decoded_bytes(info, name, rows_per_chunk=self.info.rows_per_chunk)
        with self.folder.open(
            self.chunk_files(stream, chunk)[ARRAYS.index(name)], largest=2 * wanted + (1 << 20)
        ) as file:
            found = claimed_bytes(info, file.read())
        if found != wanted:
            shown = "an unknown number of" if found is None else found
            raise ValueError(f"it holds {shown} bytes, not {wanted}")

    def _require_own(self, stream: str, name: str, chunk: int) -> None:
        """Refuse a sound chunk that belongs elsewhere; behind a URL that would cost a request."""
        if self.folder.local is None:
            return
        if stream not in self._checksums:
            attributes = self._array(stream, "valid").attrs
            self._checksums[stream] = recorded_checksums(attributes, self.info.chunks)
        recorded = self._checksums[stream][name][chunk]
        if recorded is not None and recorded != self.checksum(stream, name, chunk):
            raise ValueError("it is not the chunk that was written there")

    def checksum(self, stream: str, name: str, chunk: int) -> int:
        """What a chunk of an array ends in: the CRC32C of all before.

        Raises:
            FileNotFoundError: The chunk has not been written.
        """
        file = self.chunk_files(stream, chunk)[ARRAYS.index(name)]
        return int.from_bytes(self.folder.read_end(file, CHECKSUM_BYTES), "little")

    def _not_written(self, stream: str, name: str, chunk: int) -> IncompleteCacheError:
        return IncompleteCacheError(
            f"{self.folder}: chunk {chunk} of {stream}/{name} has not been written; "
            f"{self._finish_advice}"
        )

    def _whole_chunks(self, stream: str, name: str) -> set[int]:
        wanted = chunk_bytes(self.stream(stream), name, rows_per_chunk=self.info.rows_per_chunk)
        return {
            chunk
            for chunk, bytes_there in self._chunk_sizes(stream, name).items()
            if (bytes_there == wanted if wanted is not None else bytes_there > CHECKSUM_BYTES)
        }

    def _chunk_sizes(self, stream: str, name: str) -> dict[int, int]:
        prefix = f"{ACTIVATIONS}/{stream}/{name}/c/"
        suffix = "/0" if name == "features" else ""
        found = self.folder.sizes(prefix.rstrip("/"))
        keys = {key.removeprefix(prefix): count for key, count in found.items()}
        return {
            int(key.removesuffix(suffix)): count
            for key, count in keys.items()
            if key.endswith(suffix) and key.removesuffix(suffix).isdecimal()
        }
