"""The settings of `sparc-analyze bias`."""

import dataclasses
from typing import Literal

from sparc.analyze import options
from sparc.common.cli.suggestions import attributes
from sparc.common.config import option
from sparc.common.errors import ConfigError, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class BiasConfig:
    """Which attribute latents are tested against, and how."""

    attribute: str = option(
        "",
        "class:<name or key>, words:<word>,<word>,… (or words:@<file>) in captions, "
        "column:<column of rows.parquet>[=<value>], or "
        "table:<CSV or Parquet with sample_id>#<column>[=<value>].",
        suggest=attributes,
    )
    against: str = option(
        "",
        "A second attribute: images that have exactly one of the two are compared.",
        suggest=attributes,
    )
    mode: Literal["independent", "joint"] = option(
        "independent",
        "independent: each stream selects its own latents; joint: all select the same ones and "
        "share all findings.",
    )
    q: float = option(0.05, "False discovery rate (FDR) level.")
    examples: int = option(5, "Example rows per finding.")
    pair_latents: int = option(
        512, "Number of latents whose pairs are tested, the most frequent ones."
    )
    pairs: int = option(50, "Pairs reported per stream.")
    lines: int = option(10, "Findings shown per stream.")
    out: str | None = options.out_folder("associations.parquet and pairs.parquet")
    cache: str = options.moved_cache()
    seed: int = options.seed("the control, in which the attribute is shuffled")
    scheduler: str = options.scheduler()
    workers: int = options.workers()

    def __post_init__(self) -> None:
        if not self.attribute:
            raise ConfigError(
                f"say what to look for with {setting('--attribute')}, such as words:woman,women"
            )
        if not 0 < self.q < 1:
            raise ConfigError(f"q must be a share between 0 and 1, not {self.q}")
        options.check_at_least(
            self, 0, "examples", "pair_latents", "pairs", "lines", "seed", "workers"
        )
        options.check_scheduler(self.scheduler)
