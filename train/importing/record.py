"""What an imported model says about the dictionary that it is."""

import dataclasses
from collections.abc import Mapping

from sparc.common.streams.info import StreamInfo
from sparc.train.importing.config import ImportConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportRecord:
    """One importing, in the table `imported` of a saved model's `config.json`."""

    source: str
    """The file or folder."""
    source_sha256: str
    """SHA-256 of the model that was made of it: of its configuration and weights."""
    format: str
    """A name in `FORMATS`."""
    streams: tuple[StreamInfo, ...]
    """The stream as the cache describes it, if one was given."""
    settings: ImportConfig
    versions: Mapping[str, str]
    """Version by package, and of Python."""
