"""The settings of `sparc-train match`."""

import dataclasses

from sparc.common.cli.suggestions import devices
from sparc.common.config import option, require_at_least


@dataclasses.dataclass(frozen=True, kw_only=True)
class MatchConfig:
    """How latents are matched (see `sparc.train.match.assign`), and on what."""

    rows: int = option(
        32_768, "Rows to sample for every pair of streams, in whole chunks; all if there are fewer."
    )
    rounds: int = option(
        1,
        "How often every stream is matched once more, to all others, where there are more than "
        "two streams; fewer times if nothing changes.",
    )
    seed: int = option(42, "Seed of the sample.")
    device: str = option(
        "auto", "Where to encode: auto, cpu, cuda, cuda:1, …", changeable=True, suggest=devices
    )

    def __post_init__(self) -> None:
        for name, smallest in (("rows", 2), ("rounds", 0), ("seed", 0)):
            require_at_least(self, name, smallest)
