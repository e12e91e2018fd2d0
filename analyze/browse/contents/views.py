"""The content of the files that only some views need: words, map, bias and other reports."""

import dataclasses
from collections.abc import Mapping

from sparc.analyze.browse.contents.columns import Numbers
from sparc.analyze.browse.contents.index import Headline


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
        latents: Which latents, ascending.
        x: From 0 to 1.
        y: Likewise.
    """

    method: str
    latents: Numbers
    x: Numbers
    y: Numbers


@dataclasses.dataclass(frozen=True, kw_only=True)
class Association:
    """A latent that was tested against an attribute, from the table `associations`.

    Attributes:
        stream: The stream.
        latent: The latent.
        name: Its best names.
        effect: Log2 of the odds ratio of being active, with the attribute against without.
        low: Lower end of its 95% interval.
        high: The upper end.
        q: Of the test.
        associated: Whether it is found to go with the attribute, or with its absence.
        images_with: Images with the attribute on which it is active.
        images_without: Images without it on which it is active.
    """

    stream: str
    latent: int
    name: str
    effect: float | None
    low: float | None
    high: float | None
    q: float | None
    associated: bool
    images_with: int
    images_without: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeetingPair:
    """Two latents that meet more often under the attribute, from the table `pairs`."""

    stream: str
    first: int
    first_name: str
    second: int
    second_name: str
    images_with: int
    images_without: int
    interaction: float
    q: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class BiasReport:
    """What goes with an attribute of images.

    Attributes:
        name: What the report is called.
        attribute: The attribute, as it was asked for.
        against: The second attribute; None where images without the first were compared.
        images_with: Images with the attribute.
        images_without: Images that were compared with them.
        note: Which images were compared, and what shuffling gives.
        smallest: The smallest effect that would have been found, by stream.
        associations: Every latent that was tested, the most certain first in each stream.
        pairs: Pairs of them, likewise.
    """

    name: str
    attribute: str
    against: str | None
    images_with: int
    images_without: int
    note: str
    smallest: str
    associations: tuple[Association, ...]
    pairs: tuple[MeetingPair, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BiasReports:
    """`data/bias.js`: reports in the order in which they were asked for."""

    reports: tuple[BiasReport, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Matches:
    """Latents of this report and their partners in another one.

    Attributes:
        match: By latent of this report, the same one of the other report; -1 if it has none.
        similarity: The mean cosine of the decoder rows with the latent's partner, the same or not.
    """

    match: Numbers
    similarity: Numbers


@dataclasses.dataclass(frozen=True, kw_only=True)
class OtherLatent:
    """A latent of the other report.

    Attributes:
        names: By stream, its best names.
    """

    names: Mapping[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Another report beside this one.

    Attributes:
        name: The other report.
        location: Its folder.
        limit: Two latents are the same concept where their cosine exceeds this.
        latents: The partner of each latent.
        headlines: The figures of the other report's summary.
        gained: Latents that are alive in the other report and the same as none here.
        lost: Latents that are alive here and the same as none of the other report.
        details: By number, latents of the other report: partners, and those gained.
        notes: What a reader must know.
    """

    name: str
    location: str
    limit: float
    latents: Matches
    headlines: tuple[Headline, ...]
    gained: tuple[int, ...]
    lost: tuple[int, ...]
    details: Mapping[int, OtherLatent]
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparisons:
    """`data/compare.js`: the other reports, in the order in which they were asked for."""

    reports: tuple[Comparison, ...]
