"""The settings of `sparc-analyze name`."""

import dataclasses
from pathlib import Path

from sparc.analyze import options
from sparc.common.config import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class NameConfig:
    """The words that latents are named by."""

    words: Path | None = option(None, "A text file with a word or phrase a line.")
    template: str = options.template("{}", "the word")
    names: int = options.names()
    source: str = options.source("the only one of texts")
    out: str | None = options.out_file()
    specs: tuple[str, ...] = options.specs()
    trust_encoders: bool = options.trust_encoders()
    run: str = options.moved_run()
    cache: str = options.moved_cache()

    def __post_init__(self) -> None:
        options.check_template(self.template, "the word")
        options.check_at_least(self, 1, "names")
