import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from sparc.analyze.rows.images import Images, number_images
from sparc.analyze.rows.sample import choose_sample, draw_images, split, split_images


def test_parts_are_disjoint_and_have_their_shares():
    parts = split(101, np.random.default_rng(0))
    assert np.bincount(parts).tolist() == [51, 25, 25]


def test_classes_that_a_part_lacks_are_left_out():
    labels = np.zeros((400, 4), np.int32)
    labels[:, :2] = np.random.default_rng(0).random((400, 2)) < 0.3
    labels[:, 3] = 1
    images = split_images(sparse.csr_matrix(labels), 1)
    assert images.labels.tolist() == (labels[:, :2] > 0).tolist()
    assert split_images(sparse.csr_matrix(labels[:8]), 1).labels.shape == (8, 0)


def test_test_images_are_in_folds_and_others_are_not():
    images = split_images(sparse.csr_matrix(np.eye(400, 5, dtype=np.int32)), 1)
    tested = images.parts == 2
    assert np.bincount(images.folds[tested]).tolist() == [0, *[5] * 20]
    assert not images.folds[~tested].any()


def test_drawn_images_give_their_first_flagged_rows():
    images = Images(np.repeat(np.arange(50), 2), np.ones(50, bool))
    flags = np.arange(100) % 4 != 0  # of every other image the second row only
    rows = draw_images(images, flags, 20, 3)
    assert len(rows) == 20
    assert (np.diff(rows) > 0).all()
    assert set(rows.tolist()) < set(images.first_rows(flags).tolist())
    assert draw_images(images, flags, 100, 3).tolist() == images.first_rows(flags).tolist()
    assert draw_images(images, flags, 20, 4).tolist() != rows.tolist()


def sample_of(ids, valid=None, size=10**6, seed=0):
    column = pa.chunked_array([pa.array(ids, pa.string())])
    valid = np.ones(len(ids), bool) if valid is None else np.array(valid, bool)
    return choose_sample(number_images(column.chunks, valid), valid, size, seed)


def test_a_sample_holds_whole_images_and_is_seeded():
    ids = [f"p{i // 3}" for i in range(300)]
    sample = sample_of(ids, size=50)
    assert len(sample.rows) == 48
    assert set(np.bincount(sample.images)) == {3}
    assert (np.diff(sample.rows) > 0).all()
    assert sample_of(ids, size=50).rows.tolist() == sample.rows.tolist()
    assert sample_of(ids, size=50, seed=1).rows.tolist() != sample.rows.tolist()
    assert len(sample_of(ids).rows) == 300
    assert len(sample_of(ids, size=1).rows) == 3


def test_rows_that_are_not_analysed_are_not_sampled():
    sample = sample_of(["a", "a", "b", "c"], valid=[1, 0, 0, 1])
    assert sample.rows.tolist() == [0, 3]
    assert sample.images.tolist() == [0, 1]


def test_candidates_are_distinct_images_and_all_captions():
    sample = sample_of(["a", "a", "b", "c", "c", "c"])
    assert sample.stand_ins("image").tolist() == [0, 2, 3]
    assert sample.stand_ins("text").tolist() == [0, 1, 2, 3, 4, 5]


@given(
    seed=st.integers(0, 10_000),
    source=st.sampled_from(["image", "text"]),
    target=st.sampled_from(["image", "text"]),
)
def test_relevant_candidates_are_those_of_plain_loops(seed, source, target):
    """Up to three captions per image, of few distinct texts; some are null."""
    generator = np.random.default_rng(seed)
    ids = np.repeat(np.arange(6), generator.integers(1, 4, 6))
    captions = generator.choice(["cat", "dog", "owl", "a cat", None], len(ids)).tolist()
    sample = sample_of([f"p{i}" for i in ids]).with_captions(pa.array(captions, pa.string()))

    def shows(row, modality):
        """The images that a row is relevant to."""
        alike = [r for r in range(len(ids)) if captions[r] and captions[r] == captions[row]]
        return {ids[row]} | ({ids[r] for r in alike} if modality == "text" else set())

    expected = [
        [bool(shows(q, source) & shows(c, target)) for c in sample.stand_ins(target)]
        for q in sample.stand_ins(source)
    ]
    assert (sample.relevant(source, target).toarray() > 0).tolist() == expected


@pytest.mark.timeout(60)
def test_one_caption_of_all_images_takes_no_time():
    sample = sample_of([f"p{i}" for i in range(3000)]).with_captions(pa.array(["owl"] * 3000))
    assert sample.relevant("text", "text").nnz == 3000**2
    assert sample.relevant("image", "text").nnz == 3000**2
