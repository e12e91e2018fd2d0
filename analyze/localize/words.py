"""How much each word of a caption contributes to an objective.

A word's weight is what the objective loses when the word is left out of the caption (occlusion). It
works with every text encoder and tokenizer, and for whole words. It names the right word where
gradients at the word embeddings mostly do not.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from sparc.analyze.localize.targets import Objective
from sparc.extract.encoders.encoder import TextEncoder

CAPTIONS_AT_ONCE = 64


class WordWeight(NamedTuple):
    """A word of a caption; a weight above 0 speaks for the query, below 0 against it."""

    word: str
    weight: float


def word_weights(encoder: TextEncoder, caption: str, objective: Objective) -> list[WordWeight]:
    """Weigh the words of a caption.

    Args:
        encoder: The text stream's.
        caption: Words are what white space separates.
        objective: The objective of the query in that stream.

    Returns:
        The words in their order. A word beyond the encoder's context weighs nothing.
    """
    words = caption.split()
    shortened = (" ".join(words[:i] + words[i + 1 :]) for i in range(len(words)))
    scores = _scores(encoder, [caption, *shortened], objective)
    whole, *without = scores
    return [WordWeight(word, whole - left) for word, left in zip(words, without, strict=True)]


def _scores(encoder: TextEncoder, captions: Sequence[str], objective: Objective) -> list[float]:
    values: list[float] = []
    for start in range(0, len(captions), CAPTIONS_AT_ONCE):
        features = encoder.encode(captions[start : start + CAPTIONS_AT_ONCE]).features
        with torch.no_grad():
            values += objective(features).tolist()
    return values
