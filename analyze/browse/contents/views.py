"""The content of the files that only some views need: words and the map."""

import dataclasses

from sparc.analyze.browse.contents.columns import Numbers


@dataclasses.dataclass(frozen=True, kw_only=True)
class Words:
    """`data/words.js`: the latents that each word of names, classes and captions leads to.

    Attributes:
        words: The words, sorted by code point.
        starts: Where the latents of each word begin, and the end of the last, (words + 1,).
        latents: The latents, ascending for each word.
    """

    words: tuple[str, ...]
    starts: Numbers
    latents: Numbers


@dataclasses.dataclass(frozen=True, kw_only=True)
class Map:
    """`data/map.js`: latents in the plane.

    Attributes:
        method: How they were placed, in words.
        stream: The stream whose decoder rows they are; empty if of all.
        latents: Which latents, ascending.
        x: From 0 to 1.
        y: Likewise.
    """

    method: str
    stream: str
    latents: Numbers
    x: Numbers
    y: Numbers
