"""The settings of `sparc-analyze concepts`."""

import dataclasses

from sparc.analyze import options
from sparc.common.cli.suggestions import classes, streams
from sparc.common.config import option
from sparc.common.errors import ConfigError, setting
from sparc.common.files.paths import ending

ENDINGS = (".csv", ".parquet")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConceptsConfig:
    """Which latents are wanted."""

    shared: bool = option(False, "Only latents that all streams share.")
    only: str = option("", "Only latents of this stream that no other stream has.", suggest=streams)
    all: bool = option(False, "With --only: also latents that no word and no class goes with.")
    lacking: str = option("", "Only latents that all streams but this one share.", suggest=streams)
    of_class: str = option(
        "",
        "Only latents that go with this class: its name or key.",
        flag="--class",
        suggest=classes,
    )
    word: str = option("", "Only latents that have this word among their names.")
    limit: int = option(20, "Number of latents to show; 0: all. A file of --out has all.")
    out: str | None = option(None, "Write the table to this file or URL: .csv or .parquet.")
    cache: str = options.moved_cache()

    def __post_init__(self) -> None:
        only, lacking = setting("--only STREAM", "only="), setting("--lacking STREAM", "lacking=")
        if sum([self.shared, bool(self.only), bool(self.lacking)]) > 1:
            shared = setting("--shared", "shared=True")
            raise ConfigError(f"give one of {shared}, {only} and {lacking}, not two")
        if self.all and not self.only:
            every = setting("--all", "all=True")
            raise ConfigError(f"{every} is for {only}: otherwise all latents are listed anyway")
        options.check_at_least(self, 0, "limit")
        if self.out is not None and ending(self.out) not in ENDINGS:
            raise ConfigError(f"the table's name must end in .csv or .parquet, not {self.out}")
