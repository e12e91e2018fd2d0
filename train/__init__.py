"""Stage 2: from an activation cache to one dictionary shared by all streams.

Knows the cache, never encoders or datasets: it does not import `sparc.extract`.

The names below are imported when they are first used, so that reading the configuration of this
stage does not load PyTorch.
"""

import sys
from typing import TYPE_CHECKING

from sparc.common.lazy import lazy_names
from sparc.train.call import TrainStage

if TYPE_CHECKING:
    from sparc.train.align.command import align_run
    from sparc.train.align.config import AlignConfig
    from sparc.train.config import ModelConfig, StreamShape, TrainConfig
    from sparc.train.export.command import export_run
    from sparc.train.export.config import ExportConfig
    from sparc.train.importing.command import import_dictionary
    from sparc.train.importing.config import ImportConfig
    from sparc.train.join.command import join_run
    from sparc.train.join.config import JoinConfig
    from sparc.train.loading import load
    from sparc.train.match.command import match_run
    from sparc.train.match.config import MatchConfig
    from sparc.train.model.codes import Codes
    from sparc.train.model.initialize import create_model
    from sparc.train.model.network import Sparc
    from sparc.train.model.streams import take_streams
    from sparc.train.save.command import save_run
    from sparc.train.save.config import SaveConfig

__all__ = [
    "AlignConfig",
    "Codes",
    "ExportConfig",
    "ImportConfig",
    "JoinConfig",
    "MatchConfig",
    "ModelConfig",
    "SaveConfig",
    "Sparc",
    "StreamShape",
    "TrainConfig",
    "align_run",
    "create_model",
    "export_run",
    "import_dictionary",
    "join_run",
    "load",
    "match_run",
    "save_run",
    "take_streams",
]

_HOMES = {
    "AlignConfig": "sparc.train.align.config",
    "Codes": "sparc.train.model.codes",
    "ExportConfig": "sparc.train.export.config",
    "ImportConfig": "sparc.train.importing.config",
    "MatchConfig": "sparc.train.match.config",
    "JoinConfig": "sparc.train.join.config",
    "ModelConfig": "sparc.train.config",
    "SaveConfig": "sparc.train.save.config",
    "Sparc": "sparc.train.model.network",
    "StreamShape": "sparc.train.config",
    "TrainConfig": "sparc.train.config",
    "align_run": "sparc.train.align.command",
    "create_model": "sparc.train.model.initialize",
    "export_run": "sparc.train.export.command",
    "import_dictionary": "sparc.train.importing.command",
    "join_run": "sparc.train.join.command",
    "load": "sparc.train.loading",
    "match_run": "sparc.train.match.command",
    "save_run": "sparc.train.save.command",
    "take_streams": "sparc.train.model.streams",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)

sys.modules[__name__].__class__ = TrainStage
