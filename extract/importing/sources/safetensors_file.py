"""Safetensors: tensors by name, of which only the rows are read that are wanted."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pyarrow as pa
from safetensors import SafetensorError, safe_open

from sparc.common.errors import DatasetError
from sparc.common.text import reason
from sparc.extract.importing.arrays.array import FeatureArray, SlicedArray
from sparc.extract.importing.arrays.tensors import as_numpy, column_of
from sparc.extract.importing.sources.keyed import KeyedFile, Shape

_TYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}


class SafetensorsFile(KeyedFile):
    """A file of tensors; or of a vector by name."""

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """By its suffix."""
        return path.suffix == ".safetensors" and path.is_file()

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """The tensors, by name."""
        shapes = {}
        for key in self._file.keys():  # noqa: SIM118 - no dictionary
            piece = self._file.get_slice(key)
            stored = piece.get_dtype()
            shapes[key] = Shape(tuple(piece.get_shape()), _TYPES.get(stored, stored.lower()))
        return shapes

    def array(self, key: str) -> FeatureArray:
        """As `KeyedFile.array`."""

        def read(start: int, stop: int) -> Any:
            return as_numpy(self._file.get_slice(key)[start:stop])

        shape, dtype = self.shapes[key]
        return SlicedArray(shape, dtype, read)

    def vector(self, key: str) -> npt.NDArray[Any]:
        """As `KeyedFile.vector`."""
        return as_numpy(self._file.get_tensor(key))

    def values(self, key: str) -> pa.Array:
        """As `KeyedFile.values`."""
        return column_of(self._file.get_tensor(key), f"{self.path}, {key}")

    @cached_property
    def _file(self) -> Any:
        try:
            return safe_open(self.path, framework="pt")
        except (SafetensorError, OSError, ValueError) as error:
            raise DatasetError(f"{self.path} is no safetensors file: {reason(error)}") from error
