import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparc.common.errors import DatasetError
from sparc.extract.datasets import DatasetOptions, open_dataset


def test_images_without_anything_are_rows_without_caption(tmp_path, paint, manifest, captions):
    paint(tmp_path, "b.PNG", "a.jpg", "deep/er/c.jpeg")
    (tmp_path / "notes.md").write_text("not an image")
    paint(tmp_path, ".hidden/d.png", "__MACOSX/e.png")
    result = manifest()
    assert captions(result) == [("a.jpg", None), ("b.PNG", None), ("deep/er/c.jpeg", None)]
    assert result.rows["sample_id"].to_pylist() == ["a", "b", "deep/er/c"]
    assert (result.dataset, result.dataset_format, result.split) == (str(tmp_path), "folder", "")


def test_text_files_hold_a_caption_a_line(tmp_path, paint, manifest, captions):
    paint(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "a.txt").write_bytes("\ufeff one \n\n  \ntwo\r\n".encode())
    (tmp_path / "b.txt").write_text("   \n")
    assert captions(manifest()) == [
        ("a.png", "one"),
        ("a.png", "two"),
        ("b.png", None),
        ("c.png", None),
    ]


@pytest.mark.parametrize("column", ["text", "caption"])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_metadata_files(tmp_path, paint, manifest, captions, labels, kind, column):
    paint(tmp_path, "a.png", "sub/b.png", "c.png")
    lines = [
        {"file_name": "sub/b.png", column: 'bee, "quoted"\nbroken', "labels": "insect;animal"},
        {"file_name": "a.png", column: "first", "labels": ""},
        {"file_name": "a.png", column: "second", "labels": ""},
    ]
    if kind == "csv":
        text = f"file_name,{column},labels\n"
        text += 'sub/b.png,"bee, ""quoted""\nbroken",insect; animal\na.png,first,\na.png,second,\n'
        (tmp_path / "metadata.csv").write_text(text)
    else:
        lines[0]["labels"] = ["insect", "animal"]
        lines[1] = {"file_name": "a.png", column: ["first", "second"], "labels": None}
        del lines[2]
        lines[0][column] = [lines[0][column]]
        lines[0]["labels"], lines[1]["labels"] = ["insect", "animal"], []
        if kind == "jsonl":
            text = "\n\n".join(map(json.dumps, lines))
            (tmp_path / "metadata.jsonl").write_text(text)
        else:
            pq.write_table(pa.Table.from_pylist(lines), tmp_path / "metadata.parquet")
    result = manifest()
    assert captions(result) == [
        ("a.png", "first"),
        ("a.png", "second"),
        ("c.png", None),
        ("sub/b.png", 'bee, "quoted"\nbroken'),
    ]
    assert labels(result) == {"a": [], "c": [], "sub/b": ["animal", "insect"]}
    assert result.classes["depth"].to_pylist() == [1, 1]


def test_captions_joined_or_first(tmp_path, paint, manifest, captions):
    paint(tmp_path, "a.png", "b.png")
    (tmp_path / "a.txt").write_text("one\n two \n")
    assert captions(manifest(captions="join")) == [("a.png", "one two"), ("b.png", None)]
    assert captions(manifest(captions="first")) == [("a.png", "one"), ("b.png", None)]


def test_metadata_in_subfolders_name_files_beside_them(tmp_path, paint, manifest, captions):
    paint(tmp_path, "x/a.png", "y/a.png")
    (tmp_path / "x/metadata.csv").write_text("file_name,text\na.png,of x\n")
    (tmp_path / "y/metadata.jsonl").write_text('{"file_name": "./a.png", "text": "of y"}')
    assert captions(manifest()) == [("x/a.png", "of x"), ("y/a.png", "of y")]


def test_splits_each_have_their_own_metadata(tmp_path, paint, manifest, captions):
    paint(tmp_path, "train/a.png", "train/cat/b.png", "validation/a.png")
    (tmp_path / "train/metadata.csv").write_text("file_name,text\na.png,in train\n")
    (tmp_path / "validation/metadata.csv").write_text("file_name,text\na.png,in validation\n")
    train = manifest(split="train")
    assert captions(train) == [("train/a.png", "in train"), ("train/cat/b.png", None)]
    assert train.split == "train"
    assert captions(manifest(split="val")) == [("validation/a.png", "in validation")]
    with pytest.raises(DatasetError, match=r"several splits.*--split: train, validation"):
        manifest()
    with pytest.raises(DatasetError, match="no split 'test'; its splits: train, validation"):
        manifest(split="test")
    with pytest.raises(DatasetError, match="leave --holdout out"):
        manifest(split="test", holdout=0.5)


def test_metadata_above_the_splits(tmp_path, paint, manifest, captions):
    paint(tmp_path, "train/a.png", "test/b.png")
    (tmp_path / "metadata.csv").write_text("file_name,text\ntrain/a.png,A\ntest/b.png,B\n")
    assert captions(manifest(split="test")) == [("test/b.png", "B")]


def test_one_split_needs_no_name_and_class_folders_are_no_splits(tmp_path, paint, manifest):
    paint(tmp_path / "one", "train/a.png")
    result = open_dataset(tmp_path / "one", DatasetOptions()).manifest()
    assert result.split == "train"
    paint(tmp_path / "two", "train/a.png", "plane/b.png")
    result = open_dataset(tmp_path / "two", DatasetOptions()).manifest()
    assert (result.rows.num_rows, result.split) == (2, "")
    with pytest.raises(DatasetError, match="has no splits"):
        open_dataset(tmp_path / "two", DatasetOptions(split="train")).manifest()


