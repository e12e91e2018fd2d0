"""Stage 3: what the shared dictionary says, measured offline on sparse codes.

The names below are imported when they are first used, so that reading the configuration of this
stage does not load PyTorch.
"""

import sys
from typing import TYPE_CHECKING

from sparc.analyze.call import AnalyzeStage
from sparc.common.lazy import lazy_names

if TYPE_CHECKING:
    from sparc.analyze.config import AnalyzeConfig
    from sparc.analyze.direct import bias_of, name_latents, stability_of
    from sparc.analyze.localize.config import LocalizeConfig
    from sparc.analyze.localize.localizer import Localizer
    from sparc.analyze.notebook.analyze import analyze
    from sparc.analyze.notebook.report import Report
    from sparc.analyze.search.searcher import Searcher

__all__ = [
    "AnalyzeConfig",
    "LocalizeConfig",
    "Localizer",
    "Report",
    "Searcher",
    "analyze",
    "bias_of",
    "name_latents",
    "stability_of",
]

_HOMES = {
    "AnalyzeConfig": "sparc.analyze.config",
    "LocalizeConfig": "sparc.analyze.localize.config",
    "Localizer": "sparc.analyze.localize.localizer",
    "Report": "sparc.analyze.notebook.report",
    "Searcher": "sparc.analyze.search.searcher",
    "analyze": "sparc.analyze.notebook.analyze",
    "bias_of": "sparc.analyze.direct",
    "name_latents": "sparc.analyze.direct",
    "stability_of": "sparc.analyze.direct",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)

sys.modules[__name__].__class__ = AnalyzeStage
