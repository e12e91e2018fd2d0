"""What a matched model says about itself: what it was made from, how, and with what success."""

import dataclasses

from sparc.train.derive.record import ChangeRecord
from sparc.train.match.config import MatchConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class MatchRecord(ChangeRecord):
    """One matching, in the table `matched` of a run's or a saved model's `config.json`."""

    settings: MatchConfig
    before: float
    """Correlation of latents of the same number before: the mean over pairs of streams and all
    latents, on the sampled rows. A latent that is never active counts as 0."""
    after: float
    """The same after the matching."""
