"""Stage 1: images and captions through frozen encoders into an activation cache.

Knows datasets, encoders and the cache; never imports `sparc.train` or `sparc.analyze`.
"""

import sys

from sparc.extract.call import ExtractStage

sys.modules[__name__].__class__ = ExtractStage
