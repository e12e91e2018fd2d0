"""What a saved model says about the model that it was taken from."""

import dataclasses
from collections.abc import Mapping

from sparc.common.streams.info import StreamInfo
from sparc.train.save.config import SaveConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class SaveRecord:
    """One saving, in the table `saved` of a saved model's `config.json`."""

    source: str
    """The run, saved model or hub repository that was saved."""
    source_sha256: str
    """Digest of its configuration and weights."""
    streams: tuple[StreamInfo, ...]
    """The saved streams under their new names, where it is known what made them."""
    settings: SaveConfig
    versions: Mapping[str, str]
    """Version by package, and of Python."""
