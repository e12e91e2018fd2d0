"""Stage 3: what the shared dictionary says, measured offline on sparse codes.

The names below are imported when they are first used, so that reading the configuration of this
stage does not load PyTorch.
"""

from typing import TYPE_CHECKING

from sparc.common.lazy import lazy_names

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

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
