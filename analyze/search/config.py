"""The settings of `sparc-analyze search`."""

import dataclasses
from pathlib import Path

from sparc.analyze import options
from sparc.common.config import option
from sparc.common.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """The query, and the stream that is searched."""

    text: str = option("", "Search by this text.")
    image: Path | None = option(None, "Search by the image in this file.", former="picture")
    row: int | None = option(None, "Search by this row of the cache.")
    into: str = option("", "The stream in whose space images are searched.", flag="--in")
    results: int = option(12, "Images to list.")
    sheet: Path | None = option(None, "Draw the images to this PNG file.")
    source: str = options.source("the only one that can")
    out: Path | None = options.out_file()
    specs: tuple[str, ...] = options.specs()
    trust_encoders: bool = options.trust_encoders()
    run: str = options.moved_run()
    cache: str = options.moved_cache()
    dataset: str = options.moved_dataset()

    def __post_init__(self) -> None:
        if sum([bool(self.text), self.image is not None, self.row is not None]) != 1:
            raise ConfigError("give one of --text, --image and --row as the query")
        if self.sheet is not None and self.sheet.suffix.lower() != ".png":
            raise ConfigError(f"the sheet is a PNG file: its name must end in .png, {self.sheet}")
        options.check_at_least(self, 1, "results")
