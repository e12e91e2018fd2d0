"""What latents are called in each stream: words of captions, or else their most frequent class."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow.compute as pc

from sparc.analyze.report.folder import Report
from sparc.common.cache.reader import ActivationCache

GUESS = 5
"""A name that fewer images support is shown as a guess."""

Place = tuple[str, int]
"""A stream and a latent."""


class Name(NamedTuple):
    """A word that names a latent.

    Attributes:
        word: The word.
        images: How many of the latent's strongest images have it in a caption.
        of: How many strongest images the latent has.
    """

    word: str
    images: int
    of: int

    @property
    def guess(self) -> bool:
        """Whether few images support it."""
        return self.images < GUESS

    def __str__(self) -> str:
        return f"{self.word}?" if self.guess else self.word


class MostFrequentClass(NamedTuple):
    """The class that most labelled rows of a latent carry.

    Attributes:
        name: The class.
        share: The share of the latent's labelled rows that carry it.
    """

    name: str
    share: float


def guesses(called: Mapping[Place, Sequence[Name]]) -> frozenset[tuple[str, int, str]]:
    """Of names, those that are guesses: stream, latent and word."""
    return frozenset(
        (*place, name.word) for place, words in called.items() for name in words if name.guess
    )


def names(report: Report, mode: str = "independent") -> Mapping[Place, tuple[Name, ...]]:
    """The names of latents in a mode, the best first; none without captions."""
    if "naming" not in report.tables:
        return {}
    table = report.table("naming").filter(pc.field("mode") == mode)
    columns = ("stream", "latent", "rank", "word", "images_both", "images_latent")
    result: dict[Place, list[Name]] = {}
    rows = zip(*(table[column].to_pylist() for column in columns), strict=True)
    for stream, latent, _, word, both, of in sorted(rows, key=lambda row: row[2]):
        result.setdefault((stream, latent), []).append(Name(word, both, of))
    return {place: tuple(of_latent) for place, of_latent in result.items()}


def most_frequent_classes(
    report: Report, cache: ActivationCache
) -> Mapping[Place, MostFrequentClass]:
    """The most frequent class of each latent, over all its rows; none without labels."""
    if "purity" not in report.tables:
        return {}
    table = report.table("purity")
    deepest = pc.max(table["depth"]).as_py()
    wanted = (
        (pc.field("mode") == "independent")
        & (pc.field("restriction") == "all_rows")
        & (pc.field("depth") == deepest)
        & pc.field("class_id").is_valid()
    )
    rows = table.filter(wanted).to_pylist()
    called = cache.classes()["name"].to_pylist()
    return {
        (row["stream"], row["latent"]): MostFrequentClass(called[row["class_id"]], row["purity"])
        for row in rows
    }


def monosemanticity(report: Report) -> Mapping[Place, float]:
    """How much more alike the images of each latent are than any two, in its stream's features.

    The score of `monosemanticity.parquet` of the stream itself, less `any_two`.
    """
    if "monosemanticity" not in report.tables:
        return {}
    own = (pc.field("mode") == "independent") & (pc.field("stream") == pc.field("reference"))
    means = report.table("monosemanticity_means")
    means = means.filter(own & (pc.field("control") == "trained"))
    any_two = dict(zip(means["stream"].to_pylist(), means["any_two"].to_pylist(), strict=True))
    table = report.table("monosemanticity").filter(own & pc.field("score").is_valid())
    columns = (table[name].to_pylist() for name in ("stream", "latent", "score"))
    return {
        (stream, latent): score - any_two[stream]
        for stream, latent, score in zip(*columns, strict=True)
        if any_two.get(stream) is not None
    }
