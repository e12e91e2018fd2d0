"""Chunks in order, handed out to several devices, never far ahead of what was written."""

import threading
from collections.abc import Iterator

from sparc.extract.encoding.chunks import Chunk


class ChunkQueue:
    """A queue of chunks, for threads to take from.

    Args:
        chunks: The chunks; pulled one by one.
        ahead: How many may be handed out and not yet written, at least 1. Who takes more must call
            `written`.
    """

    def __init__(self, chunks: Iterator[Chunk], ahead: int) -> None:
        if ahead < 1:
            raise ValueError(f"ahead must be at least 1, not {ahead}")
        self._chunks = chunks
        self._ahead = ahead
        self._upcoming: Chunk | None = None
        self._unwritten = 0
        self._stopped = False
        self._changed = threading.Condition()

    def take(self, *, wait: bool) -> Chunk | None:
        """The next chunk; None if none is left, or if none is free yet and `wait` is false."""
        with self._changed:
            while not self._stopped:
                full = self._unwritten >= self._ahead
                if full and not wait:
                    return None
                # Pulled before there is a place for it, so that nobody waits where none is left.
                self._upcoming = self._upcoming or next(self._chunks, None)
                if self._upcoming is None:
                    return None
                if not full:
                    chunk, self._upcoming = self._upcoming, None
                    self._unwritten += 1
                    return chunk
                self._changed.wait()
            return None

    def written(self) -> None:
        """A chunk that was handed out has been written."""
        with self._changed:
            self._unwritten -= 1
            self._changed.notify_all()

    def stop(self) -> None:
        """Hand out nothing more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped
