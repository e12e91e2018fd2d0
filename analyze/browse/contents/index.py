"""The content of `data/index.js`: all that the start page and the list of latents need."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from sparc.analyze.browse.contents.columns import Encoded, Numbers, counts
from sparc.analyze.report.page import Style

VERSION = 1

Mode = Literal["independent", "joint"]

Group = Literal["sharing", "size", "meaning", "stream share", "stability", "joint"]

Kind = Literal["share", "signed", "count", "number", "flag", "text"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AboutReport:
    """What a site's report is about.

    Attributes:
        location: The report's folder.
        run: The run that was analysed.
        cache: The cache that it was analysed on.
        dataset: The dataset that the cache was made from.
        rows: Rows that were analysed.
        images: Images that these show.
        latents: L.
        k: Latents selected for a row.
        classes: Number of classes of the cache; 0 where no row is labelled.
        captions: Whether rows have captions.
        recipe: The run's recipe; None where the run is not at hand.
        versions: Version by package, of the report.
    """

    location: str
    run: str
    cache: str
    dataset: str
    rows: int
    images: int
    latents: int
    k: int
    classes: int
    captions: bool
    recipe: str | None
    versions: Mapping[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stream:
    """A stream of the report.

    Attributes:
        name: Its name.
        modality: What it reads.
        encoder: The spec of its encoder; empty where features came from arrays.
        dim: Width of its features.
    """

    name: str
    modality: str
    encoder: str
    dim: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class ControlFigure:
    """What a headline figure is to be compared with.

    Attributes:
        name: In the words of the summary.
        value: The figure; None where it is undefined.
        low: Lower end of its 95% interval; None where it has none.
        high: The upper end.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Headline:
    """A figure of the report's summary.

    Attributes:
        section: The summary's section.
        text: The figure, in the words of the summary.
        explanation: How figures of the section are read.
        mode: How streams selected; empty where that makes no difference.
        given: Whether the figure is given by construction in part: joint ones are.
        stream: The stream that it is of; None if of several.
        value: The figure; None where it is undefined or was not measured.
        low: Lower end of its 95% interval; None where it has none.
        high: The upper end.
        controls: What it must exceed, or stay below.
        range: The ends of its scale where these are known.
        better: In which direction it is better, where it is in one.
        unit: What is counted; empty where nothing is.
        style: How the figure is written.
        missing: Why it was not measured; None where it was.
    """

    section: str
    text: str
    explanation: str
    mode: str = ""
    given: bool = False
    stream: str | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    controls: tuple[ControlFigure, ...] = ()
    range: tuple[float, float] | None = None
    better: Literal["higher", "lower"] | None = None
    unit: str = ""
    style: Style = "decimal"
    missing: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the list of latents.

    Attributes:
        key: Its name; `SITE.md` lists those that the page knows.
        label: Its heading.
        help: A sentence: what it is, and what it must exceed.
        group: Which columns it stands with.
        stream: The stream that it is of; None if of several.
        mode: How streams selected; None where that makes no difference.
        kind: What its values are.
        chance: The key of the column that is its control.
        shown: Whether the list has it at first.
        data: A value a latent, (L,).
    """

    key: str
    label: str
    help: str
    group: Group
    kind: Kind
    data: Encoded
    stream: str | None = None
    mode: Mode | None = None
    chance: str | None = None
    shown: bool = False


@dataclasses.dataclass(frozen=True)
class Lists:
    """A list of latents for each of some things, one list after the other.

    Attributes:
        starts: Where each list begins, and the end of the last one, (things + 1,).
        latents: Their latents, ascending within a list.
    """

    starts: Numbers
    latents: Numbers


def lists(of_things: Sequence[Sequence[int]]) -> Lists:
    """The latents of each thing, one list after the other."""
    ends = np.cumsum([0, *map(len, of_things)])
    return Lists(counts(ends), counts([latent for of in of_things for latent in of]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Images:
    """The pictures of a site.

    Attributes:
        tile: Width and height of a tile in pixels.
        format: Of the sprite sheets; empty where the site has no pictures.
        dropped: What the budget left no room for; empty if all is there.
    """

    tile: int
    format: str
    dropped: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Views:
    """Which further data files the site has."""

    map: bool = False
    bias: bool = False
    compare: bool = False
    words: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetailFiles:
    """How details are divided into files.

    Attributes:
        latents_per_file: Latent n is in file n // latents_per_file.
    """

    latents_per_file: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Index:
    """The content of `data/index.js`.

    Attributes:
        title: What the page is called.
        command: How this site was made, to copy.
        report: What the report is about.
        streams: Its streams, in the model's order.
        notes: What was left out or approximated, and why.
        headlines: The figures of the summary, in its order.
        columns: Those of the list of latents.
        classes: The classes that some latent goes with.
        class_latents: The latents that go with each of them.
        details: How details are divided into files.
        images: The pictures.
        views: Which further data files there are.
        version: Of the format.
    """

    title: str
    command: str
    report: AboutReport
    streams: tuple[Stream, ...]
    notes: tuple[str, ...]
    headlines: tuple[Headline, ...]
    columns: tuple[Column, ...]
    classes: tuple[str, ...]
    class_latents: Lists
    details: DetailFiles
    images: Images
    views: Views
    version: int = VERSION
