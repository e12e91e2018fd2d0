"""The settings of `sparc-train export`."""

import dataclasses

from sparc.common.cli.suggestions import streams
from sparc.common.config import option
from sparc.common.registry import summaries
from sparc.train.dictionaries.formats.registry import WRITABLE


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Which streams are exported, and for which program."""

    to: str = option("saelens", f"The format. {summaries(WRITABLE)}.", choices=WRITABLE)
    streams: tuple[str, ...] = option(
        (),
        "A stream to export; repeat for more. All of them by default.",
        flag="--stream",
        suggest=streams,
    )
