"""What a joined model says about itself: which stream joined which model, and how."""

import dataclasses

from sparc.train.derive.record import ChangeRecord
from sparc.train.join.config import JoinConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class JoinRecord(ChangeRecord):
    """One joining, in the table `joined` of a run's or a saved model's `config.json`.

    `streams` are those of the cache that took part, the new one last.
    """

    settings: JoinConfig
    steps: int
    """Steps that the new stream learned for."""
