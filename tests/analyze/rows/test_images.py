import numpy as np
import pyarrow as pa

from sparc.analyze.rows.images import incidence, read_pictures


def test_consecutive_rows_of_one_name_are_one_picture():
    column = pa.chunked_array([["a", "a", "b"], ["b", "c"]])
    pictures = read_pictures(column, np.array([True, False, False, False, True]))
    assert pictures.of_row.tolist() == [0, 0, 1, 1, 2]
    assert pictures.analysed.tolist() == [True, False, True]
    assert len(pictures) == 3


def test_a_picture_is_flagged_if_any_of_its_rows_is():
    column = pa.chunked_array([["a", "a", "b", "c"]])
    pictures = read_pictures(column, np.ones(4, bool))
    assert pictures.any_row(np.array([False, True, False, True])).tolist() == [True, False, True]


def test_one_row():
    assert read_pictures(pa.chunked_array([["a"]]), np.ones(1, bool)).of_row.tolist() == [0]


def test_incidence_counts_a_place_once():
    matrix = incidence(np.array([1, 1, 0]), np.array([2, 2, 0]), (2, 3))
    assert matrix.toarray().tolist() == [[1, 0, 0], [0, 0, 1]]
