"""Sparse codes on disk: `REPORT/codes.zarr`, written once by chunks, read by every metric.

A chunk of codes holds the rows of the same chunk of the activation cache, so row numbers are those
of the cache. The layout is described in `REPORT.md`, which is normative. This module must not know
how codes are computed (`sparc.analyze.codes.encode`) nor what is measured on them.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import zarr
from scipy import sparse
from zarr.codecs import BytesCodec, Crc32cCodec

from sparc.common.config import from_mapping, to_mapping
from sparc.common.errors import ConfigError, ReportError
from sparc.common.files.folder import Folder
from sparc.common.files.zarr_store import zarr_store
from sparc.common.progress import say
from sparc.train.model.network import Mode

CODES = "codes.zarr"
FORMAT = "sparc-codes"
VERSION = 1

_ADVICE = "run the same `sparc-analyze run` again, which makes it anew"

_CHECKSUM_BYTES = 4

Control = Literal["none", "permuted", "permuted_before", "permuted_after", "untrained"]
"""What a set of codes is measured against: `none` is the trained model on the real rows."""


class CodeSet(NamedTuple):
    """Which codes: how the streams selected, and which control it is."""

    mode: Mode
    control: Control = "none"

    def __str__(self) -> str:
        return f"{'trained' if self.control == 'none' else self.control}/{self.mode}"


class CodeRows(NamedTuple):
    """Codes of some rows in every stream.

    Attributes:
        rows: Which rows of the cache, (n,) int64.
        indices: By stream, the latents selected for each row, (n, k), ascending within a row.
            With joint selection all streams have the same array.
        values: By stream, their values, (n, k) float32; zero where a latent is not active.
    """

    rows: npt.NDArray[np.int64]
    indices: Mapping[str, npt.NDArray[Any]]
    values: Mapping[str, npt.NDArray[np.float32]]

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams, in their fixed order."""
        return tuple(self.values)

    def matrix(self, stream: str, latents: int) -> sparse.csr_matrix:
        """A stream's codes as a canonical sparse matrix of its active latents, (n, latents)."""
        indices, values = self.indices[stream], self.values[stream]
        active = values > 0
        ends = np.concatenate([[0], np.cumsum(active.sum(axis=1))])
        matrix = sparse.csr_matrix(
            (values[active], indices[active].astype(np.int32), ends.astype(np.int64)),
            shape=(len(values), latents),
        )
        matrix.has_canonical_format = True
        return matrix

    def batches(self, size: int) -> Iterator["CodeRows"]:
        """All rows, so many at a time, without copying them."""
        for start in range(0, len(self.rows), size):
            yield self.take(slice(start, start + size))

    def take(self, positions: npt.NDArray[Any] | slice) -> "CodeRows":
        """Some of the rows, by position."""
        shared: dict[int, npt.NDArray[Any]] = {}
        for indices in self.indices.values():
            if id(indices) not in shared:
                shared[id(indices)] = indices[positions]
        return CodeRows(
            self.rows[positions],
            {stream: shared[id(indices)] for stream, indices in self.indices.items()},
            {stream: values[positions] for stream, values in self.values.items()},
        )