def test_images_of_one_name_have_ids_of_their_own(tmp_path, paint, manifest):
    paint(tmp_path, "a.png", "a.jpg", "b.png", "a.jpg.png")
    ids = manifest().rows["sample_id"].to_pylist()
    assert len(set(ids)) == 4


def test_holdout_by_keeps_groups_together(tmp_path, paint, manifest):
    names = [f"{n}.png" for n in range(60)]
    paint(tmp_path, *names)
    lines = "".join(f"{name},person {n % 12}\n" for n, name in enumerate(names))
    (tmp_path / "metadata.csv").write_text("file_name,person\n" + lines)
    parts = {
        split: manifest(split=split, holdout=0.4, holdout_by="person").rows["sample_id"].to_pylist()
        for split in ("train", "test")
    }
    assert sorted(parts["train"] + parts["test"], key=int) == [str(n) for n in range(60)]
    groups = [{int(sample) % 12 for sample in part} for part in parts.values()]
    assert groups[0]
    assert groups[1]
    assert not groups[0] & groups[1]
    with pytest.raises(DatasetError, match=r"column 'job'.*columns: file_name, person"):
        manifest(split="test", holdout=0.4, holdout_by="job")


def test_images_that_are_not_there_stay_rows(tmp_path, paint, manifest, captions, capsys):
    paint(tmp_path, "a.png")
    (tmp_path / "metadata.csv").write_text("file_name,text\nlost.png,L\na.png,A\n")
    assert captions(manifest()) == [("a.png", "A"), ("lost.png", "L")]
    assert "1 of 2 images named in the metadata are not there" in capsys.readouterr().err
    with pytest.raises(DatasetError, match=r"cannot open lost.png"):
        open_dataset(tmp_path, DatasetOptions()).read_image("lost.png")
    (tmp_path / "metadata.csv").write_text("file_name,text\nimg/lost.png,L\n")
    with pytest.raises(DatasetError, match=r"named in .* is there .* example img/lost.png"):
        manifest()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file_name,text\na.png,A,more\n", "line 2 has 3 columns, the header has 2"),
        ("file_name,text\na.png,A\n,B\n", "line 3 has no file_name"),
        ("name,text\na.png,A\n", "line 2 has no column file_name; its columns: name, text"),
        ('file_name,text\na.png,"A\n', "line 2 is not CSV"),
    ],
)
def test_broken_csv_is_named_with_its_line(tmp_path, paint, manifest, content, message):
    paint(tmp_path, "a.png")
    (tmp_path / "metadata.csv").write_text(content)
    with pytest.raises(DatasetError, match=rf"metadata\.csv, {message}") as caught:
        manifest()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"file_name": "a.png"}\n{"file_name": \n', "line 2 is not JSON"),
        ('{"file_name": "a.png"}\n[1]\n', "line 2 is not a JSON object"),
        ('{"file_name": "a.png", "text": 5}\n', "line 1: text must be text or a list of texts"),
        ('{"file_name": "a.png", "text": ["a", null]}\n', "line 1: text must be text"),
        ('{"file_name": 7}\n', "line 1 has no file_name"),
        ("[" * 100_000, "line 1 is nested too deeply"),
        ('{"n": ' + "9" * 5000 + "}", "line 1 is not JSON"),
    ],
)
def test_broken_json_lines_are_named(tmp_path, paint, manifest, content, message):
    paint(tmp_path, "a.png")
    (tmp_path / "metadata.jsonl").write_text(content)
    with pytest.raises(DatasetError, match=rf"metadata\.jsonl, {message}"):
        manifest()


def test_broken_parquet_is_named(tmp_path, paint, manifest):
    paint(tmp_path, "a.png")
    (tmp_path / "metadata.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(DatasetError, match=r"metadata\.parquet, row 0 is not readable"):
        manifest()


def test_two_metadata_files_in_one_folder_are_refused(tmp_path, paint, manifest):
    paint(tmp_path, "a.png")
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,A\n")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "A"}')
    with pytest.raises(DatasetError, match="several files: keep one"):
        manifest()


def test_text_that_is_not_utf8_is_replaced_and_said(tmp_path, paint, manifest, captions, capsys):
    paint(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "metadata.csv").write_bytes(b"file_name,text\na.png,caf\xe9\n")
    (tmp_path / "b.txt").write_bytes(b"na\xefve")
    long = "x" * 10_000
    (tmp_path / "c.txt").write_text(long)
    assert captions(manifest()) == [("a.png", "caf�"), ("b.png", "na�ve"), ("c.png", long)]
    said = capsys.readouterr().err
    assert "metadata.csv: bytes that are not UTF-8 replaced in 1 line" in said
    assert "replaced in 1 text file" in said


def test_half_surrogates_become_replacement_characters(tmp_path, paint, manifest, captions):
    paint(tmp_path, "a.png")
    line = r'{"file_name": "a.png", "text": "\ud83d\ude00 \ud800!"}'
    (tmp_path / "metadata.jsonl").write_text(line)
    assert captions(manifest()) == [("a.png", "😀 �!")]


def test_metadata_whose_images_are_all_missing_are_refused_as_such(tmp_path, manifest):
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,A\n")
    with pytest.raises(DatasetError, match=r"images named in the metadata is there .* a\.png"):
        manifest()


def test_metadata_without_a_column_of_captions_is_said(tmp_path, paint, manifest, capsys):
    paint(tmp_path, "a.png")
    (tmp_path / "metadata.csv").write_text("file_name,description\na.png,A\n")
    manifest()
    assert "no column text or caption; columns: description, file_name" in capsys.readouterr().err
    (tmp_path / "a.txt").write_text("a caption beside it")
    manifest()
    assert capsys.readouterr().err == ""
