"""The settings of `sparc-analyze search`."""

import dataclasses
from pathlib import Path

from sparc.analyze import options
from sparc.common.cli.suggestions import streams
from sparc.common.config import option
from sparc.common.errors import ConfigError, setting
from sparc.common.text import listed

QUERIES = ("--text", "--image", "--row", "--latent")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """The query, and the stream that is searched."""

    text: str = option("", "Search by this text.")
    image: Path | None = option(None, "Search by the image in this file.", former="picture")
    row: int | None = option(None, "Search by this row of the cache.")
    latent: int | None = option(None, "Search by this latent alone.")
    into: str = option(
        "", "The stream in whose space images are searched.", flag="--in", suggest=streams
    )
    results: int = option(12, "Images to list.")
    sheet: Path | None = options.sheet()
    source: str = options.source("the only one that can")
    out: str | None = options.out_file()
    specs: tuple[str, ...] = options.specs()
    trust_encoders: bool = options.trust_encoders()
    run: str = options.moved_run()
    cache: str = options.moved_cache()
    dataset: str = options.moved_dataset()

    def __post_init__(self) -> None:
        given = [bool(self.text), *(q is not None for q in (self.image, self.row, self.latent))]
        if sum(given) != 1:
            raise ConfigError(f"give one of {listed([setting(q) for q in QUERIES])} as the query")
        options.check_sheet(self.sheet)
        options.check_at_least(self, 1, "results")
