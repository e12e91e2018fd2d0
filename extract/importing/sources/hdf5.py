"""HDF5: datasets of h5py, such as SPARC's published code writes, a file a stream."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sparc.common.errors import DatasetError
from sparc.common.text import reason
from sparc.extract.importing.sources.feature_file import (
    FeatureArray,
    FeatureFile,
    SlicedArray,
    is_features,
    not_features,
)
from sparc.extract.importing.sources.npy import as_column

_SIGNATURE = b"\x89HDF\r\n\x1a\n"


class Hdf5File(FeatureFile):
    """A file whose datasets of two dimensions are features, in groups or not."""

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """By how it begins."""
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(_SIGNATURE)) == _SIGNATURE

    def arrays(self) -> Mapping[str, FeatureArray]:
        """The datasets of two dimensions, by path."""
        result: dict[str, FeatureArray] = {}
        for key, dataset in self._datasets.items():
            if is_features(dataset.shape, dataset.dtype.name):
                result[key] = SlicedArray(dataset.shape, dataset.dtype.name, self._reader(key))
        if not result and not self.columns():
            shown = {k: f"{d.shape} {d.dtype.name}" for k, d in self._datasets.items()}
            raise not_features(self.path, shown)
        return result

    def _reader(self, key: str) -> Any:
        dataset = self._datasets[key]

        def read(start: int, stop: int) -> Any:
            try:
                values = dataset[start:stop]
            except (OSError, ValueError) as error:
                raise DatasetError(f"{self.path}, {key}: {reason(error)}") from error
            return values.astype(values.dtype.newbyteorder("="), copy=False)

        return read

    def columns(self) -> Mapping[str, int]:
        """The datasets of one dimension, by path."""
        return {key: len(d) for key, d in self._datasets.items() if len(d.shape) == 1}

    def column(self, name: str) -> pa.Array:
        """The values of such a dataset."""
        dataset = self._datasets[name]
        is_text = dataset.dtype.kind in "OS"
        values = np.asarray(dataset.asstr()[:] if is_text else dataset[:])
        return as_column(values, f"{self.path}, {name}")

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
        found: dict[str, Any] = {}

        def visit(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and item.shape:
                found[name] = item

        file.visititems(visit)
        return found
