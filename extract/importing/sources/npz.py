"""NumPy's `.npz`: arrays in a zip file, mapped into memory where they are not compressed."""

import math
import zipfile
import zlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparc.common.errors import DatasetError
from sparc.common.text import reason
from sparc.extract.importing.arrays.array import FeatureArray, MappedArray
from sparc.extract.importing.sources.feature_file import pickled
from sparc.extract.importing.sources.keyed import KeyedFile, Shape
from sparc.extract.importing.sources.npy import SAVE_PLAIN, as_column

_LOCAL_HEADER = 30
"""Bytes of what lies before the name of a member of a zip file."""


class _Header(NamedTuple):
    """What the header of an array says, and how many bytes it takes."""

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[Any]
    length: int


class NpzFile(KeyedFile):
    """A file of `np.savez` or `np.savez_compressed`."""

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """By its suffix."""
        return path.suffix == ".npz" and path.is_file()

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """The arrays, by name."""
        return {
            key: Shape(header.shape, header.dtype.name) for key, header in self._headers.items()
        }

    def values(self, key: str) -> pa.Array:
        """As `KeyedFile.values`."""
        return as_column(self.vector(key), f"{self.path}, {key}")

    def vector(self, key: str) -> npt.NDArray[Any]:
        """As `KeyedFile.vector`."""
        try:
            values: npt.NDArray[Any] = self._loaded[key]
        except (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError) as error:
            raise DatasetError(f"{self.path}, {key}: {reason(error)}") from error
        return values

    @cached_property
    def _loaded(self) -> Any:
        return np.load(self.path, allow_pickle=False)

    @cached_property
    def _headers(self) -> dict[str, _Header]:
        headers = {}
        try:
            with zipfile.ZipFile(self.path) as archive:
                for name in archive.namelist():
                    if name.endswith(".npy"):
                        with archive.open(name) as member:
                            headers[name.removesuffix(".npy")] = _read_header(member)
        except (zipfile.BadZipFile, OSError, ValueError, EOFError) as error:
            raise DatasetError(f"{self.path} is no .npz of NumPy: {reason(error)}") from error
        for key, header in headers.items():
            if header.dtype.hasobject:
                what = f"the array {key} holds Python objects"
                raise pickled(self.path, what, f"leave it out, or {SAVE_PLAIN}")
        return headers

    def array(self, key: str) -> FeatureArray:
        """As `KeyedFile.array`."""
        header = self._headers[key]
        with zipfile.ZipFile(self.path) as archive:
            member = archive.getinfo(f"{key}.npy")
        wanted = header.length + math.prod(header.shape) * header.dtype.itemsize
        if member.file_size != wanted:
            raise DatasetError(
                f"{self.path}, {key}: {member.file_size:,} bytes where an array of "
                f"{header.shape} {header.dtype.name} takes {wanted:,}: it is damaged"
            )
        if member.compress_type != zipfile.ZIP_STORED:
            return _CompressedArray(self.path, f"{key}.npy", header)
        with self.path.open("rb") as file:
            file.seek(member.header_offset + 26)
            name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
        offset = member.header_offset + _LOCAL_HEADER + name + extra + header.length
        order: Any = "F" if header.is_fortran else "C"
        return MappedArray(
            np.memmap(self.path, header.dtype, "r", offset, header.shape, order=order)
        )


class _CompressedArray(FeatureArray):
    """An array of `np.savez_compressed`, which is read from its beginning on."""

    def __init__(self, path: Path, member: str, header: _Header) -> None:
        if header.is_fortran:
            raise DatasetError(
                f"{path}: {member} is compressed column by column: save "
                "np.ascontiguousarray(array), or use np.savez"
            )
        self.rows, self.dim = header.shape
        self.dtype = header.dtype.name
        self._path = path
        self._member = member
        self._header = header
        self._file: IO[bytes] | None = None
        self._next = 0

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """As `FeatureArray.read`; going back begins at the beginning."""
        width = self.dim * self._header.dtype.itemsize
        try:
            if self._file is None or start < self._next:
                file = zipfile.ZipFile(self._path).open(self._member)  # noqa: SIM115 - stays open
                file.read(self._header.length)
                self._file, self._next = file, 0
            while self._next < start:
                rows = min(start - self._next, 4096)
                self._file.read(rows * width)
                self._next += rows
            content = self._file.read((stop - start) * width)
            self._next = stop
            values = np.frombuffer(content, self._header.dtype).reshape(stop - start, self.dim)
        except (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError) as error:
            raise DatasetError(f"{self._path}, {self._member}: {reason(error)}") from error
        return values.astype(self._header.dtype.newbyteorder("="), copy=False)


def _read_header(member: IO[bytes]) -> _Header:
    version = np.lib.format.read_magic(member)
    read: Any = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        read = np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(member)
    return _Header(shape, is_fortran, dtype, member.tell())
