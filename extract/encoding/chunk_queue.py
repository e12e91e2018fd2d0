"""Chunks in order, handed out to several devices, never far ahead of what was written."""

import threading
from collections.abc import Iterator

from sparc.extract.encoding.chunks import Chunk


class ChunkQueue:
    """A queue of chunks, for threads to take from.

    Args:
        chunks: The chunks; pulled one by one.
        ahead: How many may be handed out and not yet written. To learn that none is left takes a
            place too: whoever takes the only chunk and never calls `written` needs 2.
    """

    def __init__(self, chunks: Iterator[Chunk], ahead: int) -> None:
        self._chunks = chunks
        self._free = threading.Semaphore(ahead)
        self._turn = threading.Lock()
        self._stopped = False

    def take(self, *, wait: bool) -> Chunk | None:
        """The next chunk; None if none is left, or if none is free yet and `wait` is false."""
        if not self._free.acquire(blocking=wait):
            return None
        with self._turn:
            chunk = None if self._stopped else next(self._chunks, None)
        if chunk is None:
            self._free.release()
        return chunk

    def written(self) -> None:
        """A chunk that was handed out has been written."""
        self._free.release()

    def stop(self) -> None:
        """Hand out nothing more."""
        self._stopped = True
        self._free.release()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped
