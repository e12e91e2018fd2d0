"""Files of arrays under keys: NumPy's npz, safetensors, HDF5.

What has two dimensions and floats is features, what has one is a column. Where there are vectors
of one width and nothing of two dimensions, the keys are names of rows.
"""

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy.typing as npt
import pyarrow as pa

from sparc.extract.importing.arrays.array import FeatureArray, VectorsByName, is_features
from sparc.extract.importing.sources.feature_file import FeatureFile, not_features

NAMES = "ids"
"""The column of the names of rows, where these are the keys."""


class Shape(NamedTuple):
    """The shape of an array in a file, and the type of its values."""

    shape: tuple[int, ...]
    dtype: str


class KeyedFile(FeatureFile):
    """A file of arrays under keys."""

    @property
    @abstractmethod
    def shapes(self) -> Mapping[str, Shape]:
        """The arrays of the file, by key.

        Raises:
            DatasetError: It is not in this format.
        """

    @abstractmethod
    def array(self, key: str) -> FeatureArray:
        """An array of two dimensions."""

    @abstractmethod
    def vector(self, key: str) -> npt.NDArray[Any]:
        """An array of one dimension, of floats that NumPy has."""

    @abstractmethod
    def values(self, key: str) -> pa.Array:
        """An array of one dimension, as a column."""

    def arrays(self) -> Mapping[str, FeatureArray]:
        """The arrays of two dimensions, by key; or the vectors as one array."""
        keys = [key for key, (shape, dtype) in self.shapes.items() if is_features(shape, dtype)]
        if keys:
            return {key: self.array(key) for key in keys}
        if self._by_name is not None:
            return {"": self._by_name}
        if not self.columns():
            shown = {key: f"{shape} {dtype}" for key, (shape, dtype) in self.shapes.items()}
            raise not_features(self.path, shown)
        return {}

    def columns(self) -> Mapping[str, int]:
        """The arrays of one dimension; or the names of the vectors."""
        if self._by_name is not None:
            return {NAMES: self._by_name.rows}
        return {key: shape[0] for key, (shape, _) in self.shapes.items() if len(shape) == 1}

    def column(self, name: str) -> pa.Array:
        """The values of such an array."""
        return self.values(name) if self._by_name is None else pa.array(list(self.shapes))

    @cached_property
    def _by_name(self) -> FeatureArray | None:
        if len(self.shapes) < 2 or len(set(self.shapes.values())) > 1:
            return None
        shape, dtype = next(iter(self.shapes.values()))
        if len(shape) != 1 or not is_features((1, *shape), dtype):
            return None
        return VectorsByName(list(self.shapes), shape[0], dtype, self.vector)
