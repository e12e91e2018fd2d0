"""All of an aligning of a model on a cache whose moments are known."""

import torch

from sparc.common.cache.reader import ActivationCache
from sparc.train.align.config import AlignConfig
from sparc.train.align.refit import align
from sparc.train.align.selecting import selecting_rows
from sparc.train.align.thresholds import relearn_thresholds
from sparc.train.data.moments import Moments
from sparc.train.model.network import Sparc


@torch.no_grad()
def align_on_cache(
    model: Sparc, cache: ActivationCache, moments: Moments, config: AlignConfig
) -> None:
    """Refit a model's encoders and latent biases, and the thresholds of its selector, in place.

    Args:
        model: A model of at least two streams, on its device.
        cache: A cache with its streams.
        moments: Of the cache, for the model's streams.
        config: The settings; `device` has been decided.
    """
    selecting = None
    if config.discriminant > 0 and config.mix > 0:
        selecting = selecting_rows(model, cache, rows=config.rows, seed=config.seed)
    align(
        model,
        moments,
        mix=config.mix,
        ridge=config.ridge,
        keep=config.keep,
        discriminant=config.discriminant if selecting is not None else 0.0,
        selecting=selecting,
    )
    relearn_thresholds(model, cache, seed=config.seed)
