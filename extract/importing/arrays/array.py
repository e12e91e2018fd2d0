"""Features in files, read a few rows at a time, never as a whole."""

import mmap
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sparc.common.errors import DatasetError

FLOATS = ("float16", "float32", "float64")


class FeatureArray(ABC):
    """Features in a file: (rows, dim) floats, read a few rows at a time.

    Attributes:
        rows: How many.
        dim: Width of a feature.
        dtype: Their type in the file, for people; `bfloat16` and others that NumPy lacks included.
        is_mapped: Whether rows may be read in any order at little cost.
    """

    rows: int
    dim: int
    dtype: str
    is_mapped: bool = False

    @abstractmethod
    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Rows of the array, float16, float32 or float64; a row of NaN has no feature.

        Raises:
            DatasetError: The file is damaged, or a row has another width than the others.
        """

    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Some rows, in any order; slow where the array is not mapped and they are far apart."""
        lowest, highest = int(rows.min()), int(rows.max()) + 1
        return self.read(lowest, highest)[rows - lowest]


class MappedArray(FeatureArray):
    """An array that is mapped into memory.

    Args:
        values: (rows, dim), of a float type; nothing of it is read yet.
    """

    is_mapped = True

    def __init__(self, values: npt.NDArray[Any]) -> None:
        self.rows, self.dim = values.shape
        self.dtype = values.dtype.name
        self._values = values

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """As `FeatureArray.read`."""
        part = self._values[start:stop]
        return self._copied(np.array(part, part.dtype.newbyteorder("=")))

    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """As `FeatureArray.take`."""
        part = np.asarray(self._values[rows])
        return self._copied(part.astype(part.dtype.newbyteorder("="), copy=False))

    def _copied(self, part: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Let go of the pages that were copied from: else they count as this process's memory."""
        pages = getattr(self._values, "_mmap", None)
        if pages is not None:
            pages.madvise(mmap.MADV_DONTNEED)
        return part


class SlicedArray(FeatureArray):
    """An array of which a function reads rows.

    Args:
        shape: (rows, dim).
        dtype: See `FeatureArray`.
        read: What reads the rows from one to before another.
    """

    def __init__(
        self, shape: Sequence[int], dtype: str, read: Callable[[int, int], npt.NDArray[Any]]
    ) -> None:
        self.rows, self.dim = shape
        self.dtype = dtype
        self._read = read

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """As `FeatureArray.read`."""
        return self._read(start, stop)


class JoinedArray(FeatureArray):
    """Arrays one after the other, such as those of the files of a folder.

    Args:
        parts: The arrays, by what messages call them.

    Raises:
        DatasetError: One has another width than the first.
    """

    def __init__(self, parts: Mapping[str, FeatureArray]) -> None:
        (first, begin), *_ = parts.items()
        for name, part in parts.items():
            if part.dim != begin.dim:
                raise DatasetError(f"{name} has {part.dim} values a row, {first} has {begin.dim}")
        self._parts = list(parts.values())
        self._begins = np.cumsum([0, *(part.rows for part in self._parts)])
        self.rows, self.dim = int(self._begins[-1]), begin.dim
        self.dtype = "float64" if len({p.dtype for p in self._parts}) > 1 else begin.dtype
        self.is_mapped = all(part.is_mapped for part in self._parts)

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """As `FeatureArray.read`."""
        pieces = []
        for begin, part in zip(self._begins, self._parts, strict=False):
            first, last = max(start - begin, 0), min(stop - begin, part.rows)
            if first < last:
                pieces.append(part.read(int(first), int(last)))
        return np.concatenate(pieces)

    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """As `FeatureArray.take`."""
        if not self.is_mapped:
            return super().take(rows)
        owner = np.searchsorted(self._begins, rows, side="right") - 1
        result = np.empty((len(rows), self.dim), self.dtype)
        for number in np.unique(owner):
            mine = owner == number
            result[mine] = self._parts[number].take(rows[mine] - self._begins[number])
        return result


class VectorsByName(FeatureArray):
    """Vectors that lie in a file under the names of their rows.

    Args:
        names: The names.
        dim: Their width.
        dtype: See `FeatureArray`.
        read: Reads the vector of a name.
    """

    def __init__(
        self, names: Sequence[str], dim: int, dtype: str, read: Callable[[str], npt.NDArray[Any]]
    ) -> None:
        self.rows, self.dim, self.dtype = len(names), dim, dtype
        self.names = names
        self._read = read

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """As `FeatureArray.read`."""
        return np.stack([self._read(name) for name in self.names[start:stop]])


def is_features(shape: Sequence[int], dtype: str) -> bool:
    """Whether an array can be features: (rows, dim) floats."""
    return len(shape) == 2 and shape[1] > 0 and dtype in (*FLOATS, "bfloat16")
