"""An object that is read in parts, as a file."""

import io
from collections.abc import Callable


class OpenObject(io.RawIOBase):
    """Reads parts of an object as they are asked for; `io.BufferedReader` around it reads ahead.

    Args:
        size: Bytes of the object.
        read_range: Gives the bytes from one position up to another.
    """

    def __init__(self, size: int, read_range: Callable[[int, int], bytes]) -> None:
        self._size = size
        self._read_range = read_range
        self._position = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: "memoryview[int] | bytearray", /) -> int:  # type: ignore[override]
        """Read as much as fits, or is left."""
        stop = min(self._position + len(buffer), self._size)
        content = self._read_range(self._position, stop)
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def readall(self) -> bytes:
        """Read what is left."""
        content = self._read_range(self._position, self._size)
        self._position += len(content)
        return content