def concatenate(parts: Sequence[CodeRows]) -> CodeRows:
    """The rows of several parts, one after the other."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    indices: dict[str, npt.NDArray[Any]] = {}
    joined: dict[int, npt.NDArray[Any]] = {}
    for stream in first.streams:
        key = id(first.indices[stream])
        if key not in joined:
            joined[key] = np.concatenate([part.indices[stream] for part in parts])
        indices[stream] = joined[key]
    return CodeRows(
        np.concatenate([part.rows for part in parts]),
        indices,
        {s: np.concatenate([part.values[s] for part in parts]) for s in first.streams},
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodeLayout:
    """The sizes of `codes.zarr`.

    Attributes:
        streams: The streams that have codes, in the model's order.
        latents: L.
        k: Latents selected for a row.
        rows: Rows of the cache; those that were not analysed hold zeros.
        rows_per_chunk: As in the cache.
    """

    streams: tuple[str, ...]
    latents: int
    k: int
    rows: int
    rows_per_chunk: int

    def __post_init__(self) -> None:
        if min(self.latents, self.k, self.rows, self.rows_per_chunk) < 1:
            raise ConfigError("sizes must be positive")

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return -(-self.rows // self.rows_per_chunk)

    def chunk_rows(self, chunk: int) -> slice:
        """The rows of a chunk."""
        start = chunk * self.rows_per_chunk
        return slice(start, min(start + self.rows_per_chunk, self.rows))

    @property
    def index_dtype(self) -> np.dtype[Any]:
        """The smallest unsigned type that holds the number of any latent."""
        return np.min_scalar_type(self.latents - 1)


class CodeStore:
    """The codes of a report. It is opened lazily, so it may travel to other processes.

    Args:
        folder: The report's folder.
    """

    def __init__(self, folder: Folder) -> None:
        self._location = folder.location

    def __reduce__(self) -> tuple[Any, ...]:
        return CodeStore, (Folder(self._location),)

    @cached_property
    def _folder(self) -> Folder:
        return Folder(self._location)

    # ------------------------------------------------------------------ writing

    def create(
        self,
        layout: CodeLayout,
        valid: npt.NDArray[np.bool_],
        code_sets: Sequence[CodeSet],
    ) -> None:
        """Begin the store, unless it was begun before.

        Args:
            layout: Its sizes.
            valid: Which rows are analysed, (rows,).
            code_sets: The sets that it is to hold.

        A store whose own description is damaged is begun anew.

        Raises:
            ReportError: The store that is there has chunks of another size.
        """
        if self._folder.exists(f"{CODES}/valid/c"):
            if self._describes(layout, code_sets) and self._has_flags(valid):
                return
            say(f"{self._folder}/{CODES} is damaged: it is made anew")
        store = zarr_store(self._folder, CODES, read_only=False)
        attributes = {"format": FORMAT, "version": VERSION, **to_mapping(layout)}
        root = zarr.open_group(store, mode="w", attributes=attributes)
        for code_set in code_sets:
            group = root.require_group(str(code_set))
            if code_set.mode == "joint":
                _create(group, "indices", layout, layout.index_dtype)
            for stream in layout.streams:
                if code_set.mode == "independent":
                    _create(group, f"{stream}/indices", layout, layout.index_dtype)
                _create(group, f"{stream}/values", layout, np.dtype(np.float32))
        # Last: a store with these flags is one that was begun whole.
        array = root.create_array(
            "valid",
            shape=(layout.rows,),
            chunks=(layout.rows,),
            dtype="bool",
            compressors=(Crc32cCodec(),),
            fill_value=False,
            dimension_names=("row",),
        ).with_config({"write_empty_chunks": True})
        array[:] = valid

    def discard_damaged(self, code_sets: Sequence[CodeSet]) -> None:
        """Remove the chunks whose bytes are not those that were written: they are missing then."""
        for code_set in code_sets:
            for name in self._arrays_of(code_set):
                array = self._array(f"{code_set}/{name}")
                for chunk in sorted(self._chunks_present(f"{code_set}/{name}")):
                    try:
                        array[self.layout.chunk_rows(chunk)]
                    except Exception as error:  # Zarr's codecs raise many kinds
                        where = f"{CODES}/{code_set}/{name}/c/{chunk}"
                        say(f"{self._folder}/{where} is damaged ({error}): it is made anew")
                        self._folder.remove(where)

    def missing(self, code_set: CodeSet) -> list[int]:
        """Chunks of a set that have not been written, in order; one without rows needs none."""
        done = [self._chunks_present(f"{code_set}/{name}") for name in self._arrays_of(code_set)]
        chunks = (chunk for chunk, rows in enumerate(self.counts) if rows)
        return [chunk for chunk in chunks if not all(chunk in each for each in done)]

    def write(self, code_set: CodeSet, chunk: int, codes: CodeRows) -> None:
        """Write a chunk of a set: from then on it is done.

        Args:
            code_set: One of the sets that the store holds.
            chunk: Which chunk.
            codes: The codes of its analysed rows.
        """
        rows = self.layout.chunk_rows(chunk)
        for name in self._arrays_of(code_set):
            stream, _, kind = name.rpartition("/")
            # With joint selection the one array of indices belongs to no stream: any has it.
            found = (codes.values if kind == "values" else codes.indices)[
                stream or codes.streams[0]
            ]
            array = self._array(f"{code_set}/{name}")
            content = np.zeros((rows.stop - rows.start, self.layout.k), array.dtype)
            content[codes.rows - rows.start] = found
            array[rows] = content

    # ------------------------------------------------------------------ reading

    @cached_property
    def layout(self) -> CodeLayout:
        """The sizes of the store.

        Raises:
            ReportError: There is none, or it is of another version.
        """
        attributes = dict(self._group.attrs)
        if (attributes.pop("format", None), attributes.pop("version", None)) != (FORMAT, VERSION):
            raise ReportError(
                f"{self._folder}/{CODES} is of another version of SPARC, or damaged: {_ADVICE}"
            )
        try:
            return from_mapping(CodeLayout, attributes, source=CODES)
        except (ConfigError, TypeError) as error:
            raise ReportError(f"{self._folder}/{CODES} is damaged ({error}): {_ADVICE}") from error

    @cached_property
    def valid(self) -> npt.NDArray[np.bool_]:
        """Which rows are analysed: those that are valid in all streams, (rows,).

        Raises:
            ReportError: They are damaged.
        """
        try:
            self._require_bytes(f"{CODES}/valid/c/0", self.layout.rows)
            return np.asarray(self._array("valid")[:])
        except ReportError:
            raise
        except Exception as error:  # Zarr's codecs raise many kinds
            raise ReportError(
                f"{self._folder}/{CODES}/valid is damaged ({error}): {_ADVICE}"
            ) from error

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """How many rows of each chunk are analysed."""
        starts = range(0, self.layout.rows, self.layout.rows_per_chunk)
        return tuple(np.add.reduceat(self.valid.astype(np.int64), starts).tolist())

    def valid_rows(self, chunk: int) -> npt.NDArray[np.int64]:
        """The analysed rows of a chunk, ascending."""
        span = self.layout.chunk_rows(chunk)
        return np.flatnonzero(self.valid[span]) + np.int64(span.start)

    def read(self, code_set: CodeSet, chunk: int, streams: tuple[str, ...] = ()) -> CodeRows:
        """The codes of a chunk's analysed rows.

        Args:
            code_set: One of the sets that the store holds.
            chunk: Which chunk.
            streams: Only these streams; all of them where no name is given.

        Raises:
            ReportError: The chunk is missing or damaged.
        """
        rows = self.valid_rows(chunk)
        inside = rows - self.layout.chunk_rows(chunk).start
        streams = streams or self.layout.streams
        if code_set.mode == "joint":
            shared = self._read(f"{code_set}/indices", chunk, inside)
            indices = dict.fromkeys(streams, shared)
        else:
            indices = {s: self._read(f"{code_set}/{s}/indices", chunk, inside) for s in streams}
        values = {s: self._read(f"{code_set}/{s}/values", chunk, inside) for s in streams}
        return CodeRows(rows, indices, values)

    # ------------------------------------------------------------------ how it lies in Zarr

    def _arrays_of(self, code_set: CodeSet) -> list[str]:
        streams = self.layout.streams
        values = [f"{stream}/values" for stream in streams]
        if code_set.mode == "joint":
            return [*values, "indices"]
        return [*values, *(f"{stream}/indices" for stream in streams)]

    @cached_property
    def _group(self) -> zarr.Group:
        try:
            store = zarr_store(self._folder, CODES, read_only=False)
            return zarr.open_group(store, mode="r+")
        except Exception as error:  # Zarr reads metadata with many kinds of errors
            raise ReportError(
                f"{self._folder}/{CODES} is not there or cannot be opened: {_ADVICE}"
            ) from error

    @cached_property
    def _arrays(self) -> dict[str, Any]:
        return {}

    def _array(self, name: str) -> Any:
        if name not in self._arrays:
            array: Any = None
            try:
                array = self._group[name]
            except Exception as error:  # Zarr reads metadata with many kinds of errors
                raise self._bad_array(name, str(error)) from error
            if not isinstance(array, zarr.Array) or self._form(name) != (
                *(array.shape, array.chunks, array.dtype, array.fill_value),
                tuple(map(type, array.metadata.codecs)),  # type: ignore[union-attr]
            ):
                raise self._bad_array(name, "it is not of the form that was begun")
            self._arrays[name] = array.with_config({"write_empty_chunks": True})
        return self._arrays[name]

    def _form(self, name: str) -> tuple[Any, ...]:
        """Shape, chunks, type, fill value and codecs that an array must have."""
        layout = self.layout
        if name == "valid":
            rows = (layout.rows,)
            return rows, rows, np.dtype(bool), False, (BytesCodec, Crc32cCodec)
        dtype = layout.index_dtype if name.endswith("indices") else np.dtype(np.float32)
        shape = (layout.rows, layout.k)
        return shape, (layout.rows_per_chunk, layout.k), dtype, 0, (BytesCodec, Crc32cCodec)

    def _bad_array(self, name: str, reason: str) -> ReportError:
        return ReportError(f"{self._folder}/{CODES}/{name} is damaged ({reason}): {_ADVICE}")

    def _has_flags(self, valid: npt.NDArray[np.bool_]) -> bool:
        """Whether these rows are analysed; flags that cannot be read are written again."""
        try:
            return np.array_equal(CodeStore(self._folder).valid, valid)
        except ReportError:
            say(f"{self._folder}/{CODES}/valid is damaged: it is made anew")
            self._array("valid")[:] = valid
            return True

    def _describes(self, layout: CodeLayout, code_sets: Sequence[CodeSet]) -> bool:
        """Whether the store that is there can be gone on with.

        Raises:
            ReportError: It has chunks of another size.
        """
        found = CodeStore(self._folder)
        try:
            there = found.layout
        except ReportError:
            return False
        if there != layout:
            # The rest follows from model, cache and streams, which the report is known to be about.
            if there == dataclasses.replace(layout, rows_per_chunk=there.rows_per_chunk):
                raise ReportError(
                    f"{self._folder}/{CODES} was begun with chunks of {there.rows_per_chunk} rows, "
                    f"the cache has {layout.rows_per_chunk}: remove the report and run again"
                )
            return False
        try:
            for code_set in code_sets:
                for name in found._arrays_of(code_set):
                    found._array(f"{code_set}/{name}")
            found._array("valid")
        except ReportError:
            return False
        return True

    def _read(self, name: str, chunk: int, inside: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        if not len(inside):
            return np.zeros((0, self.layout.k), self._array(name).dtype)
        where = f"{self._folder}/{CODES}: chunk {chunk} of {name}"
        try:
            array = self._array(name)
            if chunk in self._chunks_present(name):
                size = self.layout.rows_per_chunk * self.layout.k * array.dtype.itemsize
                self._require_bytes(f"{CODES}/{name}/c/{chunk}/0", size)
            content = np.asarray(array[self.layout.chunk_rows(chunk)])
        except Exception as error:
            raise ReportError(f"{where} is damaged ({error}): {_ADVICE}") from error
        is_index = content.dtype.kind == "u"
        # What is computed with them does not look where it writes.
        if (content >= self.layout.latents).any() if is_index else not np.isfinite(content).all():
            raise ReportError(f"{where} holds what no code is: {_ADVICE}")
        # Zarr reads a chunk that is not there as zeros.
        if not content.any() and chunk not in self._chunks_present(name):
            raise ReportError(f"{where} is missing: {_ADVICE}")
        return content[inside]

    def _require_bytes(self, file: str, wanted: int) -> None:
        """Refuse a chunk that is longer or shorter than its values, before it is read."""
        if self._folder.local is None:
            return
        found = self._folder.size_of(file)
        if found != wanted + _CHECKSUM_BYTES:
            raise ValueError(f"it has {found} bytes, not {wanted + _CHECKSUM_BYTES}")

    def _chunks_present(self, name: str) -> set[int]:
        prefix = f"{CODES}/{name}/c/"
        keys = (f.removeprefix(prefix) for f in self._folder.files(prefix.rstrip("/")))
        return {int(key.split("/")[0]) for key in keys if key.split("/")[0].isdecimal()}


def _create(group: zarr.Group, name: str, layout: CodeLayout, dtype: np.dtype[Any]) -> None:
    group.create_array(
        name,
        shape=(layout.rows, layout.k),
        chunks=(layout.rows_per_chunk, layout.k),
        dtype=dtype,
        compressors=(Crc32cCodec(),),
        fill_value=0,
        dimension_names=("row", "place"),
    )
