"""JSON Lines: what ends PyArrow's process is an error, and what is right is read."""

import pyarrow as pa
import pyarrow.json as pj
import pytest

from sparc.extract.datasets.tables.json_lines import read_json_lines

ROW = b'{"image_id": "a", "caption": "null"}'


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"null\n", 1),
        (b" \n\tnull", 2),
        (b"\xef\xbb\xbfnull\n", 1),
        (b"nullx" + ROW, 1),
        (ROW + b"\n" + ROW + b"\r\nnull\n" + ROW, 3),
        (ROW + b"\rnull", 1),
        (b"\n".join([ROW] * 60) + b"\n null\n" + ROW, 61),
    ],
)
@pytest.mark.parametrize("block", [64, 1 << 20])
def test_a_line_of_null_is_refused_wherever_a_block_begins(tmp_path, text, line, block):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(text)
    with pytest.raises(pa.ArrowInvalid, match=f"^line {line} is no object"):
        read_json_lines(path, pj.ReadOptions(block_size=block))


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n\n"])
def test_objects_are_read(tmp_path, end):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join([ROW] * 3) + end)
    table = read_json_lines(path, pj.ReadOptions(block_size=64))
    assert table.to_pylist() == [{"image_id": "a", "caption": "null"}] * 3


def test_an_empty_file_is_no_table(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b"")
    with pytest.raises(pa.ArrowInvalid):
        read_json_lines(tmp_path / "rows.jsonl", pj.ReadOptions())
