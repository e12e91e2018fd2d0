"""The settings of `sparc-analyze show`."""

import dataclasses
from pathlib import Path

from sparc.analyze import options
from sparc.common.config import option
from sparc.common.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShowConfig:
    """Which latent is shown, and where its images are drawn."""

    latent: int | None = option(None, "The latent: its number.")
    sheet: Path | None = options.sheet()
    cache: str = options.moved_cache()
    dataset: str = options.moved_dataset()

    def __post_init__(self) -> None:
        if self.latent is None:
            raise ConfigError("say which latent with --latent, such as --latent 42")
        options.check_sheet(self.sheet)
