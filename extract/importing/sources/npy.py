"""NumPy's `.npy`: one array, mapped into memory; or a folder of them, one after the other."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparc.common.errors import DatasetError
from sparc.common.text import reason
from sparc.extract.importing.arrays.array import FeatureArray, JoinedArray, MappedArray, is_features
from sparc.extract.importing.arrays.order import in_order
from sparc.extract.importing.sources.feature_file import STACK, FeatureFile, not_features, pickled


class NpyFiles(FeatureFile):
    """An array file, or a folder of numbered ones."""

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """By its suffix; a folder by files that are called alike but for a number."""
        if path.is_dir():
            names = {re.sub(r"\d+", "", e.name) for e in path.iterdir() if e.name[0] != "."}
            return len(names) == 1 and names.pop().endswith(".npy")
        return path.suffix == ".npy" and path.is_file()

    def files(self) -> Sequence[Path]:
        """The file, or those of the folder in the order of the numbers in their names."""
        return in_order(self.path.glob("*.npy")) if self.path.is_dir() else (self.path,)

    def arrays(self) -> Mapping[str, FeatureArray]:
        """The one array."""
        parts: dict[str, FeatureArray] = {}
        for path in self.files():
            values = mapped(path)
            if not is_features(values.shape, values.dtype.name):
                if values.ndim == 1 and path == self.path:
                    return {}
                if values.ndim == 1:
                    what = f"{path}: one vector, {described(values)}"
                    raise DatasetError(f"{what}; features are (rows, dim): {STACK}")
                raise not_features(path, {"": described(values)})
            parts[path.name] = MappedArray(values)
        return {"": next(iter(parts.values())) if len(parts) == 1 else JoinedArray(parts)}

    def columns(self) -> Mapping[str, int]:
        """The array itself, where it has but one value a row."""
        if self.path.is_dir() or (values := mapped(self.path)).ndim != 1:
            return {}
        return {self.path.stem: len(values)}

    def column(self, name: str) -> pa.Array:
        """The values of the array."""
        return as_column(mapped(self.path), f"{self.path}, {name}")


def mapped(path: Path) -> npt.NDArray[Any]:
    """The array of a file, mapped into memory.

    Raises:
        DatasetError: It is no array, or one of Python objects.
    """
    try:
        values: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        if "Python objects" in str(error) or "allow_pickle" in str(error):
            raise pickled(path, "it holds Python objects", SAVE_PLAIN) from error
        raise DatasetError(f"{path} is no array of NumPy: {reason(error)}") from error
    except (OSError, EOFError) as error:
        raise DatasetError(f"{path} is no array of NumPy: {reason(error)}") from error
    return values


SAVE_PLAIN = (
    "where it was made, save np.stack(array).astype('float32') instead, and names or captions as "
    "array.astype(str)"
)
"""What to do about an array of Python objects."""


def described(values: npt.NDArray[Any]) -> str:
    """The shape and type of an array, for messages."""
    return f"{values.shape} {values.dtype.name}"


def as_column(values: npt.NDArray[Any], where: str) -> pa.Array:
    """An array of one dimension as a column.

    Raises:
        DatasetError: Arrow has no such values.
    """
    try:
        plain = np.asarray(values)
        if plain.dtype.kind == "S":
            plain = np.char.decode(plain, "utf-8", "replace")
        return pa.array(plain)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise DatasetError(f"{where}: not a column of values: {reason(error)}") from error
