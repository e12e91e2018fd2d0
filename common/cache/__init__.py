"""The activation cache, the contract of stages 1 and 2. `CACHE.md` is normative.

The names below are imported when they are first used.
"""

from typing import TYPE_CHECKING

from sparc.common.lazy import lazy_names

if TYPE_CHECKING:
    from sparc.common.cache.arrays import write_arrays
    from sparc.common.cache.own.writer import CacheWriter
    from sparc.common.cache.reader import ActivationCache

__all__ = ["ActivationCache", "CacheWriter", "write_arrays"]

_HOMES = {
    "ActivationCache": "sparc.common.cache.reader",
    "CacheWriter": "sparc.common.cache.own.writer",
    "write_arrays": "sparc.common.cache.arrays",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
