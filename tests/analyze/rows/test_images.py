import numpy as np
import pyarrow as pa

from sparc.analyze.rows.images import incidence, read_images


def test_consecutive_rows_of_one_name_are_one_image():
    column = pa.chunked_array([["a", "a", "b"], ["b", "c"]])
    images = read_images(column, np.array([True, False, False, False, True]))
    assert images.of_row.tolist() == [0, 0, 1, 1, 2]
    assert images.analysed.tolist() == [True, False, True]
    assert len(images) == 3


def test_an_image_is_flagged_if_any_of_its_rows_is():
    column = pa.chunked_array([["a", "a", "b", "c"]])
    images = read_images(column, np.ones(4, bool))
    assert images.any_row(np.array([False, True, False, True])).tolist() == [True, False, True]


def test_one_row():
    assert read_images(pa.chunked_array([["a"]]), np.ones(1, bool)).of_row.tolist() == [0]


def test_incidence_counts_a_place_once():
    matrix = incidence(np.array([1, 1, 0]), np.array([2, 2, 0]), (2, 3))
    assert matrix.toarray().tolist() == [[1, 0, 0], [0, 0, 1]]
