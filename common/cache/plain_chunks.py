"""Reading chunks of a Zarr array straight from their files, where those hold the plain values.

An uncompressed chunk on a local disk is its values and a CRC32C behind them, so it can be read
straight into its destination and checked on the way: about ten times the speed of Zarr's general
machinery, which copies such a chunk several times. Every other array (compressed, filtered, behind
a URL) is read by Zarr. This module must not know what the arrays mean.
"""

import math
import os
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
from zarr.codecs import BytesCodec, Crc32cCodec

from sparc.common.files.folder import Folder
from sparc.common.files.safe_files import inside, open_regular

_CRC_BYTES = 4

_PIECE_BYTES = 1 << 20
"""Read and checked at a time: still in the processor's cache when it is checked. From this size
on the checksum is computed without holding Python's lock."""


def _name(order: Any) -> str | None:
    """A byte order as Zarr writes it: since Zarr 3.4 a text, before that a member of an `Enum`."""
    name: str | None = getattr(order, "value", order)
    return name


class PlainChunks:
    """The chunk files of one array. Chunks span whole rows: only the first axis is divided.

    Args:
        folder: The array's folder.
        array: The Zarr array; `PlainChunks.fits` must hold of it.
    """

    def __init__(self, folder: Path, array: Any) -> None:
        self._folder = folder
        self._dtype = np.dtype(array.dtype)
        self._rows, *self._rest = array.chunks
        self._key = "c/{}" + "/0" * len(self._rest)

    @staticmethod
    def fits(folder: Folder, array: Any) -> bool:
        """Whether the array lies on a local disk, uncompressed, with a CRC32C per chunk."""
        codecs = array.metadata.codecs
        return (
            folder.local is not None
            and len(codecs) == 2
            and isinstance(codecs[0], BytesCodec)
            and _name(codecs[0].endian) in (None, "little")
            and isinstance(codecs[1], Crc32cCodec)
            and array.metadata.chunk_key_encoding.separator == "/"
            and array.chunks[1:] == array.shape[1:]
            and np.dtype(array.dtype).newbyteorder("<") == np.dtype(array.dtype)
        )

    def read(self, chunk: int, rows: int, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Read a chunk and check it.

        Args:
            chunk: Which chunk.
            rows: How many of its rows are wanted (the last chunk of an array is padded).
            out: Where to put them: a C-contiguous array of shape (rows, …) and the array's dtype.

        Returns:
            `out`, or a new array.

        Raises:
            FileNotFoundError: The chunk has not been written.
            ValueError: The file's length or its CRC32C is wrong.
            UnsafeError: It is no regular file, or behind a link.
        """
        shape = (self._rows, *self._rest)
        with open_regular(inside(self._folder, self._key.format(chunk))) as file:
            # Before memory is asked for: the shape is what anybody may have written.
            length = os.fstat(file.fileno()).st_size
            wanted = math.prod(shape) * self._dtype.itemsize
            if length != wanted + _CRC_BYTES:
                raise ValueError(f"the file holds {length} bytes, not {wanted + _CRC_BYTES}")
            whole = out if out is not None and rows == self._rows else np.empty(shape, self._dtype)
            _read_checked(file.fileno(), whole.reshape(-1).view(np.uint8))
        if out is None:
            return whole[:rows]
        if whole is not out:
            out[...] = whole[:rows]
        return out


def plain_object(values: npt.NDArray[Any], rows_per_chunk: int) -> bytes:
    """The object of an uncompressed chunk, as Zarr writes it.

    Args:
        values: (rows, …), little-endian: the rows of the chunk; of the last one they may be fewer.
        rows_per_chunk: Rows of every other chunk, up to which zeros follow.
    """
    lacking = rows_per_chunk - len(values)
    content = values.tobytes() + bytes(lacking * values[:1].nbytes)
    checksum: int = google_crc32c.value(content)
    return content + checksum.to_bytes(_CRC_BYTES, "little")


def is_sound(content: bytes) -> bool:
    """Whether the object of an uncompressed chunk ends in the CRC32C of what it holds."""
    checksum: int = google_crc32c.value(content[:-_CRC_BYTES])
    return checksum == int.from_bytes(content[-_CRC_BYTES:], "little")


def _read_checked(descriptor: int, values: npt.NDArray[np.uint8]) -> None:
    """Fill `values` from a file that holds just them and their CRC32C."""
    checksum = 0
    for start in range(0, len(values), _PIECE_BYTES):
        piece = values[start : start + _PIECE_BYTES]
        done = 0
        while done < len(piece):
            target: Any = piece[done:]
            count = os.preadv(descriptor, [target], start + done)
            if count == 0:
                raise ValueError("the file became shorter while it was read")
            done += count
        checksum = google_crc32c.extend(checksum, piece)
    if checksum != int.from_bytes(os.pread(descriptor, _CRC_BYTES, len(values)), "little"):
        raise ValueError("its values do not fit its CRC32C")
