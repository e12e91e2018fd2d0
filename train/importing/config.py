"""The settings of `sparc-train import`."""

import dataclasses

from sparc.common.config import option, require_at_least, require_choice
from sparc.common.errors import ConfigError, setting
from sparc.common.registry import summaries
from sparc.common.streams.info import check_name
from sparc.train.dictionaries.formats.registry import AUTO, FORMATS


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """What the dictionary's stream is called, and what its files do not say."""

    stream: str = option("", "What the stream is called whose features it encodes.")
    format: str = option(
        AUTO,
        f"The format, by default the one that recognizes it. {summaries(FORMATS)}.",
        flag="--from",
        choices=(AUTO, *FORMATS),
    )
    k: int = option(
        0,
        "Latents that a row uses, exactly with TopK, else on average; needed where the files do "
        "not say it.",
    )
    k_max: int = option(
        0,
        "With a threshold or ReLU: the most latents that a row may use, the largest; 0: 4 k, or as "
        "the files say.",
    )
    cache: str = option(
        "", "A cache with features of the stream, to check the dictionary on, and for its encoder."
    )

    def __post_init__(self) -> None:
        if not self.stream:
            raise ConfigError(f"name the stream of the dictionary with {setting('--stream')}")
        check_name(self.stream)
        require_choice(self.format, (AUTO, *FORMATS), "format")
        require_at_least(self, "k", 0)
        require_at_least(self, "k_max", 0)
