"""HDF5: datasets of h5py, such as SPARC's published code writes, a file a stream."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparc.common.errors import DatasetError
from sparc.common.text import printable, reason
from sparc.extract.importing.arrays.array import FeatureArray, SlicedArray
from sparc.extract.importing.sources.keyed import KeyedFile, Shape
from sparc.extract.importing.sources.npy import as_column

_SIGNATURE = b"\x89HDF\r\n\x1a\n"


class Hdf5File(KeyedFile):
    """A file whose datasets of two dimensions are features, in groups or not."""

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """By how it begins."""
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(_SIGNATURE)) == _SIGNATURE

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """The datasets, by path."""
        return {key: Shape(tuple(d.shape), d.dtype.name) for key, d in self._datasets.items()}

    def array(self, key: str) -> FeatureArray:
        """As `KeyedFile.array`."""
        dataset = self._datasets[key]

        def read(start: int, stop: int) -> Any:
            return self._read(key, slice(start, stop))

        return SlicedArray(dataset.shape, dataset.dtype.name, read)

    def vector(self, key: str) -> npt.NDArray[Any]:
        """As `KeyedFile.vector`."""
        return self._read(key, slice(None))

    def _read(self, key: str, rows: slice) -> npt.NDArray[Any]:
        try:
            values: npt.NDArray[Any] = self._datasets[key][rows]
        except (OSError, ValueError) as error:
            raise DatasetError(f"{self.path}, {key}: {reason(error)}") from error
        return values.astype(values.dtype.newbyteorder("="), copy=False)

    def values(self, key: str) -> pa.Array:
        """As `KeyedFile.values`."""
        dataset = self._datasets[key]
        if dataset.dtype.kind not in "OS":
            return as_column(self._read(key, slice(None)), f"{self.path}, {key}")
        try:
            texts = np.asarray(dataset.asstr()[:])
        except (OSError, ValueError) as error:
            raise DatasetError(f"{self.path}, {key}: {reason(error)}") from error
        return as_column(texts, f"{self.path}, {key}")

    @cached_property
    def _datasets(self) -> dict[str, Any]:
        try:
            import h5py
        except ImportError as error:
            raise DatasetError(
                f"{self.path} is HDF5, which is read with h5py: install it with "
                "`pip install 'sparc-sae[hdf5]'` or `pip install h5py`"
            ) from error
        try:
            file = h5py.File(self.path, "r")
        except OSError as error:
            raise DatasetError(f"{self.path} is no HDF5 file: {reason(error)}") from error
        datasets: dict[str, Any] = {}

        def visit(name: str, item: Any) -> None:
            if not isinstance(item, h5py.Dataset) or not item.shape:
                return
            if item.external or item.is_virtual:
                raise DatasetError(
                    f"{self.path}, {printable(name)}: its values lie in other files, which whoever "
                    "wrote this one chose: import those, or copy the values into one file"
                )
            datasets[name] = item

        file.visititems(visit)
        return datasets
