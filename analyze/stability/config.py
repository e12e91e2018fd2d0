"""The settings of `sparc-analyze stability`."""

import dataclasses

from sparc.analyze import options


@dataclasses.dataclass(frozen=True, kw_only=True)
class StabilityConfig:
    """How the latents of two runs are matched."""

    out: str | None = options.out_folder("stability.parquet and matching.parquet")
    seed: int = options.seed("the control of random directions")

    def __post_init__(self) -> None:
        options.check_at_least(self, 0, "seed")
