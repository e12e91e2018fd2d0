"""The settings of `sparc-train save`."""

import dataclasses
import functools
from collections.abc import Mapping

from sparc.common.cli.suggestions import streams
from sparc.common.config import option
from sparc.common.errors import ConfigError, setting
from sparc.common.streams.info import check_name


@dataclasses.dataclass(frozen=True, kw_only=True)
class SaveConfig:
    """Which streams are saved, and what they are called."""

    streams: tuple[str, ...] = option(
        (),
        "A stream to save; repeat for more. All of them by default.",
        flag="--stream",
        suggest=streams,
    )
    rename: tuple[str, ...] = option((), "Another name for a stream, PRESENT=NEW; repeat for more.")

    def __post_init__(self) -> None:
        names = [item.partition("=")[0] for item in self.rename]
        if len(set(names)) < len(names):
            raise ConfigError(f"{setting('--rename')} gives a stream two names")
        for item in self.rename:
            present, equals, new = item.partition("=")
            if not (present and equals and new):
                raise ConfigError(f"{setting('--rename')} wants PRESENT=NEW, not {item!r}")
            check_name(new)

    @functools.cached_property
    def new_names(self) -> Mapping[str, str]:
        """The new names by the present ones."""
        return dict(item.split("=", 1) for item in self.rename)
