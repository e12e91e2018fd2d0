import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparc.common.cache import tables
from sparc.common.errors import DatasetError
from sparc.extract.datasets.base import DatasetOptions
from sparc.extract.datasets.manifest import build_manifest, caption_rows, choose_records
from sparc.extract.datasets.source import ImageRecord, Source


def images(ids):
    return [ImageRecord(sample_id, f"{sample_id}.png") for sample_id in ids]


def part(ids, split, fraction):
    options = DatasetOptions(split=split, holdout=fraction)
    try:
        return {p.sample_id for p in choose_records(images(ids), options, "data")}
    except DatasetError:
        return set()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.text(min_size=1), unique=True, min_size=1),
    st.lists(st.text(min_size=1), unique=True),
    st.floats(0.01, 0.99),
)
def test_holdout_is_disjoint_whole_and_stable(ids, more, fraction):
    train, test = part(ids, "train", fraction), part(ids, "test", fraction)
    assert not train & test
    assert train | test == set(ids)
    # What is added later moves nothing, and neither does another order.
    grown = sorted({*ids, *more})
    assert part(grown, "train", fraction) >= train
    assert part(grown, "test", fraction) >= test
    # A larger part holds a smaller one.
    assert part(ids, "test", min(0.99, fraction * 1.5)) >= test


def test_holdout_takes_about_the_fraction():
    held = part([str(n) for n in range(4000)], "test", 0.2)
    assert 700 < len(held) < 900


def test_limit_counts_images_of_the_part():
    options = DatasetOptions(split="train", holdout=0.5, limit=3)
    chosen = choose_records(images("abcdefghijkl"), options, "data")
    rest = DatasetOptions(split="train", holdout=0.5)
    assert chosen == choose_records(images("abcdefghijkl"), rest, "data")[:3]
    assert len(chosen) == 3


@given(st.lists(st.text()))
def test_caption_rows(texts):
    wanted = [text.strip() for text in texts if text.strip()]
    each, first, join = (caption_rows(texts, how) for how in ("each", "first", "join"))
    assert [row.text for row in each] == (wanted or [None])
    assert first == [each[0]._replace(sources=first[0].sources)]
    assert [row.text for row in join] == ([" ".join(wanted)] if wanted else [None])
    for row in each if wanted else ():
        assert [texts[number].strip() for number in row.sources] == [row.text]


def test_rows_of_an_image_are_consecutive_and_alike():
    records = [
        ImageRecord("b", "b.png", ["one", " ", "two"], ["dog", "cat", "dog"]),
        ImageRecord("a", "a.png"),
    ]
    source = Source(records=records)
    manifest = build_manifest("data", source, DatasetOptions())
    assert manifest.rows.schema == tables.ROWS
    assert manifest.classes.schema == tables.CLASSES
    assert manifest.masks is None
    assert manifest.rows.to_pylist() == [
        {"row": 0, "sample_id": "b", "image": "b.png", "caption": "one", "label_ids": [0, 1]},
        {"row": 1, "sample_id": "b", "image": "b.png", "caption": "two", "label_ids": [0, 1]},
        {"row": 2, "sample_id": "a", "image": "a.png", "caption": None, "label_ids": []},
    ]


def test_ids_are_unique():
    source = Source(records=images("aba"))
    with pytest.raises(DatasetError, match="two images have the id 'a'"):
        build_manifest("data", source, DatasetOptions())
