import json
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from sparc.common.cache import tables
from sparc.common.cache.arrays import write_arrays
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.verify import check_tables, verify
from sparc.common.errors import DamagedCacheError
from sparc.extract.cache_summary import describe


def faults(cache: ActivationCache) -> list[str]:
    return [str(damage) for damage in verify(ActivationCache(cache.folder))]


def change_table(cache: ActivationCache, name: str, column: str, values: list) -> None:
    path = cache.folder.local / name
    table = pq.read_table(path)
    index = table.column_names.index(column)
    changed = pa.array(values, table.schema.field(column).type)
    pq.write_table(table.set_column(index, table.schema.field(column), changed), path)


def writable(cache: ActivationCache, name: str) -> zarr.Array:
    """An array as another writer may write it, which records no checksums."""
    path = cache.folder.local / "activations.zarr" / name.split("/")[0] / "valid/zarr.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "attributes": {}}))
    return zarr.open_array(cache.folder.local / "activations.zarr" / name, mode="r+")


def test_a_sound_cache_has_no_damage(cache) -> None:
    checked = []
    assert list(verify(cache, checked=checked.append)) == []
    assert sum(checked) == 2 * 23


def test_every_damaged_chunk_is_listed_with_its_rows(cache) -> None:
    root = cache.folder.local / "activations.zarr"
    (root / "image/features/c/0/0").write_bytes(b"short")
    path = root / "text/valid/c/1"
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    (root / "text/features/c/2/0").unlink()
    lines = faults(cache)
    assert len(lines) == 3
    assert lines[0].startswith("image, chunk 0, rows 0 to 9: features: the file holds 5 bytes")
    assert lines[1] == "text, chunk 1, rows 10 to 19: valid: its values do not fit its CRC32C"
    assert lines[2] == "text, chunk 2, rows 20 to 22: features: it has not been written"
    (root / "text/valid/c/2").unlink()
    assert faults(cache)[2] == "text, chunk 2, rows 20 to 22: it has not been written"


@pytest.mark.parametrize(
    ("table", "column", "value", "message"),
    [
        ("rows", "caption", ["other"] + ["x"] * 22, "its digest is not the manifest_digest"),
        ("rows", "row", [0, 1, 3, 2, *range(4, 23)], "rows 2 to 3: column row does not count"),
        ("rows", "label_ids", [[0]] * 22 + [[3]], "rows 22 to 22: label_ids hold classes"),
        ("rows", "sample_id", ["0", "1", "0", *map(str, range(3, 23))], "do not all follow"),
        ("classes", "class_id", [0, 2, 1], "column class_id does not count from 0"),
        ("classes", "parent_id", [None, 7, 0], "class 1 has the parent 7"),
        ("classes", "depth", [1, 1, 2], "class 1 is at depth 1, parent 0"),
        ("classes", "parent_id", [None, 2, 0], "class 1 is not deeper than its parent 2"),
        ("rejects", "row", [4, 99], "it names rows that the cache has not"),
        ("rejects", "stream", ["image", "sound"], "the stream 'sound'"),
        ("rejects", "sample_id", ["4", "5"], "its sample_id is not the one"),
        ("rejects", "row", [4, 21], "row 21: the row is valid and rejected"),
        ("rejects", "row", [4, 21], "row 22: the row is not valid, without a reason"),
    ],
)
def test_tables_that_break_a_promise_are_listed(cache, table, column, value, message) -> None:
    change_table(cache, f"{table}.parquet", column, value)
    assert any(message in fault for fault in faults(cache)), faults(cache)


@pytest.mark.parametrize("name", ["rows", "classes", "rejects"])
def test_missing_tables_are_listed(cache, name) -> None:
    (cache.folder.local / f"{name}.parquet").unlink()
    assert any(f"{name}.parquet" in fault and "missing" in fault for fault in faults(cache))


@pytest.mark.parametrize(
    ("row", "value", "message"),
    [
        (3, 0.0, "row 3: a valid feature is zero"),
        (3, float("inf"), "row 3: a valid feature is not finite"),
        (4, 1.0, "row 4: the feature of a row that is not valid is not zero"),
    ],
)
def test_values_that_break_a_promise_are_listed(cache, row, value, message) -> None:
    writable(cache, "image/features").with_config({"write_empty_chunks": True})[row] = value
    assert faults(cache) == [f"image, chunk 0, rows 0 to 9: {message}"]


def change_rows(cache, **columns) -> ActivationCache:
    """A cache whose rows are of other images, labels or images, as its digest says too."""
    for column, values in columns.items():
        change_table(cache, "rows.parquet", column, values)
    rows = pq.read_table(cache.folder.local / "rows.parquet").select(tables.ROWS.names)
    digest = tables.manifest_digest(rows.cast(tables.ROWS))
    for name in ("cache.json", "activations.zarr/zarr.json"):
        path = cache.folder.local / name
        path.write_text(path.read_text().replace(cache.info.manifest_digest, digest))
    return ActivationCache(cache.folder)


def test_rows_of_one_image_must_agree(cache) -> None:
    ids = [str(row - (row in (5, 7, 12))) for row in range(23)]
    changed = change_rows(
        cache,
        sample_id=ids,
        label_ids=[[0, 1] if row == 6 else [1] if row == 7 else [] for row in range(23)],
        image=["4.jpg" if row == 12 else None for row in range(23)],
    )
    before = "of the row before, of the same sample_id"
    assert faults(changed) == [
        f"rows.parquet, rows 12 to 12: image is not that {before}",
        f"rows.parquet, rows 7 to 7: label_ids are not those {before}",
        # Row 4 is not valid, so that its feature contradicts nothing; texts may differ.
        "image, chunk 0, rows 0 to 9: row 7: the feature is not that of the same image's row "
        "before",
        "image, chunk 1, rows 10 to 19: row 12: the feature is not that of the same image's row "
        "before",
    ]


