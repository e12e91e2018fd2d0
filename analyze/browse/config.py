"""The settings of `sparc-analyze browse`."""

import dataclasses
import re
from pathlib import Path

from sparc.analyze import options
from sparc.common.cli.suggestions import artefacts, attributes
from sparc.common.config import option
from sparc.common.errors import ConfigError

_UNITS = {"kb": 1000, "mb": 1000**2, "gb": 1000**3}

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(kB|MB|GB)\s*", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BrowseConfig:
    """What a site shows."""

    size: str = option(
        "300MB", "Size that the site should have at most; pictures are dropped first."
    )
    map: bool = option(
        True, "Place latents in a plane, by the directions that they write into the streams."
    )
    maps: int = option(
        0,
        "Draw where in its strongest images a latent is, for this number of latents, the most "
        "interesting ones.",
    )
    latents: str = option("", "Draw it for these latents, too, such as 42,7.")
    bias: tuple[str, ...] = option(
        (),
        "Which latents go with this attribute, as for `sparc-analyze bias`, or with 'ATTRIBUTE "
        "against ATTRIBUTE'; repeat for more.",
        suggest=attributes,
    )
    compare: tuple[str, ...] = option(
        (),
        "Another report on the same encoders to stand beside this one, its run at hand; "
        "repeat for more.",
        suggest=artefacts("report"),
    )
    export: Path | None = option(
        None,
        "Also write the latents to this Parquet file, with a picture each: Embedding Atlas opens "
        "it with --image image --x x --y y.",
        changeable=True,
    )
    overwrite: bool = option(
        False,
        "Remove the site that the folder holds, whatever it is of; asks on a terminal.",
    )
    specs: tuple[str, ...] = options.specs()
    trust_encoders: bool = options.trust_encoders()
    run: str = options.moved_run()
    cache: str = options.moved_cache()
    dataset: str = options.moved_dataset()
    device: str = options.device("the encoders run")
    workers: int = option(0, "Threads; 0: one per core.", changeable=True)

    def __post_init__(self) -> None:
        _ = self.bytes, self.latent_numbers
        options.check_at_least(self, 0, "maps", "workers")
        if self.export is not None and self.export.suffix.lower() != ".parquet":
            raise ConfigError(f"the table's name must end in .parquet, not {self.export}")

    @property
    def bytes(self) -> int:
        """`size` in bytes.

        Raises:
            ConfigError: It is not a size.
        """
        match = _SIZE.fullmatch(self.size)
        if match is None:
            raise ConfigError(f"size must be like 300MB or 1.5GB, not {self.size!r}")
        return int(float(match[1]) * _UNITS[match[2].lower()])

    @property
    def latent_numbers(self) -> tuple[int, ...]:
        """`latents`, one by one.

        Raises:
            ConfigError: It is not a list of numbers.
        """
        if not self.latents.strip():
            return ()
        numbers = [number.strip() for number in self.latents.split(",")]
        if not all(number.isdecimal() and number.isascii() for number in numbers):
            raise ConfigError(
                f"latents must be numbers with commas between them, like 42,7, not {self.latents!r}"
            )
        return tuple(map(int, numbers))
