"""Which pictures a site has room for.

A latent shows images for several reasons. All latents first get what they need most, the most
interesting ones first, then all of them the next. So what is dropped first is what is needed least.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sparc.analyze.browse.gather.choice import Choice
from sparc.common.text import amount, listed

Integers = npt.NDArray[np.int64]

STRONGEST = 4
"""Of the strongest images in each stream, those that a latent needs most."""

TIERS = (
    f"the {STRONGEST} strongest images",
    "further strongest images",
    "images near quantiles",
    "images of joint selection alone",
    "images by value",
)
"""The reasons to show an image, the most needed first."""


_NONE = np.zeros(0, np.int64)


class Wanted(NamedTuple):
    """The images of a latent, each once, those that it needs most first.

    Attributes:
        rows: A row of each image, (n,).
        images: The images' numbers, (n,).
        tiers: How many images there are up to the end of each tier, (tiers,).
    """

    rows: Integers
    images: Integers
    tiers: Integers


class Plan(NamedTuple):
    """How many of its images each latent shows.

    Attributes:
        wanted: By latent, what it wants to show.
        tiles: By latent, the first ones of that.
        dropped: What there is no room for, in words; empty if there is room for all.
    """

    wanted: Mapping[int, Wanted]
    tiles: Mapping[int, int]
    dropped: str


def wanted(
    choice: Choice, of_row: Integers, has_image: Callable[[Integers], npt.NDArray[np.bool_]]
) -> Wanted:
    """What a latent wants to show.

    Args:
        choice: Its rows.
        of_row: The image of every row of the cache, (rows,).
        has_image: Which of some rows have an image to show.
    """
    independent, joint = choice["independent"].values(), choice["joint"].values()
    reasons = [
        [of.top.rows[:STRONGEST] for of in independent],
        [of.top.rows[STRONGEST:] for of in independent],
        [near.rows for of in independent for near in of.quantiles],
        [rows for of in joint for rows in (of.top.rows, *(near.rows for near in of.quantiles))],
        [of_bin.rows for of in independent for of_bin in of.bins],
    ]
    by_reason = [np.concatenate([_NONE, *parts]) for parts in reasons]
    by_reason = [rows[has_image(rows)] for rows in by_reason]
    rows, ends = np.concatenate(by_reason), np.cumsum([len(rows) for rows in by_reason])
    images = of_row[rows]
    first = np.sort(np.unique(images, return_index=True)[1])
    return Wanted(rows[first], images[first], np.searchsorted(first, ends))


def plan(wants: Mapping[int, Wanted], order: Sequence[int], tiles: int) -> Plan:
    """Share out the tiles that there is room for.

    Args:
        wants: By latent, what it wants to show.
        order: These latents, the most interesting ones first.
        tiles: How many there is room for, in all sprite sheets together.
    """
    kept = dict.fromkeys(order, 0)
    room = tiles
    dropped: list[str] = []
    for tier, reason in enumerate(TIERS):
        without = 0
        for latent in order:
            more = int(wants[latent].tiers[tier]) - kept[latent]
            if more <= 0:
                continue
            if room < more or dropped:
                without += 1
                continue
            kept[latent] += more
            room -= more
        if without:
            dropped.append(f"{reason} of {amount(without, 'latent')}")
    return Plan(wants, kept, listed(dropped[::-1]) if dropped else "")
