"""Sparse codes on disk: `REPORT/codes.zarr`, written once by chunks, read by every metric.

A chunk of codes holds the rows of the same chunk of the activation cache, so row numbers are those
of the cache. The layout is described in `REPORT.md`, which is normative. This module must not know
how codes are computed (`sparc.analyze.codes.encode`) nor what is measured on them. One file, since
what writes a chunk and what judges it must agree on its form.
"""

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.codes.code_sets import CodeSet
from sparc.common.cache.plain_chunks import PlainChunks
from sparc.common.config import from_mapping, option, to_mapping
from sparc.common.errors import ConfigError, ReportError, StoreError
from sparc.common.files.folder import Folder
from sparc.common.files.zarr_store import zarr_store
from sparc.common.progress import say

CODES = "codes.zarr"
FORMAT = "sparc-codes"
VERSION = 1

_ADVICE = "run the same `sparc-analyze run` again, which writes it again"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodeLayout:
    """The sizes of `codes.zarr`.

    Attributes:
        streams: The streams that have codes, in the model's order.
        latents: L.
        k: Columns of a code, the most latents that a row uses.
        rows: Rows of the cache; those that were not analysed hold zeros.
        rows_per_chunk: As in the cache.
        padded: Whether rows may use fewer than k latents; the others have the value zero.
    """

    streams: tuple[str, ...]
    latents: int
    k: int
    rows: int
    rows_per_chunk: int
    padded: bool = option(False, "", added=True)

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
    """The codes of a report. It is opened on first use, so it can be pickled.

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
        """Create an empty store, unless there is one to continue.

        A store whose metadata are damaged is replaced.

        Args:
            layout: Its sizes.
            valid: Which rows are analysed, (rows,).
            code_sets: The sets that it is to hold.

        Raises:
            ReportError: The existing store has chunks of another size.
        """
        if self._folder.exists(f"{CODES}/valid/c"):
            if self._can_go_on(layout, code_sets) and self._has_flags(valid):
                return
            say(f"{self._folder}/{CODES} is damaged: it is written again")
        attributes = {"format": FORMAT, "version": VERSION, **to_mapping(layout)}
        store = zarr_store(self._folder, CODES, read_only=False)
        root = zarr.open_group(store, mode="w", attributes=attributes)
        for code_set in code_sets:
            root.require_group(code_set.path)
            for name in _array_names(code_set, layout.streams):
                _create(root, name, layout)
        # Last: a store that has these flags was created completely.
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
        """Remove damaged chunks, so that they count as missing."""
        for code_set in code_sets:
            for name in self._arrays_of(code_set):
                self._array(name)  # that its metadata are intact
                for chunk in sorted(self._chunks_present(name)):
                    try:
                        self._content(name, chunk, self.layout.chunk_rows(chunk))
                    except StoreError:
                        raise
                    except Exception as error:  # Zarr's codecs raise many kinds
                        where = f"{CODES}/{name}/c/{chunk}"
                        say(f"{self._folder}/{where} is damaged ({error}): it is written again")
                        self._folder.remove(where)

    def missing(self, code_set: CodeSet) -> list[int]:
        """Chunks of a set that have not been written, ascending; chunks without rows need none."""
        written = [self._chunks_present(name) for name in self._arrays_of(code_set)]
        chunks = (chunk for chunk, rows in enumerate(self.counts) if rows)
        return [chunk for chunk in chunks if not all(chunk in chunks_of for chunks_of in written)]

    def has(self, code_set: CodeSet, chunk: int) -> bool:
        """Whether a chunk of a set has been written, as the folder says now."""
        names = self._arrays_of(code_set)
        return all(self._folder.exists(f"{CODES}/{name}/c/{chunk}/0") for name in names)

    def write(self, code_set: CodeSet, chunk: int, codes: CodeRows) -> None:
        """Write a chunk of a set.

        Args:
            code_set: One of the sets that the store holds.
            chunk: Which chunk.
            codes: The codes of its analysed rows.
        """
        rows = self.layout.chunk_rows(chunk)
        streams = self.layout.streams
        # In joint mode the streams name, and share, one array of indices.
        contents = {_values(code_set, s): codes.values[s] for s in streams} | {
            _indices(code_set, s): codes.indices[s] for s in streams
        }
        for name, content in contents.items():
            array = self._array(name)
            whole = np.zeros((rows.stop - rows.start, self.layout.k), array.dtype)
            whole[codes.rows - rows.start] = content
            array[rows] = whole

    # ------------------------------------------------------------------ reading

    @cached_property
    def layout(self) -> CodeLayout:
        """The sizes of the store.

        Raises:
            ReportError: There is no store, or it is damaged or of another version.
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
            ReportError: The flags are damaged.
        """
        try:
            return self._content("valid", 0, slice(0, self.layout.rows))
        except (ReportError, StoreError):
            raise
        except Exception as error:  # Zarr's codecs raise many kinds
            raise ReportError(
                f"{self._folder}/{CODES}/valid is damaged ({error}): {_ADVICE}"
            ) from error

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Number of analysed rows in each chunk."""
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
            streams: Which streams; all of them if empty.

        Raises:
            ReportError: The chunk is missing or damaged.
        """
        rows = self.valid_rows(chunk)
        inside = rows - self.layout.chunk_rows(chunk).start
        streams = streams or self.layout.streams
        names = {stream: _indices(code_set, stream) for stream in streams}
        arrays = {name: self._read(name, chunk, inside) for name in dict.fromkeys(names.values())}
        return CodeRows(
            rows,
            {stream: arrays[name] for stream, name in names.items()},
            {stream: self._read(_values(code_set, stream), chunk, inside) for stream in streams},
        )

    # ------------------------------------------------------------------ how it lies in Zarr

    def _arrays_of(self, code_set: CodeSet) -> list[str]:
        return _array_names(code_set, self.layout.streams)

    @cached_property
    def _group(self) -> zarr.Group:
        try:
            store = zarr_store(self._folder, CODES, read_only=False)
            return zarr.open_group(store, mode="r+")
        except StoreError:
            raise
        except Exception as error:  # Zarr reads metadata with many kinds of errors
            raise ReportError(
                f"{self._folder}/{CODES} is missing or cannot be opened: {_ADVICE}"
            ) from error

    @cached_property
    def _arrays(self) -> dict[str, Any]:
        return {}

    def _array(self, name: str) -> Any:
        if name not in self._arrays:
            array: Any = None
            try:
                array = self._group[name]
            except StoreError:
                raise
            except Exception as error:  # Zarr reads metadata with many kinds of errors
                raise self._bad_array(name, str(error)) from error
            if not isinstance(array, zarr.Array) or self._form(name) != (
                *(array.shape, array.chunks, array.dtype, array.fill_value),
                tuple(map(type, array.metadata.codecs)),  # type: ignore[union-attr]
            ):
                raise self._bad_array(name, "it has another form than it was created with")
            self._arrays[name] = array.with_config({"write_empty_chunks": True})
        return self._arrays[name]

    def _form(self, name: str) -> tuple[Any, ...]:
        """Shape, chunks, type, fill value and codecs that an array must have."""
        layout = self.layout
        if name == "valid":
            rows = (layout.rows,)
            return rows, rows, np.dtype(bool), False, (BytesCodec, Crc32cCodec)
        dtype = _dtype(name, layout)
        shape = (layout.rows, layout.k)
        return shape, (layout.rows_per_chunk, layout.k), dtype, 0, (BytesCodec, Crc32cCodec)

    def _bad_array(self, name: str, reason: str) -> ReportError:
        return ReportError(f"{self._folder}/{CODES}/{name} is damaged ({reason}): {_ADVICE}")

    def _has_flags(self, valid: npt.NDArray[np.bool_]) -> bool:
        """Whether the store analyses these rows; flags that cannot be read are written again."""
        try:
            return np.array_equal(CodeStore(self._folder).valid, valid)
        except ReportError:
            say(f"{self._folder}/{CODES}/valid is damaged: it is written again")
            self._array("valid")[:] = valid
            return True

    def _can_go_on(self, layout: CodeLayout, code_sets: Sequence[CodeSet]) -> bool:
        """Whether the existing store has intact metadata that fit.

        Raises:
            ReportError: It has chunks of another size.
        """
        existing = CodeStore(self._folder)
        try:
            known = existing.layout
        except ReportError:
            return False
        if known != layout:
            # The rest follows from model, cache and streams, which the report has checked.
            if known == dataclasses.replace(layout, rows_per_chunk=known.rows_per_chunk):
                raise ReportError(
                    f"{self._folder}/{CODES} was begun with chunks of {known.rows_per_chunk} rows, "
                    f"the cache has {layout.rows_per_chunk}: remove the report and run again"
                )
            return False
        try:
            for code_set in code_sets:
                for name in existing._arrays_of(code_set):
                    existing._array(name)
            existing._array("valid")
        except ReportError:
            return False
        return True

    def _read(self, name: str, chunk: int, inside: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        if not len(inside):
            return np.zeros((0, self.layout.k), self._array(name).dtype)
        where = f"{self._folder}/{CODES}: chunk {chunk} of {name}"
        try:
            content = self._content(name, chunk, self.layout.chunk_rows(chunk))
        except FileNotFoundError as error:
            raise ReportError(f"{where} is missing: {_ADVICE}") from error
        except StoreError:
            raise
        except Exception as error:
            raise ReportError(f"{where} is damaged ({error}): {_ADVICE}") from error
        is_index = content.dtype.kind == "u"
        # Metrics use indices unchecked.
        if (content >= self.layout.latents).any() if is_index else not np.isfinite(content).all():
            raise ReportError(f"{where} holds values that no code has: {_ADVICE}")
        return content[inside]

    def _content(self, name: str, chunk: int, rows: slice) -> npt.NDArray[Any]:
        """What a chunk of an array holds, (rows, …).

        Raises:
            FileNotFoundError: It has not been written.
        """
        array = self._array(name)
        if PlainChunks.fits(self._folder, array):
            plain = PlainChunks(self._folder.inside(f"{CODES}/{name}"), array)
            return plain.read(chunk, rows.stop - rows.start)
        content = np.asarray(array[rows])
        # Zarr reads a missing chunk as zeros.
        if not content.any() and chunk not in self._chunks_present(name):
            raise FileNotFoundError(name)
        return content

    def _chunks_present(self, name: str) -> set[int]:
        prefix = f"{CODES}/{name}/c/"
        keys = (f.removeprefix(prefix) for f in self._folder.files(prefix.rstrip("/")))
        return {int(key.split("/")[0]) for key in keys if key.split("/")[0].isdecimal()}


def _array_names(code_set: CodeSet, streams: Sequence[str]) -> list[str]:
    """The arrays of a set, within `codes.zarr`."""
    names = [_values(code_set, s) for s in streams] + [_indices(code_set, s) for s in streams]
    return list(dict.fromkeys(names))


def _values(code_set: CodeSet, stream: str) -> str:
    return f"{code_set.path}/{stream}/values"


def _indices(code_set: CodeSet, stream: str) -> str:
    """A stream's array of indices; in joint mode all streams have one."""
    return f"{code_set.path}/{'' if code_set.mode == 'joint' else stream + '/'}indices"


def _dtype(name: str, layout: CodeLayout) -> np.dtype[Any]:
    return layout.index_dtype if name.endswith("/indices") else np.dtype(np.float32)


def _create(root: zarr.Group, name: str, layout: CodeLayout) -> None:
    root.create_array(
        name,
        shape=(layout.rows, layout.k),
        chunks=(layout.rows_per_chunk, layout.k),
        dtype=_dtype(name, layout),
        compressors=(Crc32cCodec(),),
        fill_value=0,
        dimension_names=("row", "place"),
    )
