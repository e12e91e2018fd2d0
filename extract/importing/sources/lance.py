"""Lance datasets with a column of vectors."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparc.common.errors import DatasetError
from sparc.common.text import reason
from sparc.extract.importing.arrays.array import FeatureArray
from sparc.extract.importing.arrays.arrow import dtype_of, vector_type, vectors
from sparc.extract.importing.sources.feature_file import FeatureFile, not_features


class LanceFolder(FeatureFile):
    """A Lance dataset whose columns of lists of floats are features."""

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """By the folder of its versions."""
        return (path / "_versions").is_dir() and (path / "data").is_dir()

    def arrays(self) -> Mapping[str, FeatureArray]:
        """The columns of vectors, by name."""
        result = {}
        for field in self._dataset.schema:
            kind = vector_type(field.type)
            if kind is not None and pa.types.is_fixed_size_list(field.type):
                result[field.name] = _LanceColumn(self, field, dtype_of(kind))
        if not result and not self.columns():
            raise not_features(self.path, {f.name: str(f.type) for f in self._dataset.schema})
        return result

    def columns(self) -> Mapping[str, int]:
        """The other columns."""
        fields = self._dataset.schema
        return {f.name: self.rows for f in fields if vector_type(f.type) is None}

    def column(self, name: str) -> pa.Array:
        """A column."""
        return self.rows_of(name, 0, self.rows)

    def files(self) -> Sequence[Path]:
        """The folder, whose files Lance names at random."""
        return tuple(sorted((self.path / "data").rglob("*.lance")))

    @cached_property
    def _dataset(self) -> Any:
        try:
            import lance
        except ImportError as error:
            raise DatasetError(
                f"{self.path} is a Lance dataset, which is read with pylance: install it with "
                "`pip install 'sparc-sae[lance]'` or `pip install pylance`"
            ) from error
        try:
            return lance.dataset(str(self.path))
        except (OSError, ValueError) as error:
            raise DatasetError(f"{self.path} is no Lance dataset: {reason(error)}") from error

    def rows_of(self, name: str, start: int, stop: int) -> pa.Array:
        """Some values of a column.

        Raises:
            DatasetError: The dataset is damaged.
        """
        try:
            scanner = self._dataset.scanner(columns=[name], offset=start, limit=stop - start)
            return scanner.to_table()[name].combine_chunks()
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DatasetError(f"{self.path}, {name}: {reason(error)}") from error

    @property
    def rows(self) -> int:
        """How many rows the dataset has."""
        return int(self._dataset.count_rows())


class _LanceColumn(FeatureArray):
    """A column of vectors of fixed length."""

    def __init__(self, folder: LanceFolder, field: pa.Field, dtype: str) -> None:
        self._folder = folder
        self._name = field.name
        self.rows, self.dim, self.dtype = folder.rows, field.type.list_size, dtype

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """As `FeatureArray.read`."""
        column = self._folder.rows_of(self._name, start, stop)
        where = f"{self._folder.path}, {self._name}"
        return np.asarray(vectors(column, self.dim, where, start))
