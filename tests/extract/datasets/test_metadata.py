import pytest

from sparc.common.errors import DatasetError
from sparc.extract.datasets import metadata
from sparc.extract.datasets.metadata import (
    decode,
    parse_json,
    read_csv_lines,
    read_text,
    sniff_separator,
    text_lines,
)
from sparc.extract.datasets.tables.known_names import is_known


def test_lines_are_counted_as_an_editor_does(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b'\xef\xbb\xbfa, b\r\n1,"two\r\nlines"\r\n\r\n3,4\r\n')
    assert list(read_csv_lines(path, "x")) == [
        (1, ["a", "b"]),
        (3, ["1", "two\r\nlines"]),
        (5, ["3", "4"]),
    ]


def test_an_empty_file_has_no_lines(tmp_path):
    (tmp_path / "x").touch()
    assert list(read_csv_lines(tmp_path / "x", "x")) == []
    assert read_text(tmp_path / "x", "x") == ""


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"cannot read here/x\.csv: No such file"):
        list(read_csv_lines(tmp_path / "x.csv", "here/x.csv"))


def test_half_surrogates_are_replaced_wherever_they_stand():
    document = parse_json(r'{"\ud800k": ["\udfff", {"a": "\ud83d\ude00"}], "n": 1}', "x")
    assert document == {"\ufffdk": ["\ufffd", {"a": "\U0001f600"}], "n": 1}


def test_decode_tells_whether_bytes_were_replaced():
    assert decode("é".encode()) == ("é", False)
    assert decode(b"\xe9") == ("\ufffd", True)
    assert decode("\ufeffé".encode()) == ("é", False)
    assert decode("é".encode("utf-16")) == ("é", False)


def test_lines_and_tables_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(metadata, "LARGEST_LINE", 100)
    path = tmp_path / "x"
    path.write_text("a,b\n1," + "2" * 200 + "\n")
    with pytest.raises(DatasetError, match="x, line 2 is longer than"):
        list(read_csv_lines(path, "x"))
    path.write_text('{"a": 1}\n{"a": "' + "2" * 200)
    with pytest.raises(DatasetError, match="x, line 2 is longer than"):
        list(text_lines(path, "x", longest=metadata.LARGEST_LINE))
    assert len(read_text(path, "x")) > 200  # a document may be one long line


@pytest.mark.parametrize(
    ("line", "separator"),
    [
        ("file_name;a caption, or more, or none", ";"),
        ("image_name| comment_number| comment", "|"),
        ("filepath\ttitle", "\t"),
        ("file_name,text", ","),
        ("a red fish, with bones, and more\thttp://x/0.jpg", "\t"),
        ("alone", ","),
        ("", ","),
    ],
)
def test_separators_are_seen_in_the_first_line(line, separator):
    assert sniff_separator(line, is_known) == separator


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_text_may_be_utf_16_and_have_a_byte_order_mark(tmp_path, encoding):
    text = "\ufeffé,\n" if encoding == "utf-16-be" else "é,\n"
    (tmp_path / "x").write_bytes((text + "ü").encode(encoding))
    assert read_text(tmp_path / "x", "x") == "é,\nü"


def test_lines_that_are_not_utf_8_are_named_with_a_way_out(tmp_path, capsys):
    (tmp_path / "x").write_bytes(b"a\nb\xe9\nc\nd\xe9")
    assert read_text(tmp_path / "x", "x") == "a\nb\ufffd\nc\nd\ufffd"
    said = capsys.readouterr().err
    assert "x: bytes that are not UTF-8 replaced in 2 lines, first in line 2: save it as" in said
    (tmp_path / "x").write_bytes("ab".encode("utf-16-le"))
    with pytest.raises(DatasetError, match="x is not UTF-8: save it as UTF-8"):
        read_text(tmp_path / "x", "x")


def test_lines_longer_than_a_block_are_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(metadata, "_BLOCK", 3)
    (tmp_path / "x").write_text("é" * 10 + "\n\nb\n" + "é" * 5)
    lines = list(text_lines(tmp_path / "x", "x", longest=None))
    assert lines == ["é" * 10 + "\n", "\n", "b\n", "é" * 5]
