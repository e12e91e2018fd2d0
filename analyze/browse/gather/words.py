"""The words that lead to latents: of their names, their classes and the captions of their rows."""

import numpy as np
import pyarrow as pa

from sparc.analyze.browse.contents.index import lists
from sparc.analyze.browse.contents.views import Words
from sparc.analyze.browse.gather.gathered import Gathered
from sparc.analyze.rows.words import split_words

LEAST_CAPTIONS = 2
"""Captions of a latent's strongest images in a stream that have a word, at least."""

WIDEST = 40
"""Characters of a word; longer ones are left out."""


def index_words(gathered: Gathered) -> Words:
    """The latents of each word, all lower case.

    A word leads to a latent if it names it in any stream, is in the name of a class that the latent
    goes with, or is in two captions or more of its strongest images in a stream.
    """
    latents: dict[str, set[int]] = {}

    def add(word: str, latent: int) -> None:
        if 1 < len(word) <= WIDEST:
            latents.setdefault(word, set()).add(latent)

    for (mode, _), named in gathered.tables.names.items():
        for latent, names in named.items() if mode == "independent" else ():
            for name in names:
                add(name.word, latent)
    classes, of_classes = gathered.class_latents
    for words, of_class in zip(
        split_words(pa.array(classes, pa.string())).to_pylist(), of_classes, strict=True
    ):
        for word in words:
            for latent in of_class:
                add(word, latent)
    vocabulary, matrix = gathered.shown.words
    for latent, choice in gathered.choices():
        for of_stream in choice["independent"].values():
            captions = matrix[gathered.shown.places(of_stream.top.rows)]
            held, times = np.unique(captions.indices, return_counts=True)
            for word in held[times >= LEAST_CAPTIONS].tolist():
                add(vocabulary[word], latent)
    every = sorted(latents)
    starts_and_latents = lists([sorted(latents[word]) for word in every])
    return Words(
        words=tuple(every),
        starts=starts_and_latents.starts,
        latents=starts_and_latents.latents,
    )
