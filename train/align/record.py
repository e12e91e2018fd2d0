"""What an aligned model says about itself: what it was made from, and how."""

import dataclasses
from collections.abc import Mapping

from sparc.common.streams.info import StreamInfo
from sparc.train.align.config import AlignConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlignRecord:
    """One aligning, in the table `aligned` of a run's or a saved model's `config.json`."""

    source: str
    """The run, saved model or hub repository that was aligned."""
    source_sha256: str
    """Digest of its configuration and weights."""
    cache: str
    """Folder or URL of the cache whose covariances were taken."""
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
    settings: AlignConfig
    versions: Mapping[str, str]
    """Version by package, and of Python."""
