"""What grows with the rows is small where it is sent to workers, and the same there."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparc.analyze.bias.attribute import Attribute
from sparc.analyze.bias.counting import BiasInputs
from sparc.analyze.codes.permutation import Permutation
from sparc.analyze.maths.packing import RowFlags, pack
from sparc.analyze.rows.folds import assign_folds
from sparc.analyze.rows.images import Images
from sparc.analyze.rows.labels import read_labels

ROWS = 200_000


@given(st.lists(st.integers(0, 2**40)), st.sampled_from(["int64", "uint8", "int32", "bool"]))
def test_an_array_is_the_same_again(numbers, dtype):
    array = np.array([n % (2 if dtype == "bool" else 200) for n in numbers], dtype)
    if dtype == "int64":
        array = np.array(numbers, dtype)
    again = pack(array).array
    assert again.dtype == array.dtype
    assert again.tolist() == array.tolist()


@pytest.fixture(scope="module")
def images():
    draws = np.random.default_rng(0)
    of_row = np.repeat(np.arange(ROWS), draws.integers(1, 6, ROWS))[:ROWS]
    return Images(of_row, draws.random(of_row[-1] + 1) < 0.9)


def sent(value):
    content = pickle.dumps(value)
    return len(content), pickle.loads(content)


def test_images_and_folds(images):
    size, again = sent(images)
    assert again.of_row.tolist() == images.of_row.tolist()
    assert again.analysed.tolist() == images.analysed.tolist()
    assert size < 0.5 * ROWS  # in place of 8 bytes a row
    folds = assign_folds(images, 1)
    size, again = sent(folds)
    assert again.of_row.tolist() == folds.of_row.tolist()
    assert again[1:] == folds[1:]
    assert size < 0.2 * ROWS


def test_a_permutation_is_kept_by_a_worker(images):
    sizes = np.bincount(images.of_row).astype(np.int32)
    counts = tuple(np.full(ROWS // 1000, 1000).tolist())
    order = Permutation(counts=counts, sizes=sizes, block_rows=5000, seed=1)
    size, again = sent(order)
    assert size < 0.5 * ROWS
    assert again.blocks == order.blocks
    assert (again._donors(1) == order._donors(1)).all()
    assert sent(order)[1] is again  # what it has derived need not be derived for the next pass


def test_what_bias_sends(images):
    draws = np.random.default_rng(1)
    held, shuffled = draws.random((2, len(images))) < 0.1
    strata = draws.integers(0, 4, len(images))
    attribute = Attribute("it", held, held | True)
    inputs = BiasInputs(
        None, images, attribute, shuffled, strata, 4, 3, np.arange(5), (np.ones((2, 2), int),)
    )
    size, again = sent(inputs)
    assert size < 1.5 * ROWS
    assert again.attribute.held.tolist() == held.tolist()
    assert again.shuffled.tolist() == shuffled.tolist()
    assert again.strata.tolist() == strata.tolist()
    assert (again.number, again.examples, again.chosen.tolist()) == (4, 3, [0, 1, 2, 3, 4])
    size, again = sent(RowFlags(held))
    assert again.flags.tolist() == held.tolist()
    assert size < 0.1 * ROWS


def test_labels_are_read_where_they_are_needed(make_cache, tmp_path):
    labels = read_labels(make_cache(tmp_path / "cache"))
    size, again = sent(labels)
    assert size < 1000
    assert (again.matrix != labels.matrix).nnz == 0
    assert again.class_ids.tolist() == labels.class_ids.tolist()
