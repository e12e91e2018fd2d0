"""The locks behind URLs that this process holds: nothing is written below one that it has lost."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Held(Protocol):
    """A lock that may be lost."""

    def require(self) -> None:
        """See that the lock is held.

        Raises:
            LockedError: It was lost.
        """


_held: list[tuple[str, Held]] = []
# A forked process holds none: it does not renew what its parent holds.
os.register_at_fork(after_in_child=_held.clear)


@contextmanager
def holding(url: str, lock: Held) -> Iterator[None]:
    """Let what is written below a folder's URL depend on a lock."""
    entry = (url, lock)
    _held.append(entry)
    try:
        yield
    finally:
        if entry in _held:
            _held.remove(entry)


def require_held(url: str) -> None:
    """See that this process has lost no lock of a folder, or of one above it.

    Args:
        url: The folder's URL.

    Raises:
        LockedError: It has.
    """
    for folder, lock in list(_held):
        if url == folder or url.startswith(f"{folder}/"):
            lock.require()