def test_classes_in_another_order_are_not_taken_for_others(cache) -> None:
    change_table(cache, "classes.parquet", "class_id", [0, 2, 1])
    with pytest.raises(DamagedCacheError, match=r"class_id of classes.parquet does not count from"):
        ActivationCache(cache.folder).classes()


def test_many_bad_rows_of_a_chunk_are_one_line(cache) -> None:
    writable(cache, "image/features").with_config({"write_empty_chunks": True})[:] = 0
    assert faults(cache) == [
        "image, chunk 0, rows 0 to 9: row 0 and 8 more rows: a valid feature is zero",
        "image, chunk 1, rows 10 to 19: row 10 and 9 more rows: a valid feature is zero",
        "image, chunk 2, rows 20 to 22: row 20 and 1 more row: a valid feature is zero",
    ]


def test_the_single_root_of_a_datasets_classes_is_at_depth_0(cache) -> None:
    for column, values in (("parent_id", [None] * 3), ("depth", [0, 1, 1])):
        change_table(cache, "classes.parquet", column, values)
    assert faults(cache) == []


def test_another_layout_is_listed(cache) -> None:
    path = cache.folder.local / "activations.zarr/image/zarr.json"
    document = json.loads(path.read_text())
    document["attributes"]["dim"] = 7
    path.write_text(json.dumps(document))
    assert "image: array features has shape [23, 6], not [23, 7]" in faults(cache)
    with pytest.raises(DamagedCacheError, match=r"has shape .* write the same arrays there again"):
        ActivationCache(cache.folder).features("image", 0)
    path.write_text("{")
    (line,) = [fault for fault in faults(cache) if fault.startswith("image: ")]
    assert "stream image" in line


@pytest.mark.parametrize("file", ["image/zarr.json", "image/features/zarr.json"])
def test_what_made_a_stream_stands_in_two_places_that_must_agree(cache, file) -> None:
    path = cache.folder.local / "activations.zarr" / file
    content = path.read_text()
    path.write_text(content.replace('"precision": "float32"', '"precision": "float33"'))
    assert faults(cache) == [
        "image: zarr.json and features/zarr.json differ in what made the stream"
    ]
    with pytest.raises(DamagedCacheError, match="is damaged"):
        list(describe(ActivationCache(cache.folder)))


@pytest.mark.parametrize("file", ["cache.json", "activations.zarr/zarr.json"])
def test_what_the_cache_is_stands_in_two_places_that_must_agree(cache, file) -> None:
    path = cache.folder.local / file
    path.write_text(path.read_text().replace('"split": ""', '"split": "x"'))
    assert faults(cache) == ["cache.json: it is not what activations.zarr/zarr.json repeats"]
    with pytest.raises(DamagedCacheError, match="is damaged"):
        list(describe(ActivationCache(cache.folder)))


def test_a_flipped_bit_in_any_table_is_found(cache) -> None:
    random = np.random.default_rng(0)
    for name in ("rows.parquet", "classes.parquet", "rejects.parquet"):
        path = cache.folder.local / name
        good = path.read_bytes()
        # Between the leading magic number and the footer lie the pages, each with a checksum.
        footer = len(good) - 8 - int.from_bytes(good[-8:-4], "little")
        table = pq.read_table(path)
        for place in random.integers(4, footer, 30):
            content = bytearray(good)
            content[place] ^= 1 << int(random.integers(8))
            path.write_bytes(content)
            if not list(check_tables(cache)):
                # A header may say what nobody reads, but nothing else may come out.
                assert pq.read_table(path).equals(table)
        path.write_bytes(good)


@pytest.mark.parametrize("name", ["features", "valid"])
def test_sound_chunks_that_were_exchanged_are_found(cache, name) -> None:
    one, other = (
        cache.folder.local / f"activations.zarr/image/{name}/c/{chunk}" for chunk in (0, 1)
    )
    if name == "features":
        one, other = one / "0", other / "0"
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    what = f"{name}: it is not the chunk that was written there"
    assert faults(cache) == [
        f"image, chunk 0, rows 0 to 9: {what}",
        f"image, chunk 1, rows 10 to 19: {what}",
    ]
    with pytest.raises(DamagedCacheError, match="not the chunk that was written there"):
        getattr(ActivationCache(cache.folder), name)("image", 0)


def test_damage_in_ten_of_many_chunks_is_found_and_none_invented(tmp_path) -> None:
    values = np.random.default_rng(0).standard_normal((400, 5)).astype(np.float32)
    cache = write_arrays(tmp_path / "many", {"a": values}, rows_per_chunk=10)
    damaged = random.Random(0).sample(range(40), 10)
    for number, chunk in enumerate(damaged):
        name = f"features/c/{chunk}/0" if number % 2 else f"valid/c/{chunk}"
        path = cache.folder.local / "activations.zarr/a" / name
        content = bytearray(path.read_bytes())
        content[len(content) * number // 10] ^= 1 << (number % 8)
        path.write_bytes(content)
    chunks = [damage.rows.start // 10 for damage in verify(ActivationCache(cache.folder))]
    assert chunks == sorted(damaged)
