"""Numbers and flags of all rows or images, packed to be sent to other processes.

They are small numbers, mostly the same: of 10^8 rows some MB are left. This module must not know
what they mean.
"""

import zlib
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_LEVEL = 1  # Higher levels take several times as long and save little.


class Packed(NamedTuple):
    """An array of flags, or of numbers from 0.

    Attributes:
        content: The bytes, compressed: of flags eight in one, of numbers as few as they need.
        stored: The type of these numbers.
        dtype: That of the array.
        length: Its length.
    """

    content: bytes
    stored: str
    dtype: str
    length: int

    @property
    def array(self) -> npt.NDArray[Any]:
        """The array, (length,)."""
        numbers = np.frombuffer(zlib.decompress(self.content), self.stored)
        if self.dtype == "bool":
            return np.unpackbits(numbers, count=self.length).view(np.bool_)
        return numbers.astype(self.dtype)


def pack(array: npt.NDArray[Any]) -> Packed:
    """Pack an array of flags, or of numbers from 0, (n,)."""
    if array.dtype == np.bool_:
        numbers = np.packbits(array)
    else:
        numbers = array.astype(np.min_scalar_type(int(array.max(initial=0))))
    content = zlib.compress(numbers.tobytes(), _LEVEL)
    return Packed(content, numbers.dtype.name, array.dtype.name, len(array))


class RowFlags(NamedTuple):
    """Flags of all rows of a cache, which are packed where they are sent.

    Attributes:
        flags: By row, (rows,).
    """

    flags: npt.NDArray[np.bool_]

    @classmethod
    def at(cls, rows: npt.NDArray[np.int64], number: int) -> "RowFlags":
        """Flags that are true for some rows, of a number of them."""
        flags = np.zeros(number, np.bool_)
        flags[rows] = True
        return cls(flags)

    def __reduce__(self) -> tuple[Any, ...]:
        return _flags, (pack(self.flags),)


def _flags(packed: Packed) -> RowFlags:
    return RowFlags(packed.array)
