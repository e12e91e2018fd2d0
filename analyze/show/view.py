"""What there is to say of a latent: the result of `sparc.analyze.show.latent.latent`."""

from typing import NamedTuple

from sparc.analyze.concepts.names import Name


class LatentImage(NamedTuple):
    """An image on which a latent is active.

    Attributes:
        place: Its place among the latent's images, from 1, by descending value.
        value: Of the latent, on its strongest row.
        row: That row of the cache.
        sample_id: As in the cache.
        image: Likewise; None if the row has none.
        caption: Likewise.
    """

    place: int
    value: float
    row: int
    sample_id: str
    image: str | None
    caption: str | None


class ClassShare(NamedTuple):
    """A class that a latent's labelled rows carry more often than others.

    Attributes:
        name: The class.
        rows: How many of the latent's labelled rows carry it.
        share: The share of them.
        base_rate: The share of all labelled rows.
    """

    name: str
    rows: int
    share: float
    base_rate: float


class InStream(NamedTuple):
    """A latent in one stream.

    Attributes:
        stream: The stream.
        rows: Rows on which it is active.
        frequency: The share of all rows.
        images: Images on which it is active, each by any of its rows.
        names: Its names, the best first.
        classes: Its classes, those first whose share exceeds the base rate most.
        labelled: Labelled rows on which it is active.
        monosemanticity: By how much its images are more alike than any two, in the stream's
            features; None where unknown.
        strongest: Its images, the strongest first.
        quantiles: Further ones, at `QUANTILES`.
    """

    stream: str
    rows: int
    frequency: float
    images: int
    names: tuple[Name, ...]
    classes: tuple[ClassShare, ...]
    labelled: int
    monosemanticity: float | None
    strongest: tuple[LatentImage, ...]
    quantiles: tuple[LatentImage, ...]

    @property
    def shown(self) -> tuple[LatentImage, ...]:
        """All images that are shown of it."""
        return self.strongest + self.quantiles


class InPair(NamedTuple):
    """A latent in two streams; figures are None where they are not defined.

    Attributes:
        first: One stream.
        second: The other.
        images_both: Images on which it is active in both, each by its first row.
        overlap: Jaccard of the images on which it is active.
        overlap_mispaired: Its chance.
        agreement: Of the classes of its rows.
        agreement_mispaired: Its chance.
        q: Of the test that the images have more in common than by accident; 1 if not tested.
        shared: Whether both streams share it.
    """

    first: str
    second: str
    images_both: int
    overlap: float | None
    overlap_mispaired: float | None
    agreement: float | None
    agreement_mispaired: float | None
    q: float
    shared: bool


class Nearest(NamedTuple):
    """What another stream has for a latent of a stream.

    Attributes:
        stream: The latent's stream.
        other: The other one.
        latent: Its latent with the largest overlap; None if none has any.
        overlap: That overlap.
        limit: What it must exceed; None where nothing can be said.
        lacking: Whether the other stream lacks it.
    """

    stream: str
    other: str
    latent: int | None
    overlap: float
    limit: float | None
    lacking: bool


class Partner(NamedTuple):
    """Another latent that is active on the same images more often than by chance.

    Attributes:
        stream: The stream of both.
        latent: The partner.
        names: Its names.
        images_both: Images on which both are active.
        lift: How much more often than by chance.
        phi: The correlation.
    """

    stream: str
    latent: int
    names: tuple[Name, ...]
    images_both: int
    lift: float
    phi: float


class Latent(NamedTuple):
    """A latent.

    Attributes:
        number: Its number.
        images: Images of the report.
        shared: Whether every two streams share it.
        only: The streams that alone have it.
        lacking: The streams that lack it while all others share it.
        streams: What it is in each stream.
        pairs: What it is in every two streams.
        nearest: What other streams have for it, where it is not shared.
        partners: The latents that go with it in its stream, the closest first.
    """

    number: int
    images: int
    shared: bool
    only: tuple[str, ...]
    lacking: tuple[str, ...]
    streams: tuple[InStream, ...]
    pairs: tuple[InPair, ...]
    nearest: tuple[Nearest, ...]
    partners: tuple[Partner, ...]
