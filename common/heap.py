"""What becomes of memory that a process has freed: it goes back, or waits for the next array.

`share`, `map_large_arrays` and `keep_large_arrays` hold for the whole process (of the last two the
one that was called later), so the command lines call them and no function that another program may
call does. A program that calls `analyze` or trains on large data may call them as well, before its
threads begin.

The C library gives each thread a heap of its own, and keeps on every heap what was freed there, for
that thread alone; Arrow keeps what it has freed as well. Where large arrays come and go that is
several times what is in use. Where the C library is not glibc, it is left as it is. This module
must not know what the memory is for.
"""

import ctypes
import functools
from typing import Any

# As in glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8

_LARGE = 4 << 20

_NEVER = -1
"""As a threshold, more bytes than there are."""

_USUAL_MAPPINGS = 1 << 16
"""Most arrays that glibc maps at once, unless it is asked for another number."""


def share() -> None:
    """Let threads that begin from now on use one heap, and what any of them has freed."""
    if _glibc() is not None:
        _glibc().mallopt(_M_ARENA_MAX, 1)


def map_large_arrays() -> None:
    """Map every array of a few MB or more by itself, so that its memory goes back when it is freed.

    On a heap they leave holes between arrays that stay, which others seldom fit. It takes a little
    time, since new memory is cleared: not for loops that make the same arrays again and again.
    """
    if _glibc() is not None:
        _glibc().mallopt(_M_MMAP_MAX, _USUAL_MAPPINGS)
        _glibc().mallopt(_M_MMAP_THRESHOLD, _LARGE)
        # Setting the one fixes the other, at a size that smaller arrays reach all the time.
        _glibc().mallopt(_M_TRIM_THRESHOLD, 16 * _LARGE)


def keep_large_arrays() -> None:
    """Keep what large arrays leave for the next ones, in one heap for threads that begin from now.

    For loops that make the same arrays again and again. The C library maps arrays above 32 MB, the
    activations of an encoder, every time, and the system clears each of their pages, which can
    take as long as the arithmetic. What is freed stays with the process to its end.
    """
    if _glibc() is not None:
        # Only the one heap that threads share can grow by arrays of any size.
        share()
        _glibc().mallopt(_M_MMAP_MAX, 0)
        _glibc().mallopt(_M_TRIM_THRESHOLD, _NEVER)


def give_back() -> None:
    """Give what has been freed back to the operating system."""
    import pyarrow as pa  # a command that asks for help does without

    pa.default_memory_pool().release_unused()
    if _glibc() is not None:
        _glibc().malloc_trim(0)


@functools.cache
def _glibc() -> Any:
    """The C library of this process; None where it is not glibc."""
    try:
        library = ctypes.CDLL(None)
        return library if hasattr(library, "gnu_get_libc_version") else None
    except (OSError, TypeError):  # TypeError: Windows
        return None
