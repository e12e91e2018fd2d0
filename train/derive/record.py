"""What a changed model says about itself: what it was made from, and how."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from sparc.common.streams.info import StreamInfo


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChangeRecord:
    """One change of a finished model, as `config.json` of the changed one records it."""

    source: str
    """The run, saved model or hub repository that was changed."""
    source_sha256: str
    """Digest of its configuration and weights."""
    cache: str
    """Folder or URL of the cache whose rows were looked at."""
    dataset: str
    """What the cache was made from."""
    split: str
    """Its split."""
    manifest_digest: str
    """Identifies its rows; see `sparc.common.cache.tables.manifest_digest`."""
    streams: tuple[StreamInfo, ...]
    """The streams of the model, as the cache describes them."""
    rows: int
    """Rows that every pair of streams had in the sample, at least."""
    settings: Any
    """The command's settings; a subclass says of which type."""
    versions: Mapping[str, str]
    """Version by package, and of Python."""
