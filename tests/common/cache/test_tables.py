import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparc.common.cache import tables
from sparc.common.errors import DamagedCacheError
from sparc.common.files.folder import Folder


def rows(captions: list[str | None]) -> pa.Table:
    count = len(captions)
    return pa.table(
        {
            "row": range(count),
            "sample_id": [f"s{i}" for i in range(count)],
            "image": [None] * count,
            "caption": captions,
            "label_ids": [list(range(i % 3)) for i in range(count)],
        },
        schema=tables.ROWS,
    )


def test_the_digest_is_the_documented_one() -> None:
    table = rows(['quo"te', None, "über \u2028 ☃", "tab\t"])
    lines = [
        json.dumps([r["sample_id"], r["image"], r["caption"], r["label_ids"]],
                   ensure_ascii=False, separators=(",", ":")) + "\n"
        for r in table.to_pylist()
    ]  # fmt: skip
    assert lines[0] == '["s0",null,"quo\\"te",[]]\n'
    wanted = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert tables.manifest_digest(table) == wanted
    pieces = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    assert tables.manifest_digest(pieces) == wanted


def test_the_digest_sees_every_change_and_no_other_column() -> None:
    table = rows(["a", "b"])
    digest = tables.manifest_digest(table)
    assert tables.manifest_digest(rows(["a", "c"])) != digest
    assert tables.manifest_digest(table.slice(0, 1)) != digest
    renumbered = table.set_column(0, tables.ROWS.field("row"), pa.array([5, 6]))
    assert tables.manifest_digest(renumbered) == digest


def test_tables_are_written_with_the_same_bytes_every_time(tmp_path) -> None:
    folder = Folder(tmp_path)
    tables.write_table(folder, "a.parquet", rows(["x"] * 1000))
    tables.write_table(folder, "b.parquet", rows(["x"] * 1000))
    assert folder.read("a.parquet") == folder.read("b.parquet")
    assert tables.read_table(folder, "a.parquet", tables.ROWS).equals(rows(["x"] * 1000))
    some = tables.read_table(folder, "a.parquet", tables.ROWS, ["caption", "row"])
    assert some.column_names == ["caption", "row"]


def test_damaged_tables_are_named(tmp_path) -> None:
    folder = Folder(tmp_path)
    with pytest.raises(DamagedCacheError, match=r"rows\.parquet is missing"):
        tables.read_table(folder, "rows.parquet", tables.ROWS)
    folder.write("rows.parquet", b"PAR1 no parquet at all")
    with pytest.raises(DamagedCacheError, match="is not readable as Parquet"):
        tables.read_table(folder, "rows.parquet", tables.ROWS)
    pq.write_table(pa.table({"row": [1]}), tmp_path / "rows.parquet")
    with pytest.raises(DamagedCacheError, match="has other columns than it should"):
        tables.read_table(folder, "rows.parquet", tables.ROWS)
    wrong = rows(["a"]).set_column(0, "row", pa.array(["first"]))
    pq.write_table(wrong, tmp_path / "rows.parquet")
    with pytest.raises(DamagedCacheError, match="has other columns than it should"):
        tables.read_table(folder, "rows.parquet", tables.ROWS)
    pq.write_table(rows(["a"]), tmp_path / "rows.parquet")
    with pytest.raises(DamagedCacheError):
        tables.read_table(folder, "rows.parquet", tables.CLASSES)


def test_extra_columns_are_ignored(tmp_path) -> None:
    table = rows(["a"]).append_column("more", pa.array([1]))
    pq.write_table(table, tmp_path / "rows.parquet")
    assert tables.read_table(Folder(tmp_path), "rows.parquet", tables.ROWS).equals(rows(["a"]))


@pytest.mark.parametrize("size", [1, 4, 100])
def test_columns_are_read_a_batch_at_a_time(tmp_path: Path, size: int) -> None:
    table = rows([f"caption {i}" if i % 3 else None for i in range(30)])
    folder = Folder(tmp_path)
    tables.write_table(folder, "rows.parquet", table)
    columns = ["caption", "sample_id"]
    read = list(tables.read_batches(folder, "rows.parquet", tables.ROWS, columns, size))
    assert max(batch.num_rows for batch in read) <= size
    assert pa.Table.from_batches(read).equals(table.select(columns))


def test_batches_of_a_file_that_is_not_there_or_damaged(tmp_path: Path) -> None:
    folder = Folder(tmp_path)

    def read() -> object:
        return list(tables.read_batches(folder, "rows.parquet", tables.ROWS, ["row"], 10))

    with pytest.raises(DamagedCacheError, match=r"rows\.parquet is missing"):
        read()
    folder.write("rows.parquet", b"no table")
    with pytest.raises(DamagedCacheError, match="is not readable"):
        read()
    pq.write_table(pa.table({"other": [1]}), tmp_path / "rows.parquet")
    with pytest.raises(DamagedCacheError, match="is not readable"):
        read()


def test_texts_that_are_those_of_the_row_before():
    texts = pa.chunked_array([["a", "a", None], [None, "", "a"]], pa.string())
    assert tables.same_as_before(texts).tolist() == [False, True, False, True, False, False]
    assert tables.same_as_before(texts[:1]).tolist() == [False]
    assert tables.same_as_before(texts[:0]).tolist() == []
