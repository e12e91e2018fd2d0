"""Stage 2: from an activation cache to one dictionary shared by all streams.

Knows the cache, never encoders or datasets: it does not import `sparc.extract`.

The names below are imported when they are first used, so that reading the configuration of this
stage does not load PyTorch.
"""

from typing import TYPE_CHECKING

from sparc.common.lazy import lazy_names

if TYPE_CHECKING:
    from sparc.train.config import ModelConfig, StreamShape
    from sparc.train.loading import load
    from sparc.train.model.codes import Codes
    from sparc.train.model.initialize import create_model
    from sparc.train.model.network import Sparc

__all__ = ["Codes", "ModelConfig", "Sparc", "StreamShape", "create_model", "load"]

_HOMES = {
    "Codes": "sparc.train.model.codes",
    "ModelConfig": "sparc.train.config",
    "Sparc": "sparc.train.model.network",
    "StreamShape": "sparc.train.config",
    "create_model": "sparc.train.model.initialize",
    "load": "sparc.train.loading",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
