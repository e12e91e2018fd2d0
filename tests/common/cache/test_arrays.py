import os

import numpy as np
import pyarrow as pa
import pytest

from sparc.common.cache import tables
from sparc.common.cache.arrays import write_arrays
from sparc.common.cache.verify import verify
from sparc.common.errors import CacheError

VALUES = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float32)


def test_a_cache_in_memory(features) -> None:
    url = f"memory://{os.getpid()}-writer/cache"
    cache = write_arrays(url, features, rows_per_chunk=10)
    assert cache.missing_chunks("image") == []
    np.testing.assert_array_equal(cache.features("text", 2), features["text"][20:])
    assert list(verify(cache)) == []


def test_arrays_must_fit_each_other(tmp_path) -> None:
    with pytest.raises(CacheError, match="stream b has 3 rows, stream a 4"):
        write_arrays(tmp_path / "cache", {"a": VALUES[:4], "b": VALUES[:3]})
    with pytest.raises(CacheError, match=r"stream a: .*\(rows, dim\)"):
        write_arrays(tmp_path / "cache", {"a": VALUES[0]})
    with pytest.raises(CacheError, match="no features"):
        write_arrays(tmp_path / "cache", {})
    with pytest.raises(CacheError, match="captions: 2 for 4 rows"):
        write_arrays(tmp_path / "cache", {"a": VALUES[:4]}, captions=["x", "y"])
    for values, kind in (([[1, 2]], "int64"), ([["x"]], "U1")):
        with pytest.raises(CacheError, match=f"stream a: features of type {kind}, not float"):
            write_arrays(tmp_path / "cache", {"a": values})
    with pytest.raises(CacheError, match="modality of 'b': there is no such stream"):
        write_arrays(tmp_path / "cache", {"a": VALUES[:4]}, modality={"b": "text"})
    with pytest.raises(CacheError, match="label_ids name class 3, which is not in classes"):
        write_arrays(tmp_path / "cache", {"a": VALUES[:2]}, label_ids=[[], [3]])
    with pytest.raises(CacheError, match="modality of 'a': 'texts' is neither image nor text"):
        write_arrays(tmp_path / "cache", {"a": VALUES}, modality={"a": "texts"})
    with pytest.raises(CacheError, match="rows_per_chunk must be at least 1, not 0"):
        write_arrays(tmp_path / "cache", {"a": VALUES}, rows_per_chunk=0)
    assert not (tmp_path / "cache").exists()


def class_table(*ids: int) -> pa.Table:
    columns = {"class_id": ids, "key": map(str, ids), "name": map(str, ids)}
    rest = {"parent_id": [None] * len(ids), "depth": [1] * len(ids)}
    return pa.table({**{k: list(v) for k, v in columns.items()}, **rest}, schema=tables.CLASSES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sample_ids": list("aabbca")}, "row 5: the rows of one sample_id do not"),
        ({"sample_ids": list("ababab")}, "row 2: the rows of one sample_id do not"),
        ({"label_ids": [[0], [0], [1], [], [0], [0]]}, "row 3: label_ids are not those of the row"),
        ({"label_ids": [[0], [0], [0, 1], [1, 0], [], []]}, "row 3: label_ids are not those of"),
        ({"label_ids": [[0, 1], [1, 1], [0], [0], [], []]}, "row 1: label_ids are not those of"),
        ({"modality": {}}, "stream text, row 1: the feature is not that of the row before"),
        ({"classes": class_table(1, 0)}, "class_id must count from 0 in the order of the table"),
        ({"classes": class_table(0, 0)}, "class_id must count from 0 in the order of the table"),
    ],
)
def test_arrays_whose_rows_contradict_each_other_are_refused_by_row(
    tmp_path, arguments, message
) -> None:
    image = VALUES[[0, 0, 1, 1, 2, 2]]
    image[3] = 0  # not valid, so that it contradicts nothing
    sound = {
        "sample_ids": list("aabbcc"),
        "label_ids": [[0], [0], [1, 0], [1, 0], [], []],
        "classes": class_table(0, 1),
        "modality": {"text": "text"},
    }
    features = {"image": image, "text": VALUES[:6]}
    with pytest.raises(CacheError, match=message):
        write_arrays(tmp_path / "cache", features, **{**sound, **arguments})
    assert not (tmp_path / "cache").exists()
    assert list(verify(write_arrays(tmp_path / "cache", features, **sound, rows_per_chunk=3))) == []


def test_arrays_that_do_not_fit_float16_are_refused_in_the_words_of_python(tmp_path) -> None:
    with pytest.raises(CacheError, match=r'does not fit float16 .*give dtype="float32"'):
        write_arrays(tmp_path / "cache", {"a": 1e6 * VALUES}, dtype="float16")


def test_arrays_may_be_written_again_but_not_others_in_their_place(tmp_path) -> None:
    torch = pytest.importorskip("torch")
    values = VALUES[:4].copy()
    values[1] = np.nan
    for same in (values, values.tolist(), torch.from_numpy(values)):
        write_arrays(tmp_path / "cache", {"a": same}, dtype="float16", rows_per_chunk=3)
    values[3] *= 2
    with pytest.raises(CacheError, match=r"other features of stream a .chunk 1 differs"):
        write_arrays(tmp_path / "cache", {"a": values}, dtype="float16", rows_per_chunk=3)
