"""`sparc-train run` as a function that returns the model."""

import os
from typing import Any

from sparc.common.cache.reader import ActivationCache
from sparc.common.config import one_config
from sparc.common.files.folder import location_of
from sparc.train import job
from sparc.train.config import TrainConfig
from sparc.train.loading import load
from sparc.train.model.network import Sparc

Location = str | os.PathLike[str]


def train(
    cache: Location | ActivationCache,
    run: Location,
    config: TrainConfig | None = None,
    *,
    overwrite: bool = False,
    **settings: Any,
) -> Sparc:
    """Train a model, or resume an interrupted run; see `sparc.train.call.TrainStage`."""
    config = one_config(TrainConfig, config, settings, source="sparc.train")
    job.run(
        location_of(cache, "the cache"),
        location_of(run, "the run"),
        config,
        overwrite=overwrite,
    )
    return load(run)
