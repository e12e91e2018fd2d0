"""Columns of the dataset in `rows.parquet`: written, read by others, and held to the digest."""

import datetime
import hashlib
import json
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparc.common.cache import tables
from sparc.common.cache.arrays import write_arrays
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.verify import verify
from sparc.common.errors import CacheError

VALUES = {"a": np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)}
COLUMNS = {
    "year": [2001, None, -3, 2**62],
    "site": ['n"orth', "ü", None, ""],
    "score": np.array([0.5, np.nan, np.inf, -0.0]),
    "indoor": [True, False, None, True],
}
STORED = {
    "indoor": (pa.bool_(), [True, False, None, True]),
    "score": (pa.float64(), [0.5, None, np.inf, -0.0]),
    "site": (pa.string(), ['n"orth', "ü", None, ""]),
    "year": (pa.int64(), [2001, None, -3, 2**62]),
}


@pytest.fixture
def location(tmp_path):
    write_arrays(tmp_path / "cache", VALUES, columns=COLUMNS)
    return tmp_path / "cache"


def test_plain_pyarrow_reads_them_with_their_types(location):
    table = pq.read_table(location / "rows.parquet")
    assert table.column_names == [*tables.ROWS.names, *STORED]
    for name, (kind, values) in STORED.items():
        assert (table.schema.field(name).type, table[name].to_pylist()) == (kind, values)
    cache = ActivationCache(location)
    assert cache.columns.names == list(STORED)
    assert cache.rows(["year", "row"]).to_pydict() == {
        "year": STORED["year"][1],
        "row": [*range(4)],
    }
    assert cache.rows().column_names == tables.ROWS.names
    assert list(verify(cache)) == []
    with pytest.raises(CacheError, match=r"has no column 'colour'; it has row, .*, year"):
        cache.rows(["colour"])


def test_the_digest_is_the_documented_one(location):
    def double(value):
        return value if value is None else struct.pack(">d", value).hex()

    lines = [[[name, str(kind)] for name, (kind, _) in STORED.items()]]
    for row in range(4):
        values = {name: values[row] for name, (_, values) in STORED.items()}
        values["score"] = double(values["score"])
        lines.append([str(row), None, None, [], *values.values()])
    text = "".join(
        json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines
    )
    digest = ActivationCache(location).info.manifest_digest
    assert digest == hashlib.sha256(text.encode()).hexdigest()


def test_the_same_arrays_again_with_other_columns_are_refused(location):
    before = (location / "rows.parquet").read_bytes()
    assert write_arrays(location, VALUES, columns=dict(reversed(COLUMNS.items())))
    for columns, message in (
        (None, "indoor bool, score double, site string, year int64 there, none now"),
        ({**COLUMNS, "year": [0.5, 1, 2, 3]}, "year int64 there, .* year double now"),
        ({**COLUMNS, "site": ["x", "ü", None, ""]}, "row 0, site: 'n\"orth' there, 'x' now"),
    ):
        with pytest.raises(CacheError, match=message):
            write_arrays(location, VALUES, columns=columns)
    assert (location / "rows.parquet").read_bytes() == before


def test_a_damaged_column_is_noticed_and_restored(location):
    path = location / "rows.parquet"
    before = path.read_bytes()
    changed = pq.read_table(path).set_column(7, "site", pa.array(["x", "ü", None, ""]))
    pq.write_table(changed, path)
    (damage,) = verify(ActivationCache(location))
    assert str(damage).startswith("rows.parquet: its digest is not")
    write_arrays(location, VALUES, columns=COLUMNS)
    assert path.read_bytes() == before
    path.unlink()
    with pytest.raises(CacheError, match=r"rows.parquet, which would say more, is missing"):
        write_arrays(location, VALUES)
    write_arrays(location, VALUES, columns=COLUMNS)
    assert path.read_bytes() == before


def test_columns_that_another_program_added_can_be_used(tmp_path):
    cache = write_arrays(tmp_path / "cache", VALUES)
    path = tmp_path / "cache/rows.parquet"
    table = pq.read_table(path).append_column("views", pa.array([1, 2, 3, 4], pa.int16()))
    pq.write_table(table.append_column("boxes", pa.array([[0.5]] * 4)), path)
    cache = ActivationCache(tmp_path / "cache")
    assert cache.columns == pa.schema([("views", pa.int64())])
    assert cache.rows(["views"])["views"].to_pylist() == [1, 2, 3, 4]
    assert list(verify(cache)) == []
    write_arrays(tmp_path / "cache", VALUES)  # and the cache can be continued


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"caption": list("abcd")}, "'caption': every cache has a column caption of its own"),
        ({"": list("abcd")}, "'': a column needs a name"),
        ({"x": [1, 2]}, "column 'x': 2 for 4 rows"),
        ({"x": [1, "a", 2, 3]}, "'x': values of the kinds int, str, where one of texts, integers"),
        ({"x": [[1]] * 4}, "'x': values of the type list<item: int64>, where texts"),
        ({"x": [datetime.date(2020, 1, 1)] * 4}, "'x': values of the type date32.*, where texts"),
        ({"x": np.full(4, 2**63, np.uint64)}, "'x': .* not in range.*, where texts"),
        ({"x": [2**64, 0, 0, 0]}, "'x': .*too large"),
    ],
)
def test_what_is_no_column_is_refused(tmp_path, column, message):
    with pytest.raises(CacheError, match=message):
        write_arrays(tmp_path / "cache", VALUES, columns=column)
    assert not (tmp_path / "cache").exists()


def test_a_cache_whose_start_has_columns_is_continued(location):
    for name in ("cache.json", "activations.zarr/zarr.json"):
        (location / name).unlink()
    for path in sorted((location / "activations.zarr").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (location / "activations.zarr").rmdir()
    (location / "rejects.parquet").unlink()
    write_arrays(location, VALUES, columns=COLUMNS)
    assert list(verify(ActivationCache(location))) == []
    foreign = pa.table({"row": [1], "site": ["x"]})
    (location / "cache.json").unlink()
    (location / "activations.zarr/zarr.json").unlink()
    pq.write_table(foreign, location / "rows.parquet")
    with pytest.raises(CacheError, match="is not empty and not a cache"):
        write_arrays(location, VALUES, columns=COLUMNS)
