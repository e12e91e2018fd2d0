"""The size of a dictionary that fits the data, where nobody gave one: latents and k.

The published size (8,192 latents, 64 of them a row) is what large data get. Fewer rows cannot fill
so many latents, and features of few values need not so many.
"""

from sparc.common.defaults import changed
from sparc.common.errors import setting
from sparc.common.text import amount
from sparc.train.config import TrainConfig

MOST_LATENTS, MOST_ACTIVE = 8192, 64
"""As published."""

FEWEST_LATENTS, FEWEST_ACTIVE = 16, 4

ROWS_PER_LATENT = 4
"""With k = latents / 32, this many rows use a latent 4 / 32 * latents times on average."""

LATENTS_PER_VALUE = 16
"""Of the widest stream: 8,192 for features of 512 values."""

LATENTS_PER_ACTIVE = 32
"""Of 512 and 1,024 latents, with which our recipes were tried, 16 and 32 are active."""


def with_size(settings: TrainConfig, *, rows: int, width: int) -> TrainConfig:
    """The settings with a number of latents and a k; those that are given stay.

    Args:
        settings: The settings, in which 0 stands for a number that was not given.
        rows: Rows of the cache.
        width: Values of its widest stream that is learnt from.
    """
    latents = settings.latents or max(settings.k, _latents(rows, width))
    k = settings.k or min(latents, MOST_ACTIVE, max(FEWEST_ACTIVE, latents // LATENTS_PER_ACTIVE))
    return changed(settings, latents=latents, k=k)


def say_size(settings: TrainConfig, *, rows: int, width: int) -> str:
    """What a person is told of a size that was proposed."""
    return (
        f"{amount(settings.latents, 'latent')}, {settings.k} a row, for {amount(rows, 'row')} of "
        f"up to {amount(width, 'value')}; choose others with "
        f"{setting('--latents')} and {setting('--k')}"
    )


def _latents(rows: int, width: int) -> int:
    """The largest power of two that rows and values allow."""
    allowed = min(rows // ROWS_PER_LATENT, LATENTS_PER_VALUE * width, MOST_LATENTS)
    return max(FEWEST_LATENTS, 1 << (max(1, allowed).bit_length() - 1))
