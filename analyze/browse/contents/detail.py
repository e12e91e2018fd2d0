"""The content of `data/latents/N.js`: all that the page of a latent shows."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple


class Example(NamedTuple):
    """A row that shows what a latent is active on, written as a list of two.

    Attributes:
        place: Where it stands in the latent's `rows`.
        value: The latent's value on it.
    """

    place: int
    value: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShownRow:
    """A row of the cache, as shown on the page of a latent.

    Attributes:
        row: Its number.
        sample: The sample that it is of.
        image: The image's name in the dataset; None if the row has none.
        caption: Its caption; None if it has none.
        classes: Classes that it carries.
        tile: Where its picture lies on the latent's sprite sheet; -1 if nowhere.
    """

    row: int
    sample: str
    image: str | None
    caption: str | None
    classes: tuple[str, ...]
    tile: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sprite:
    """A latent's sprite sheet.

    Attributes:
        columns: Tiles in a line.
        tiles: Tiles in all.
    """

    columns: int
    tiles: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Name:
    """A word that names a latent, from `naming.parquet`.

    Attributes:
        word: The word.
        images: How many of the latent's strongest images have it in a caption.
        of: How many strongest images there are.
        lift: The share of them, by the share of all images that have the word.
        q: Of the test that this is no accident.
        guess: Whether few images support it.
    """

    word: str
    images: int
    of: int
    lift: float | None
    q: float | None
    guess: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassShare:
    """A class of a latent's labelled rows.

    Attributes:
        name: The class.
        rows: How many of these rows carry it.
        share: The share of them.
        base: The share of all labelled rows.
    """

    name: str
    rows: int
    share: float
    base: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Purity:
    """The class that most of a latent's labelled rows carry, from `purity.parquet`.

    Attributes:
        name: The class, at the deepest level.
        share: The purity.
        base: The share of all labelled rows that carry it.
        lift: The one by the other.
    """

    name: str
    share: float
    base: float
    lift: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Histogram:
    """The values of a latent on the rows on which it is active.

    Attributes:
        edges: Of the bins, from 0 to the largest value, one more than there are bins.
        counts: Rows in each bin; a bin has its lower edge, the last one both.
        examples: By bin; none at all in joint mode.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    examples: tuple[tuple[Example, ...], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantile:
    """Images near a quantile of the values on the latent's images.

    Attributes:
        at: Which quantile, from 0 to 1.
        examples: The images, each by its strongest row.
    """

    at: float
    examples: tuple[Example, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class InStream:
    """A latent in a stream, in one mode.

    Attributes:
        rows: Rows on which it is active.
        images: Images on which it is active by any row, as `show` counts them; None in joint mode.
        frequency: Share of all rows.
        mean: Mean value on its rows; None if it has none.
        largest: The largest value.
        names: The best first.
        classes: Those first whose share exceeds the base rate most.
        monosemanticity: How much more alike its images are than any two; None if unknown.
        purity: None without labelled rows.
        histogram: None if it is dead.
        top: Its strongest images, the strongest first, each by its strongest row.
        quantiles: Further ones, from high to low.
    """

    rows: int
    images: int | None
    frequency: float
    mean: float | None
    largest: float | None
    names: tuple[Name, ...]
    classes: tuple[ClassShare, ...]
    monosemanticity: float | None
    purity: Purity | None
    histogram: Histogram | None
    top: tuple[Example, ...]
    quantiles: tuple[Quantile, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """A latent in two streams; the fields are those of `sparc.analyze.show.view.InPair`."""

    first: str
    second: str
    images_both: int
    overlap: float | None
    overlap_mispaired: float | None
    agreement: float | None
    agreement_mispaired: float | None
    q: float
    shared: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nearest:
    """What another stream has for it; the fields are those of `sparc.analyze.show.view.Nearest`."""

    stream: str
    other: str
    latent: int | None
    overlap: float
    limit: float | None
    lacking: bool
    name: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cofiring:
    """Another latent of a stream that is active on the same images, from `cofiring.parquet`."""

    stream: str
    latent: int
    images_both: int
    lift: float
    phi: float
    q: float
    name: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Neighbour:
    """Another latent of a stream whose decoder row has a similar direction.

    Attributes:
        stream: The stream.
        latent: The other latent.
        cosine: Of the two rows.
        name: Its best names.
    """

    stream: str
    latent: int
    cosine: float
    name: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeatMap:
    """Where in a picture a latent is active.

    Attributes:
        row: Place of the picture's row in the latent's `rows`.
        width: Cells in a line; together they cover the picture's tile.
        height: Lines.
        data: A byte a cell, in base64; 255 is the largest value of the latent in the stream.
        largest: The largest value in the map.
    """

    row: int
    width: int
    height: int
    data: str
    largest: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detail:
    """A latent that is alive.

    Attributes:
        latent: Its number.
        shared: Whether every two streams share it.
        only: The streams that alone have it.
        lacking: The streams that lack it while all others share it.
        thin: Why it cannot be judged; None if it can be.
        modes: By mode and stream, what it is there.
        rows: The rows that are shown of it.
        sprite: Its sprite sheet; None if it has no pictures.
        pairs: What it is in every two streams.
        nearest: What other streams have for it, where it is not shared.
        cofiring: The latents that go with it, the closest first in each stream.
        neighbours: The nearest decoder rows, likewise.
        maps: By stream of images, heat maps of its strongest images; None if none were made.
    """

    latent: int
    shared: bool
    only: tuple[str, ...]
    lacking: tuple[str, ...]
    thin: str | None
    modes: Mapping[str, Mapping[str, InStream]]
    rows: tuple[ShownRow, ...]
    sprite: Sprite | None
    pairs: tuple[Pair, ...]
    nearest: tuple[Nearest, ...]
    cofiring: tuple[Cofiring, ...]
    neighbours: tuple[Neighbour, ...]
    maps: Mapping[str, tuple[HeatMap, ...]] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Details:
    """The content of one file: details by the latent's number."""

    latents: Mapping[int, Detail]
