"""Search by text in a stream of images: how many of the first images hold what the text names."""

import itertools
import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sparc.analyze.report.folder import Report
from sparc.analyze.search.searcher import Searcher
from sparc.pipelines.demo.annotations import objects_by_image

WORDS = 30
"""Objects that are searched for: the most frequent ones."""
PAIRS = 40
"""Pairs of these objects, drawn at random."""
RESULTS = 5
"""Images of each search that are looked at."""


class Hits(NamedTuple):
    """Share of images that hold one of the objects that a text names, means over texts."""

    first: float
    """Of the first images of each search."""
    all: float
    """Of all images, which is chance."""


class Searches(NamedTuple):
    """What searches in a stream find."""

    single: Hits
    """By texts that name an object, such as "a tiger"."""
    pair: Hits
    """By texts that name two, such as "a tiger and a piano"."""


def search_by_text(report: Report, scenes: Path) -> Mapping[str, Searches]:
    """Search held-out scenes by texts, with the encoder of the stream that reads them.

    Args:
        report: A finished report of a model.
        scenes: The folder of the dataset.

    Returns:
        By stream of images; empty where not exactly one stream reads texts.
    """
    streams = report.info.streams
    reader = Searcher(report, streams[0], trust_encoders=True)
    modalities = {name: reader.cache.streams[name].modality for name in streams}
    if list(modalities.values()).count("text") != 1:
        return {}
    objects = objects_by_image(scenes)
    singles, pairs = _wanted(objects.values())
    encoder = reader.encoder("text")
    queries = {
        wanted: encoder.texts([" and ".join(f"a {name}" for name in wanted)])
        for wanted in (*singles, *pairs)
    }

    def hits(searcher: Searcher, texts: Sequence[tuple[str, ...]]) -> Hits:
        first, chance = 0.0, 0.0
        for wanted in texts:
            matches = searcher.find(queries[wanted], results=RESULTS)["image"].to_pylist()
            first += _holding(wanted, (objects[Path(image).name] for image in matches)) / RESULTS
            chance += _holding(wanted, objects.values()) / len(objects)
        return Hits(first / len(texts), chance / len(texts))

    images = (s for s in streams if modalities[s] == "image")
    searchers = {s: reader if s == streams[0] else Searcher(report, s) for s in images}
    return {
        s: Searches(hits(opened, singles), hits(opened, pairs)) for s, opened in searchers.items()
    }


def _wanted(
    objects: Collection[Collection[str]],
) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """The most frequent objects, one at a time, and some pairs of them."""
    counts = Counter(itertools.chain.from_iterable(map(sorted, objects)))
    names = [name for name, _ in counts.most_common(WORDS)]
    pairs = list(itertools.combinations(names, 2))
    chosen = random.Random(0).sample(pairs, min(PAIRS, len(pairs)))
    return [(name,) for name in names], list(chosen)


def _holding(wanted: Collection[str], objects: Iterable[frozenset[str]]) -> int:
    """How many images hold one of some objects."""
    return sum(not held.isdisjoint(wanted) for held in objects)
