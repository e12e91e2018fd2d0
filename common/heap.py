"""The memory that a process has freed and still holds: how to keep it small.

The C library gives each thread a heap of its own, and keeps on every heap what was freed there, for
that thread alone; Arrow keeps what it has freed as well. Where large arrays come and go that is
several times what is in use. Where the C library is not glibc, it is left as it is. This module
must not know what the memory is for.
"""

import ctypes
import functools
from typing import Any

import pyarrow as pa

_M_ARENA_MAX = -8  # As in glibc's malloc.h.


def share() -> None:
    """Let threads that begin from now on use one heap, and what any of them has freed."""
    if _glibc() is not None:
        _glibc().mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Give what has been freed back to the operating system."""
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
