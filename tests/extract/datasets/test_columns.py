"""Columns of metadata that `--column` keeps, from every format that has metadata."""

import io
import json
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparc.common.cache import tables
from sparc.common.errors import ConfigError, DatasetError
from sparc.extract.datasets import DatasetOptions


def kept(manifest):
    """The columns of the dataset, with their types."""
    columns = tables.dataset_columns(manifest.rows.schema)
    assert manifest.rows.column_names == [*tables.ROWS.names, *columns.names]
    return {f.name: (str(f.type), manifest.rows[f.name].to_pylist()) for f in columns}


CSV = """file_name,text,labels,year,code,share,indoor,site,empty,long
a.png,one,x,2001,007,1,true,north, ,99999999999999999999
a.png,two,,2002,1,.5,,north,,1
b.png,,,,,-1e-3,False,,,2
"""


def test_cells_of_csv_get_the_types_that_they_are_written_as(tmp_path, paint, write, manifest):
    paint(tmp_path, "a.png", "b.png", "c.png")
    write("metadata.csv", CSV)
    assert kept(manifest()) == {}
    assert kept(manifest(columns=("all",))) == {
        "code": ("string", ["007", "1", None, None]),
        "empty": ("string", [None] * 4),
        "indoor": ("bool", [True, None, False, None]),
        "long": ("string", ["99999999999999999999", "1", "2", None]),
        "share": ("double", [1.0, 0.5, -0.001, None]),
        "site": ("string", ["north", "north", None, None]),
        "year": ("int64", [2001, 2002, None, None]),
    }
    some = kept(manifest(columns=("year", "site")))
    assert some == kept(manifest(columns=("site", "year")))
    assert list(some) == ["site", "year"]


def test_a_joined_row_holds_one_value(tmp_path, paint, write, manifest):
    paint(tmp_path, "a.png", "b.png", "c.png")
    write("metadata.csv", CSV)
    assert kept(manifest(columns=("site",), captions="join"))["site"][1] == ["north", None, None]
    assert kept(manifest(columns=("year",), captions="first"))["year"][1] == [2001, None, None]
    with pytest.raises(
        DatasetError, match=r"'a' has one row but two values of column 'year'.*each"
    ):
        manifest(columns=("year",), captions="join")
    write("metadata.csv", "file_name,site\na.png,north\na.png,south\n")
    with pytest.raises(DatasetError, match=r"'a.png' has one row but two values of column 'site'"):
        manifest(columns=("site",))


def test_json_lines_and_parquet_have_types_of_their_own(tmp_path, paint, write, manifest):
    paint(tmp_path, "one/a.png", "two/b.png", "two/b2.png")
    line = {"file_name": "a.png", "text": ["x", "y"], "code": "007", "n": 1, "ok": True, "f": 1.5}
    write("one/metadata.jsonl", json.dumps(line) + "\n")
    table = pa.table(
        {
            "file_name": ["b.png", "b2.png"],
            "n": pa.array([7, None], pa.int32()),
            "f": pa.array([float("nan"), 3], pa.float32()),
        }
    )
    pq.write_table(table, tmp_path / "two/metadata.parquet")
    assert kept(manifest(columns=("all",))) == {
        "code": ("string", ["007", "007", None, None]),
        "f": ("double", [1.5, 1.5, None, 3.0]),
        "n": ("int64", [1, 1, 7, None]),
        "ok": ("bool", [True, True, None, None]),
    }


def test_parts_of_a_dataset_have_the_same_columns_and_types(tmp_path, paint, write, manifest):
    names = [f"{number}.png" for number in range(12)]
    paint(tmp_path, *names)
    lines = [f"{name},{'1.5' if name == '7.png' else '1'}\n" for name in names]
    write("metadata.csv", "file_name,share\n" + "".join(lines))
    for split in ("train", "test"):
        part = manifest(columns=("share",), holdout=0.5, split=split)
        assert part.rows.schema.field("share").type == pa.float64()
    assert kept(manifest(columns=("share",), limit=1))["share"] == ("double", [1.0])


def test_coco_has_columns_of_images_and_of_their_captions(tmp_path, paint, write, manifest):
    paint(tmp_path, "val/a.jpg", "val/b.jpg")
    images = [
        {"id": 1, "file_name": "a.jpg", "license": 3, "date": "2013"},
        {"id": 2, "file_name": "b.jpg", "license": 4},
    ]
    captions = [
        {"id": 7, "image_id": 1, "caption": "x", "worker": "w1"},
        {"id": 8, "image_id": 1, "caption": "y", "worker": "w2"},
    ]
    write("captions_val.json", json.dumps({"images": images, "annotations": captions}))
    assert kept(manifest(columns=("all",))) == {
        "date": ("string", ["2013", "2013", None]),
        "license": ("int64", [3, 3, 4]),
        "worker": ("string", ["w1", "w2", None]),
    }


def test_open_images_has_columns_of_narratives(tmp_path, paint, write, manifest):
    paint(tmp_path, "train/a.jpg")
    line = {"dataset_id": "open", "image_id": "a", "annotator_id": 4, "caption": "c", "traces": []}
    write("open_images_train_v6_captions.jsonl", json.dumps(line) + "\n")
    result = kept(manifest(columns=("annotator_id",)))
    assert result == {"annotator_id": ("int64", [4])}
    with pytest.raises(
        DatasetError, match=r"'traces' cannot .*: --column annotator_id --column dataset_id$"
    ):
        manifest(columns=("all",))


def test_webdataset_has_columns_of_json_also_beside_a_text(tmp_path, manifest):
    members = {
        "0.jpg": b"x",
        "0.txt": b"of text",
        "0.json": json.dumps({"caption": "of json", "width": 640, "nsfw": None}).encode(),
        "1.jpg": b"y",
        "1.json": json.dumps({"caption": "bare", "width": 320}).encode(),
        "2.jpg": b"z",
        "2.json": b"[]",
    }
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    result = manifest(columns=("all",))
    assert result.rows["caption"].to_pylist() == ["of text", "bare", None]
    assert kept(result) == {"nsfw": ("string", [None] * 3), "width": ("int64", [640, 320, None])}


def test_what_cannot_be_kept_is_refused_with_a_way_out(tmp_path, paint, write, manifest):
    paint(tmp_path, "a.png", "b.png")
    line = {"file_name": "a.png", "box": [1, 2], "mixed": 1, "row": 5, "ok": "x"}
    write("metadata.jsonl", json.dumps(line) + '\n{"file_name": "b.png", "mixed": "one"}\n')
    for columns, message in (
        (("box",), "'box' cannot be kept: values of the type list.*; convert it in the dataset"),
        (("mixed",), "'mixed' cannot be kept: values of the kinds int, str"),
        (("all",), "'box' cannot be kept: .* in place of --column all, .* keep: --column ok$"),
        (("size",), "has no column 'size' to keep; columns: box, mixed, ok, row$"),
        (("file_name",), "has no column 'file_name' to keep"),
    ):
        with pytest.raises(DatasetError, match=message):
            manifest(columns=columns)
    write("metadata.jsonl", '{"file_name": "a.png", "row": 5}\n')
    with pytest.raises(DatasetError, match="'row' cannot be kept: every cache has a column row of"):
        manifest(columns=("all",))
    with pytest.raises(
        ConfigError, match=r"--column 'row': every cache has a column row of its own"
    ):
        manifest(columns=("row",))
    with pytest.raises(ConfigError, match="all or the names of columns, not both"):
        DatasetOptions(columns=("all", "ok"))
