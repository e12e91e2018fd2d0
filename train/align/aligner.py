"""Aligning while a model is trained, after set shares of its steps."""

import dataclasses
from collections.abc import Callable
from typing import Protocol

from sparc.common.cache.reader import ActivationCache
from sparc.train.align.config import AlignConfig
from sparc.train.align.on_cache import align_on_cache
from sparc.train.config import ModelConfig
from sparc.train.data.moments import data_moments, require_rows
from sparc.train.distributed.processes import Processes
from sparc.train.model.network import Sparc


class Changeable(Protocol):
    """What has a model, which the first process can change for all."""

    def change(
        self, change: Callable[[Sparc], None], copy_from_first: Callable[[Sparc], None]
    ) -> None:
        """Change the encoders, latent biases and thresholds of the model.

        Args:
            change: Changes a whole model, in the first process.
            copy_from_first: Copies what it changed to a whole model of every process.
        """
        ...


class Aligner:
    """Aligns the models of a run or a sweep, which all see the same features.

    Moments are taken once, by the first process, which aligns for all.

    Args:
        cache: The cache of the run.
        config: A model of the run.
        seed: Seed of the sample of rows.
        processes: The processes that train together.

    Raises:
        CacheError: The cache has too few rows.
    """

    def __init__(
        self, cache: ActivationCache, config: ModelConfig, *, seed: int, processes: Processes
    ) -> None:
        self._cache = cache
        self._settings = AlignConfig(seed=seed)
        self._processes = processes
        self._moments = None
        if processes.is_first:
            self._moments = data_moments(
                cache, config, rows=self._settings.rows, seed=seed, device=processes.device
            )
            require_rows(cache, config, self._moments)

    def align(self, learner: Changeable, *, mix: float, discriminant: float) -> None:
        """Refit a model's encoders in place, on its device; all processes have to call it.

        Adam's moments stay. (Measured on three streams of emoji: to forget the mean of gradients
        changes nothing, to forget that of their squares too costs joint cross-reconstruction.)

        Args:
            learner: Has a model of the run.
            mix: As in `AlignConfig`.
            discriminant: Likewise.
        """
        settings = dataclasses.replace(self._settings, mix=mix, discriminant=discriminant)

        def refit(model: Sparc) -> None:
            if self._moments is not None:
                align_on_cache(model, self._cache, self._moments, settings)

        learner.change(refit, self._copy_from_first)

    def _copy_from_first(self, model: Sparc) -> None:
        for tensor in (*model.encoder.values(), *model.latent_bias.values()):
            self._processes.copy_from_first(tensor)
        if model.thresholds is not None:
            self._processes.copy_from_first(model.thresholds)
