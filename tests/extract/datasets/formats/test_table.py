"""`--table`: images that a table names, wherever it lies."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparc.common.errors import ConfigError, DatasetError
from sparc.extract.datasets import DatasetOptions, open_dataset


def test_rows_are_the_images_that_the_table_names_in_its_order(
    tmp_path, paint, manifest, captions, labels
):
    paint(tmp_path, "images/a.png", "images/b.png", "images/c.png")
    (tmp_path / "list.csv").write_text(
        "photograph;words;kind;author\nimages\\c.png;first;cat|pet;me\nc.png;second;cat;me\n"
        "a.png;;dog;you\n"
    )
    result = manifest(
        table=tmp_path / "list.csv",
        image_column="photograph",
        caption_column="words",
        label_column="kind",
        label_separator="|",
        columns=("author",),
    )
    assert captions(result) == [
        ("images/c.png", "first"),
        ("images/c.png", "second"),
        ("images/a.png", None),
    ]
    assert labels(result) == {"images/a": ["dog"], "images/c": ["cat", "pet"]}
    assert result.rows["author"].to_pylist() == ["me", "me", "you"]
    assert result.dataset_format == "table"
    assert [entry.what for entry in result.account.unused] == ["images/b.png"]
    # The images of a cache are read without its table.
    dataset = open_dataset(tmp_path, DatasetOptions(format="table"))
    assert dataset.read_image("images/c.png").startswith(b"\x89PNG")


def test_a_table_may_lie_outside_and_divide_the_dataset(tmp_path, paint, captions):
    paint(tmp_path / "data", "1.png", "2.png", "3.png")
    table = pa.table({"id": [1, 2, 3], "text": ["A", "B", "C"], "split": ["train", "val", "train"]})
    pq.write_table(table, tmp_path / "table.parquet")

    def read(**options):
        options = DatasetOptions(table=tmp_path / "table.parquet", **options)
        return open_dataset(tmp_path / "data", options).manifest()

    assert captions(read(split="train")) == [("1.png", "A"), ("3.png", "C")]
    assert captions(read(split="validation")) == [("2.png", "B")]
    with pytest.raises(DatasetError, match="several splits: choose one with --split: train, val"):
        read()


@pytest.mark.parametrize(
    "content",
    ["a fish, red\thttp://x.invalid/0.jpg\n", "caption,url\nA,http://x.invalid/0.jpg\n"],
)
def test_lists_of_addresses_are_refused_with_the_way(tmp_path, manifest, write, content):
    write("list.tsv", content)
    for options in ({}, {"table": tmp_path / "list.tsv"}):
        with pytest.raises(DatasetError, match=r"list\.tsv.*download them with img2dataset"):
            manifest(**options)


def test_what_cannot_be_a_table_is_refused(tmp_path, paint, manifest, write):
    paint(tmp_path, "a.png")
    with pytest.raises(DatasetError, match="say which table names the images with --table"):
        manifest(format="table")
    with pytest.raises(DatasetError, match=r"cannot open no\.csv"):
        manifest(table="no.csv")
    write("x.csv", "alpha,beta\n1,2\n")
    with pytest.raises(DatasetError, match=r"columns: alpha, beta; say which .* --image-column"):
        manifest(table=tmp_path / "x.csv")
    with pytest.raises(DatasetError, match=r"none of the images named in .*x\.csv is there"):
        manifest(table=tmp_path / "x.csv", image_column="alpha")
    with pytest.raises(ConfigError, match="table needs format table, not coco"):
        DatasetOptions(format="coco", table=tmp_path / "x.csv")
    with pytest.raises(ConfigError, match="separator must be one character"):
        DatasetOptions(separator=", ")
    (tmp_path / "wide.csv").write_text(",".join(map(str, range(10_001))) + "\n")
    with pytest.raises(DatasetError, match="10,001 columns, more than 10,000"):
        manifest(table=tmp_path / "wide.csv")
