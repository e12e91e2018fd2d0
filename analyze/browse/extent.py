"""How much the page of a latent shows: less of each where there are thousands of latents."""

import dataclasses
from collections.abc import Mapping

from sparc.analyze.browse.contents.index import Mode


@dataclasses.dataclass(frozen=True, kw_only=True)
class Extent:
    """How much is shown of a latent in a stream, by mode.

    Attributes:
        top: Strongest images.
        quantile: Images near each quantile.
        names: Words that name it.
        classes: Classes.
        draws_bins: Whether a bin of values without an image that is shown anyway has images drawn.
    """

    top: Mapping[Mode, int]
    quantile: Mapping[Mode, int]
    names: Mapping[Mode, int]
    classes: Mapping[Mode, int]
    draws_bins: bool


MANY_LATENTS = 2048
"""Above this number pages are short, so that a site has room for pictures."""

FULL = Extent(
    top={"independent": 9, "joint": 9},
    quantile={"independent": 4, "joint": 2},
    names={"independent": 10, "joint": 3},
    classes={"independent": 10, "joint": 5},
    draws_bins=True,
)

SHORT = Extent(
    top={"independent": 9, "joint": 4},
    quantile={"independent": 2, "joint": 1},
    names={"independent": 5, "joint": 2},
    classes={"independent": 6, "joint": 3},
    draws_bins=False,
)


def extent_of(latents: int) -> Extent:
    """How much the pages of a dictionary of this many latents show."""
    return FULL if latents <= MANY_LATENTS else SHORT
