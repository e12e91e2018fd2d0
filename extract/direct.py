"""`sparc-extract run` as a function that returns the cache."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from sparc.common.cache.reader import ActivationCache
from sparc.common.config import one_config
from sparc.common.errors import ConfigError, IncompleteCacheError
from sparc.common.files.folder import location_of
from sparc.extract import job
from sparc.extract.config import ExtractConfig
from sparc.extract.datasets import open_dataset


def extract(
    dataset: str | os.PathLike[str],
    cache: str | os.PathLike[str],
    config: ExtractConfig | None = None,
    *,
    streams: Mapping[str, str] | Sequence[str] = (),
    overwrite: bool = False,
    **settings: Any,
) -> ActivationCache:
    """Encode a dataset, or continue; see `sparc.extract.call.ExtractStage`."""
    if isinstance(streams, Mapping):
        streams = [f"{name}={spec}" for name, spec in streams.items()]
    if streams:
        settings["streams"] = list(streams)
    config = one_config(ExtractConfig, config, settings, source="sparc.extract")
    if config.dry_run:
        raise ConfigError(
            "sparc.extract does what it is called for: dry_run is an option of `sparc-extract run`"
        )
    location = location_of(cache, "the cache")
    opened = open_dataset(location_of(dataset, "the dataset"), config.dataset_options(location))
    summary = job.run(opened, location, config, overwrite=overwrite)
    if summary.left_out:
        raise IncompleteCacheError(str(summary))
    return summary.cache
