"""The streams of a cache as they lie in Zarr: their metadata checked, their chunks read whole.

Every chunk is held to its checksum, and to the checksum that the stream recorded for it.
"""

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from sparc.common.cache.info import (
    ACTIVATIONS,
    INFO_FILE,
    KIND,
    CacheInfo,
    chunk_files,
    damaged,
    finish_advice,
)
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
from sparc.common.errors import (
    CacheError,
    ConfigError,
    DamagedCacheError,
    IncompleteCacheError,
    StoreError,
    UnknownSettingError,
)
from sparc.common.files.folder import Folder
from sparc.common.files.zarr_store import zarr_store
from sparc.common.streams.info import StreamInfo
from sparc.common.text import reason

_FURTHER_READS = 2
"""How often a chunk behind a URL is read again whose bytes do not fit its checksum."""


class StoredStreams:
    """The Zarr group of a cache, opened for reading.

    What is read of the metadata is kept: once a writer has changed them, open another one.

    Args:
        folder: The cache's folder.
        info: What its `cache.json` says.
    """

    def __init__(self, folder: Folder, info: CacheInfo) -> None:
        self._folder = folder
        self._info = info
        self._streams: dict[str, StreamInfo] = {}
        self._arrays: dict[str, Any] = {}
        self._checksums: dict[str, Checksums] = {}

    # ------------------------------------------------------------------ metadata

    def stream(self, name: str) -> StreamInfo:
        """What a stream is and what made it, as its attributes say.

        Raises:
            DamagedCacheError: They cannot be read.
        """
        if name not in self._streams:
            self._streams[name] = self._read_stream(name)
        return self._streams[name]

    def documents(self, stream: str) -> dict[str, bytes]:
        """The metadata that a stream's group and arrays should have, by file below its folder."""
        info = self.stream(stream)
        return stream_documents(
            info, rows=self._info.rows, rows_per_chunk=self._info.rows_per_chunk
        )

    def layout_faults(self, stream: str, name: str) -> list[str]:
        """In what an array's metadata are not as `CACHE.md` demands; normally nothing.

        The attributes of `features` are left to `verify`: readers use those of the stream.

        Raises:
            DamagedCacheError: What made the stream cannot be read.
        """
        document = f"{name}/{DOCUMENT}"
        wanted = self.documents(stream)[document]
        try:
            content = self._folder.read(f"{ACTIVATIONS}/{stream}/{document}")
        except FileNotFoundError:
            return ["has lost its metadata"]
        faults = array_faults(content, wanted)
        if not faults and name == "valid":
            try:
                records_of(content)
            except ValueError as error:
                faults = [f"has damaged records: {reason(error)}"]
        return faults

    def array(self, stream: str, name: str) -> Any:
        """An array of a stream as a `zarr.Array`, `features` or `valid`.

        Raises:
            DamagedCacheError: Its metadata are not as they must be.
        """
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

    def cut(self, stream: str) -> dict[int, int]:
        """How many captions were cut at the context of a text stream's encoder, by chunk."""
        return recorded_cut(self.array(stream, "valid").attrs)

    def _read_stream(self, name: str) -> StreamInfo:
        where = f"{ACTIVATIONS}/{name}/{DOCUMENT}"
        try:
            attributes = attributes_of(self._folder.read(where))
        except FileNotFoundError as error:
            raise self._damaged(
                f"stream {name} is listed in {INFO_FILE}, but {where} is missing"
            ) from error
        try:
            stream = from_mapping(StreamInfo, attributes or {}, source=where)
            if stream.name != name:
                raise ConfigError(f"the name is {stream.name!r}")
        except UnknownSettingError as error:
            copy = f"{ACTIVATIONS}/{name}/features/{DOCUMENT}"
            if self._folder.exists(copy) and attributes_of(self._folder.read(copy)) == attributes:
                raise KIND.newer(error, where=f"{self._folder}/{where}") from error
            raise self._damaged_attributes(name, where, error) from error
        except (TypeError, ConfigError) as error:
            raise self._damaged_attributes(name, where, error) from error
        return stream

    def _damaged_attributes(self, name: str, where: str, error: Exception) -> DamagedCacheError:
        return self._damaged(f"the attributes of stream {name}, in {where}, are damaged: {error}")

    @cached_property
    def _group(self) -> zarr.Group:
        try:
            store = zarr_store(self._folder, ACTIVATIONS, read_only=True)
            return zarr.open_group(store, mode="r")
        except StoreError:
            raise
        except Exception as error:  # Zarr raises almost anything at damaged metadata
            raise self._damaged(f"{ACTIVATIONS} cannot be opened: {reason(error)}") from error

    # ------------------------------------------------------------------ chunks

    def read(
        self, stream: str, name: str, chunk: int, out: npt.NDArray[Any] | None = None
    ) -> npt.NDArray[Any]:
        """The values of a chunk of an array, checked.

        Args:
            stream: Which stream.
            name: Which of its arrays.
            chunk: Which chunk.
            out: Where to put them: C-contiguous, of the chunk's shape and the array's dtype.

        Raises:
            IncompleteCacheError: The chunk has not been written.
            DamagedCacheError: Its bytes are not those that were written.
        """
        rows = self._info.chunk_rows(chunk)
        array = self.array(stream, name)
        self.array(stream, "valid")  # its attributes record the checksums of both arrays
        is_plain = PlainChunks.fits(self._folder, array)
        try:
            if is_plain:
                plain = PlainChunks(self._folder.inside(f"{ACTIVATIONS}/{stream}/{name}"), array)
                values = plain.read(chunk, len(rows), out)
            else:
                self._require_decodable(stream, name, chunk)
                values = self._decoded(array, rows)
            self._require_own(stream, name, chunk)
        except StoreError:
            raise
        except FileNotFoundError as error:
            raise self._not_written(stream, name, chunk) from error
        except PermissionError as error:
            raise CacheError(
                f"{self._folder}: cannot read chunk {chunk} of {stream}/{name}: {error.strerror}"
            ) from error
        except Exception as error:
            raise self._damaged(
                f"chunk {chunk} of {stream}/{name} (rows {rows.start} to {rows.stop - 1}) is "
                f"damaged: {reason(error)}"
            ) from error
        if is_plain:
            return values
        # Zarr reads a missing chunk as the fill value. Written features or flags that look like it
        # are rare, so the file system is asked only then. (Bytes, since NumPy is slow with
        # float16.)
        if not values.view(np.uint8).any() and chunk not in self._chunk_sizes(stream, name):
            raise self._not_written(stream, name, chunk)
        if out is None:
            return values
        out[...] = values
        return out

    def _decoded(self, array: Any, rows: range) -> npt.NDArray[Any]:
        """Rows of an array, by Zarr; behind a URL, bytes may be spoilt on the way."""
        for _ in range(0 if self._folder.local is not None else _FURTHER_READS):
            try:
                return np.asarray(array[rows.start : rows.stop])
            except StoreError:
                raise
            except Exception:  # of many kinds: the last attempt says which
                continue
        return np.asarray(array[rows.start : rows.stop])

    def checksum(self, stream: str, name: str, chunk: int) -> int:
        """The CRC32C at the end of a chunk of an array.

        Raises:
            FileNotFoundError: The chunk has not been written.
        """
        file = chunk_files(stream, chunk)[ARRAYS.index(name)]
        return int.from_bytes(self._folder.read_end(file, CHECKSUM_BYTES), "little")

    def whole_chunks(self, stream: str) -> set[int]:
        """Chunks of a stream of which both objects have the size of a whole chunk."""
        return set.intersection(*(self._whole_objects(stream, name) for name in ARRAYS))

    def _require_decodable(self, stream: str, name: str, chunk: int) -> None:
        """Refuse a compressed chunk that would become longer than a chunk is."""
        if self._folder.local is None:
            return
        info = self.stream(stream)
        wanted = decoded_bytes(info, name, rows_per_chunk=self._info.rows_per_chunk)
        file_name = chunk_files(stream, chunk)[ARRAYS.index(name)]
        with self._folder.open(file_name, largest=2 * wanted + (1 << 20)) as file:
            claimed = claimed_bytes(info, file.read())
        if claimed != wanted:
            shown = "an unknown number of" if claimed is None else claimed
            raise ValueError(f"it holds {shown} bytes, not {wanted}")

    def _require_own(self, stream: str, name: str, chunk: int) -> None:
        """Refuse a sound chunk that belongs elsewhere; behind a URL that would cost a request."""
        if self._folder.local is None:
            return
        if stream not in self._checksums:
            attributes = self.array(stream, "valid").attrs
            self._checksums[stream] = recorded_checksums(attributes, self._info.chunks)
        recorded = self._checksums[stream][name][chunk]
        if recorded is not None and recorded != self.checksum(stream, name, chunk):
            raise ValueError("it is not the chunk that was written there")

    def _whole_objects(self, stream: str, name: str) -> set[int]:
        wanted = chunk_bytes(self.stream(stream), name, rows_per_chunk=self._info.rows_per_chunk)
        return {
            chunk
            for chunk, size in self._chunk_sizes(stream, name).items()
            if (size == wanted if wanted is not None else size > CHECKSUM_BYTES)
        }

    def _chunk_sizes(self, stream: str, name: str) -> dict[int, int]:
        prefix = f"{ACTIVATIONS}/{stream}/{name}/c/"
        suffix = "/0" if name == "features" else ""
        sizes = self._folder.sizes(prefix.rstrip("/"))
        keys = {key.removeprefix(prefix): size for key, size in sizes.items()}
        return {
            int(key.removesuffix(suffix)): size
            for key, size in keys.items()
            if key.endswith(suffix) and key.removesuffix(suffix).isdecimal()
        }

    def _not_written(self, stream: str, name: str, chunk: int) -> IncompleteCacheError:
        return IncompleteCacheError(
            f"{self._folder}: chunk {chunk} of {stream}/{name} has not been written; "
            + finish_advice(self._folder, self._info.made_from)
        )

    def _damaged(self, what: str) -> DamagedCacheError:
        return damaged(self._folder, self._info, what)
