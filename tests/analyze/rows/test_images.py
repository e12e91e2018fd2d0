import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sparc.analyze.rows import images
from sparc.analyze.rows.images import incidence, number_images
from sparc.common.cache.arrays import write_arrays


def test_consecutive_rows_of_one_name_are_one_image():
    column = pa.chunked_array([["a", "a", "b"], ["b", "c"]])
    numbered = number_images(column.chunks, np.array([True, False, False, False, True]))
    assert numbered.of_row.tolist() == [0, 0, 1, 1, 2]
    assert numbered.analysed.tolist() == [True, False, True]
    assert len(numbered) == 3


def test_an_image_is_flagged_if_any_of_its_rows_is():
    column = pa.chunked_array([["a", "a", "b", "c"]])
    numbered = number_images(column.chunks, np.ones(4, bool))
    assert numbered.any_row(np.array([False, True, False, True])).tolist() == [True, False, True]


def test_one_row():
    assert number_images(pa.chunked_array([["a"]]).chunks, np.ones(1, bool)).of_row.tolist() == [0]


def test_images_and_their_parts_do_not_depend_on_the_batches(monkeypatch, tmp_path):
    """Samples of one image, and rows of one sample, lie across the ends of batches."""
    names = [f"{row // 3}" for row in range(30)]
    files = [f"{row // 6}.png" for row in range(30)]
    cache = write_arrays(
        tmp_path / "cache", {"a": np.repeat(np.eye(5), 6, axis=0)}, sample_ids=names
    )
    table = pq.read_table(tmp_path / "cache/rows.parquet")
    place = table.column_names.index("image")
    table = table.set_column(place, table.schema.field("image"), pa.array(files, pa.string()))
    pq.write_table(table, tmp_path / "cache/rows.parquet")
    for size in (1, 4, 7, 100):
        monkeypatch.setattr(images, "_BATCH", size)
        numbered = images.read_images(cache, np.ones(30, bool))
        assert numbered.of_row.tolist() == [row // 3 for row in range(30)]
        assert images.count_parts(cache) == 5  # the second sample of each image


def test_ranks_are_those_of_sorted_numbers():
    numbers = np.array([5, 0, 2, 2, 9, 0])
    assert images.ranks(numbers).tolist() == [2, 0, 1, 1, 3, 0]
    assert images.ranks(numbers[:1]).tolist() == [0]


def test_incidence_counts_a_place_once():
    matrix = incidence(np.array([1, 1, 0]), np.array([2, 2, 0]), (2, 3))
    assert matrix.toarray().tolist() == [[1, 0, 0], [0, 0, 1]]
