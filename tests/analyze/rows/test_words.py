import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparc.analyze.rows import words
from sparc.analyze.rows.images import read_images


def read(captions, ids=None, valid=None, chunks=1):
    ids = ids or [str(row) for row in range(len(captions))]
    valid = np.ones(len(captions), bool) if valid is None else np.array(valid, bool)
    images = read_images(pa.chunked_array([ids]), valid)
    parts = [p.tolist() for p in np.array_split(np.array(captions, object), chunks)]
    return words.read_words(pa.chunked_array(parts, pa.string()).chunks, images)


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
    dense = actual.matrix.toarray()
    assert dense.shape == (30, len(expected))
    for image in range(30):
        held = {actual.vocabulary[w] for w in np.flatnonzero(dense[image])}
        assert held == sets.get(image, set()) & set(actual.vocabulary)
    assert set(np.unique(dense)) <= {0, 1}


def test_no_captions_and_no_frequent_word():
    assert read([None, None]) is None
    assert read(["one", "two"]) is None


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
