"""Stage 3: what the shared dictionary says, measured offline on sparse codes.

The names below are imported when they are first used, so that reading the configuration of this
stage does not load PyTorch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparc.analyze.analysis import analyze
    from sparc.analyze.config import AnalyzeConfig
    from sparc.analyze.report import Report
    from sparc.analyze.search import Searcher

__all__ = ["AnalyzeConfig", "Report", "Searcher", "analyze"]

_HOMES = {
    "AnalyzeConfig": "sparc.analyze.config",
    "Report": "sparc.analyze.report",
    "Searcher": "sparc.analyze.search",
    "analyze": "sparc.analyze.analysis",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
