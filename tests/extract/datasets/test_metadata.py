import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparc.common.errors import DatasetError
from sparc.extract.datasets import metadata
from sparc.extract.datasets.metadata import (
    decode,
    parse_json,
    read_csv,
    read_json_lines,
    read_parquet,
    read_text,
)


def test_lines_are_counted_as_an_editor_does(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b'\xef\xbb\xbfa, b\r\n1,"two\r\nlines"\r\n\r\n3,4\r\n')
    assert [(r.where, r.values) for r in read_csv(path, "x")] == [
        ("x, line 3", {"a": "1", "b": "two\r\nlines"}),
        ("x, line 5", {"a": "3", "b": "4"}),
    ]
    path.write_text('\n{"a": 1}\n\n{"a": 2}')
    assert [r.where for r in read_json_lines(path, "x")] == ["x, line 2", "x, line 4"]


def test_an_empty_file_has_no_lines(tmp_path):
    (tmp_path / "x").touch()
    assert list(read_csv(tmp_path / "x", "x")) == []
    assert list(read_json_lines(tmp_path / "x", "x")) == []
    assert read_text(tmp_path / "x", "x") == ""


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"cannot read here/x\.csv: No such file"):
        list(read_csv(tmp_path / "x.csv", "here/x.csv"))


def test_half_surrogates_are_replaced_wherever_they_stand():
    document = parse_json(r'{"\ud800k": ["\udfff", {"a": "\ud83d\ude00"}], "n": 1}', "x")
    assert document == {"\ufffdk": ["\ufffd", {"a": "\U0001f600"}], "n": 1}


def test_decode_tells_whether_bytes_were_replaced():
    assert decode("é".encode()) == ("é", False)
    assert decode(b"\xe9") == ("\ufffd", True)


def test_lines_and_tables_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(metadata, "LARGEST_LINE", 100)
    path = tmp_path / "x"
    path.write_text("a,b\n1," + "2" * 200 + "\n")
    with pytest.raises(DatasetError, match="x, line 2 is longer than"):
        list(read_csv(path, "x"))
    path.write_text('{"a": 1}\n{"a": "' + "2" * 200)
    with pytest.raises(DatasetError, match="x, line 2 is longer than"):
        list(read_json_lines(path, "x"))
    assert len(read_text(path, "x")) > 200  # a document may be one long line


def test_tables_of_a_million_columns_are_refused(tmp_path):
    path = tmp_path / "x"
    path.write_text(",".join(map(str, range(1_000_000))) + "\n")
    with pytest.raises(DatasetError, match="x has 1,000,000 columns, more than 10,000"):
        list(read_csv(path, "x"))
    wide = pa.table({str(number): [1] for number in range(10_001)})
    pq.write_table(wide, path)
    with pytest.raises(DatasetError, match="x has 10,001 columns, more than 10,000"):
        list(read_parquet(path, "x"))
