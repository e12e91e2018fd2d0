"""Safetensors: tensors by name, of which only the rows are read that are wanted."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from safetensors import SafetensorError, safe_open

from sparc.common.errors import DatasetError
from sparc.common.text import reason
from sparc.extract.importing.sources.feature_file import (
    FeatureArray,
    FeatureFile,
    SlicedArray,
    is_features,
    not_features,
)
from sparc.extract.importing.sources.tensors import as_numpy, column_of

_TYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}


class SafetensorsFile(FeatureFile):
    """A file of tensors; or of a vector by name."""

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """By its suffix."""
        return path.suffix == ".safetensors" and path.is_file()

    def arrays(self) -> Mapping[str, FeatureArray]:
        """The tensors of two dimensions, by name."""
        result = {
            key: self._sliced(key, shape, dtype)
            for key, (shape, dtype) in self._tensors.items()
            if is_features(shape, dtype)
        }
        if not result and (whole := self._by_name) is not None:
            return {"": whole}
        if not result and not self.columns():
            shown = {
                key: f"{tuple(shape)} {dtype}" for key, (shape, dtype) in self._tensors.items()
            }
            raise not_features(self.path, shown)
        return result

    def columns(self) -> Mapping[str, int]:
        """The tensors of one dimension; or the names of the vectors."""
        if self._by_name is not None:
            return {"ids": len(self._tensors)}
        return {key: shape[0] for key, (shape, _) in self._tensors.items() if len(shape) == 1}

    def column(self, name: str) -> pa.Array:
        """The values of such a tensor."""
        if self._by_name is not None:
            return pa.array(list(self._tensors))
        return column_of(self._file.get_tensor(name), f"{self.path}, {name}")

    def _sliced(self, key: str, shape: Sequence[int], dtype: str) -> FeatureArray:
        def read(start: int, stop: int) -> Any:
            return as_numpy(self._file.get_slice(key)[start:stop])

        return SlicedArray(shape, dtype, read)

    @cached_property
    def _by_name(self) -> FeatureArray | None:
        """Vectors under the names of their rows."""
        shapes = {(tuple(shape), dtype) for shape, dtype in self._tensors.values()}
        if len(self._tensors) < 2 or len(shapes) > 1 or len(next(iter(shapes))[0]) != 1:
            return None
        ((dim,), dtype) = next(iter(shapes))
        names = list(self._tensors)
        if not is_features((len(names), dim), dtype):
            return None

        def read(start: int, stop: int) -> Any:
            vectors = [self._file.get_tensor(name) for name in names[start:stop]]
            return as_numpy(torch.stack(vectors))

        return SlicedArray((len(names), dim), dtype, read)

    @cached_property
    def _tensors(self) -> dict[str, tuple[list[int], str]]:
        found = {}
        for key in self._file.keys():  # noqa: SIM118 - no dictionary
            piece = self._file.get_slice(key)
            stored = piece.get_dtype()
            found[key] = (piece.get_shape(), _TYPES.get(stored, stored.lower()))
        return found

    @cached_property
    def _file(self) -> Any:
        try:
            return safe_open(self.path, framework="pt")
        except (SafetensorError, OSError, ValueError) as error:
            raise DatasetError(f"{self.path} is no safetensors file: {reason(error)}") from error
