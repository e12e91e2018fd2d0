import torch

from sparc.analyze.localize.words import word_weights
from sparc.extract.encoders.encoder import EncodedTexts


class CountingEncoder:
    """A feature counts cats and letters."""

    dim = 2

    def encode(self, captions):
        rows = [[caption.split().count("cat"), len(caption)] for caption in captions]
        return EncodedTexts(torch.tensor(rows, dtype=torch.float32).reshape(-1, 2), 0)


def test_a_word_weighs_what_is_lost_without_it():
    actual = word_weights(CountingEncoder(), "a cat  sees\na cat", lambda features: features[:, 0])
    assert actual == [("a", 0), ("cat", 1), ("sees", 0), ("a", 0), ("cat", 1)]


def test_a_caption_of_many_words_goes_in_batches():
    caption = " ".join(["dog"] * 150 + ["cat"])
    actual = word_weights(CountingEncoder(), caption, lambda features: features[:, 0])
    assert [weight for _, weight in actual] == [0] * 150 + [1]


def test_no_words_weigh_nothing():
    assert word_weights(CountingEncoder(), " ", lambda features: features[:, 0]) == []
