"""How much each word of a caption has to do with what is looked for.

A word's weight is what the objective loses when the word is left out of the caption. This needs
nothing of an encoder but that it reads text, so it holds for every tower and tokenizer, and whole
words are left out, so that nothing has to be put together from tokens. It names the right word
where gradients at the word embeddings mostly do not.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from sparc.analyze.localize.targets import Objective
from sparc.extract.encoders.encoder import TextEncoder

CAPTIONS_AT_ONCE = 64


class WordWeight(NamedTuple):
    """A word of a caption; a weight above 0 speaks for what is looked for, below 0 against it."""

    word: str
    weight: float


def word_weights(encoder: TextEncoder, caption: str, objective: Objective) -> list[WordWeight]:
    """Weigh the words of a caption.

    Args:
        encoder: The text stream's.
        caption: Words are what white space separates.
        objective: What is looked for, in that stream.

    Returns:
        The words in their order. A word beyond the encoder's context weighs nothing.
    """
    words = caption.split()
    shortened = (" ".join(words[:i] + words[i + 1 :]) for i in range(len(words)))
    scores = _scores(encoder, [caption, *shortened], objective)
    whole, *without = scores
    return [WordWeight(word, whole - one) for word, one in zip(words, without, strict=True)]


def _scores(encoder: TextEncoder, captions: Sequence[str], objective: Objective) -> list[float]:
    found: list[float] = []
    for start in range(0, len(captions), CAPTIONS_AT_ONCE):
        features = encoder.encode(captions[start : start + CAPTIONS_AT_ONCE]).features
        with torch.no_grad():
            found += objective(features).tolist()
    return found
