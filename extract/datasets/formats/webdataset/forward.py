"""A shard behind a URL read from its front to its back, in few requests for as few bytes as pays.

The headers of a tar file are a chain: each says where the next one is. A request costs a round
trip, in which a store sends megabytes. So what lies close together is fetched together, images
included, and only images that are longer than that are passed over.
"""

from sparc.extract.datasets.safe_folder import FileParts

LARGEST_BLOCK = 1 << 23
"""Most bytes of a request."""

WORTH_A_REQUEST = 1 << 20
"""Bytes that take a store as long as a further request."""

_SMALLEST_BLOCK = 1 << 14
"""Least bytes of a request."""

_FIRST_BLOCK = 1 << 16


class ForwardParts:
    """Parts of a file, asked for in order.

    Blocks grow fourfold while less than `WORTH_A_REQUEST` lies between them, and shrink by half
    where more does. So images of up to about that length are fetched with their texts; longer ones
    are passed over.

    Args:
        parts: The file.
    """

    def __init__(self, parts: FileParts) -> None:
        self._parts = parts
        self._start = 0
        self._block = b""
        self._length = _FIRST_BLOCK

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._parts.size

    def read(self, offset: int, length: int) -> bytes:
        """The bytes from an offset; fewer where the file ends before."""
        end = min(offset + length, self.size)
        if offset >= end:
            return b""
        held_end = self._start + len(self._block)
        if self._start <= offset and end <= held_end:
            return self._block[offset - self._start : end - self._start]
        head = self._block[offset - self._start :] if self._start <= offset < held_end else b""
        first = offset + len(head)
        passed_over = first - held_end
        if passed_over > WORTH_A_REQUEST:
            self._length = max(self._length // 2, _SMALLEST_BLOCK)
        else:
            self._length = min(self._length * 4, LARGEST_BLOCK)
        fetched = self._parts.read(first, max(self._length, end - first))
        self._start, self._block = offset, head + fetched
        return self._block[: end - offset]
