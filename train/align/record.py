"""What an aligned model says about itself: what it was made from, and how."""

import dataclasses

from sparc.train.align.config import AlignConfig
from sparc.train.derive.record import ChangeRecord


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlignRecord(ChangeRecord):
    """One aligning, in the table `aligned` of a run's or a saved model's `config.json`."""

    settings: AlignConfig
