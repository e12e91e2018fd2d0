import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparc.analyze.rows import words
from sparc.analyze.rows.images import number_images


def read(captions, ids=None, valid=None, chunks=1):
    ids = ids or [str(row) for row in range(len(captions))]
    valid = np.ones(len(captions), bool) if valid is None else np.array(valid, bool)
    images = number_images(pa.chunked_array([ids]).chunks, valid)
    parts = [p.tolist() for p in np.array_split(np.array(captions, object), chunks)]
    read_again = lambda: pa.chunked_array(parts, pa.string()).chunks  # noqa: E731
    return words.CaptionWords(read_again, images)


@given(seed=st.integers(0, 10_000), chunks=st.integers(1, 4))
def test_words_are_those_of_plain_loops(seed, chunks):
    generator = np.random.default_rng(seed)
    some = ["a Red  apple", "red, RED!", "the dog's bone", "Übergröße café", "2 dogs", "", None]
    captions = [some[i] for i in generator.integers(0, len(some), 60)]
    ids = [f"p{row // 2}" for row in range(60)]
    valid = generator.random(60) < 0.8
    actual = read(captions, ids, valid, chunks)
    sets = {}
    for row, (name, caption) in enumerate(zip(ids, captions, strict=True)):
        if name in {n for n, v in zip(ids, valid, strict=True) if v}:
            sets.setdefault(row // 2, set()).update(
                w for w in re.findall(r"[^\W_]+", (caption or "").lower()) if len(w.encode()) > 1
            )
    counts = {}
    for each in sets.values():
        for word in each:
            counts[word] = counts.get(word, 0) + 1
    expected = sorted((-n, word) for word, n in counts.items() if n >= 5)
    assert actual.vocabulary == tuple(word for _, word in expected)
    chosen = np.flatnonzero(generator.random(30) < 0.7)
    stratum = generator.integers(0, 3, 30)
    of_chosen = actual.of(chosen, stratum)
    dense = of_chosen.matrix.toarray()
    assert dense.shape == (len(chosen), len(expected))
    for word, number in enumerate(actual.vocabulary):
        holding = [stratum[image] for image, held in sets.items() if number in held]
        expected_images = np.bincount(holding, minlength=stratum.max() + 1)
        assert of_chosen.images[word].tolist() == expected_images.tolist()
    for line, image in enumerate(chosen):
        held = {actual.vocabulary[w] for w in np.flatnonzero(dense[line])}
        assert held == sets.get(image, set()) & set(actual.vocabulary)
    assert set(np.unique(dense)) <= {0, 1}


def test_no_captions_and_no_frequent_word():
    assert read([None, None]).vocabulary == ()
    assert read(["one", "two"]).vocabulary == ()


def test_the_largest_vocabulary(monkeypatch):
    monkeypatch.setattr(words, "LARGEST_VOCABULARY", 2)
    actual = read(["cat dog"] * 6 + ["cat bird"] * 6 + ["dog"])
    assert actual.vocabulary == ("cat", "dog")


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A woman.", True),
        ("WOMAN", True),
        ("a superwoman", False),
        ("womanly", False),
        ("an old \n lady", True),
        ("older lady", False),
        ("costs $5.0 (net)", True),
        ("costs $5x0 (net)", False),
        ("", False),
        (None, False),
    ],
)
def test_whole_words_ignoring_case(caption, expected):
    column = pa.chunked_array([[caption]], pa.string())
    actual = words.matches(column, ["woman", "old lady", "$5.0 (net)"])
    assert actual.tolist() == [expected]
