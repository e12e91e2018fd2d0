"""Stage 1: images and captions through frozen encoders into an activation cache.

Knows datasets, encoders and the cache; never imports `sparc.train` or `sparc.analyze`.

The names below are imported when they are first used, so that importing this package costs nothing.
"""

import sys
from typing import TYPE_CHECKING

from sparc.common.lazy import lazy_names
from sparc.extract.call import ExtractStage

if TYPE_CHECKING:
    from sparc.extract.config import ExtractConfig

__all__ = ["ExtractConfig"]

_HOMES = {"ExtractConfig": "sparc.extract.config"}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)

sys.modules[__name__].__class__ = ExtractStage
