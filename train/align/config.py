"""The settings of `sparc-train align`, and of aligning while a model is trained."""

import dataclasses
import math
from collections.abc import Sequence

from sparc.common.cli.suggestions import devices
from sparc.common.config import option, require_at_least
from sparc.common.errors import ConfigError, setting

NEVER_ALIGN = "none"
"""As the only item of `TrainConfig.align`: encoders are not aligned, whatever the recipe does."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlignConfig:
    """How encoders are refitted (the formulas are in `sparc.train.align.refit`), and on what."""

    mix: float = option(
        1.0, "How far encoders move: 0 leaves them as they are, 1 takes the refitted ones."
    )
    ridge: float = option(
        1e-4, "Added to a stream's covariance on the diagonal, as a share of its trace."
    )
    keep: bool = option(True, "Preserve the variance of each latent's summed logits.")
    discriminant: float = option(
        0.1,
        "Share of the refitted encoders that discriminates the rows which select a latent jointly.",
    )
    rows: int = option(
        32_768, "Rows to sample for every pair of streams, in whole chunks; all if there are fewer."
    )
    seed: int = option(42, "Seed of the sample.")
    device: str = option(
        "auto",
        "Where to compute, in double precision: auto, cpu, cuda, cuda:1, …",
        suggest=devices,
        changeable=True,
    )

    def __post_init__(self) -> None:
        if not 0 <= self.mix <= 1:
            raise ConfigError(f"mix must be from 0 to 1, not {self.mix}")
        if not 0 <= self.discriminant <= 1:
            raise ConfigError(f"discriminant must be from 0 to 1, not {self.discriminant}")
        if not 0 < self.ridge < math.inf:
            raise ConfigError(f"ridge must be a positive number, not {self.ridge}")
        for name, smallest in (("rows", 2), ("seed", 0)):
            require_at_least(self, name, smallest)


def align_mixes(align: Sequence[str]) -> dict[float, float]:
    """The shares of the steps after which encoders are aligned, and how far they move then.

    Args:
        align: Items `SHARE` or `SHARE=MIX`, or `NEVER_ALIGN` alone.

    Raises:
        ConfigError: An item is malformed, or a share is given twice.
    """
    mixes: dict[float, float] = {}
    for point in () if tuple(align) == (NEVER_ALIGN,) else align:
        text, _, mix_text = point.partition("=")
        try:
            share, mix = float(text), float(mix_text or 1)
        except ValueError:
            share = mix = math.nan
        if not (0 < share <= 1 and 0 <= mix <= 1):
            raise ConfigError(
                f"{setting('--align')} wants SHARE or SHARE=MIX, both up to 1, not {point!r}"
            )
        if share in mixes:
            raise ConfigError(f"{setting('--align')} gives the share {share:g} twice")
        mixes[share] = mix
    return mixes
