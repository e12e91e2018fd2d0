"""Stage 2: from an activation cache to one dictionary shared by all streams.

Knows the cache, never encoders or datasets: it does not import `sparc.extract`.

The names below are imported when they are first used, so that reading the configuration of this
stage does not load PyTorch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparc.train.config import ModelConfig, StreamShape
    from sparc.train.model import Codes, Sparc, create_model, load

__all__ = ["Codes", "ModelConfig", "Sparc", "StreamShape", "create_model", "load"]

_HOMES = {
    "Codes": "sparc.train.model",
    "ModelConfig": "sparc.train.config",
    "Sparc": "sparc.train.model",
    "StreamShape": "sparc.train.config",
    "create_model": "sparc.train.model",
    "load": "sparc.train.model",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
