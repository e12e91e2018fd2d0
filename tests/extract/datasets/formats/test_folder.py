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
    ("name", "content", "message"),
    [
        ("csv", "file_name,text\na.png,A,more\n", "1 record .*line 2: it has 3 columns, not 2"),
        ("csv", "file_name,text\n,B\n", "no line has a file_name"),
        ("csv", "name,text\na.png,A\n", "no column file_name; its columns: name, text"),
        ("csv", " \n", "is empty"),
        ("csv", 'file_name,text\na.png,"A\n', "line 2: its quotes are broken"),
        ("csv", "file_name,text,text\na.png,A,A\n", "two columns 'text'"),
        ("jsonl", '{"file_name": \n{"file_name": \n', "line 1: it is not JSON"),
        ("jsonl", '{"file_name": null}\n', "no line has a file_name"),
        ("jsonl", "[" * 100_000, "nested too deeply"),
        ("jsonl", '{"n": ' + "9" * 5000 + "}", "not JSON"),
        ("json", '{\n"images": []}', "is no table"),
        ("parquet", "PAR1 nothing PAR1", "row 0 is not readable as Parquet"),
    ],
)
def test_metadata_of_which_nothing_can_be_used_are_refused(
    tmp_path, paint, manifest, name, content, message
):
    paint(tmp_path, "a.png")
    (tmp_path / f"metadata.{name}").write_text(content)
    with pytest.raises(DatasetError, match=rf"metadata\.{name}.*{message}") as caught:
        manifest()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "left_out"),
    [
        (
            "csv",
            'file_name,text\na.png,A\nb.png,leaf, green\nc.png,"open\nd.png,D\n,E\n'
            'e.png,"a "big" dog"\nf.png,\n',
            [
                "1 record left out: it has 3 columns, not 2: a text with ',' needs quotes (line 3)",
                "1 record left out: its quotes are broken (',' expected after '\"') (line 4)",
                "1 record left out: it has no file_name (line 6)",
            ],
        ),
        (
            "jsonl",
            '{"file_name": "a.png", "text": "A"}\n{"file_name": "b.png", "text": 5}\n'
            '{"file_name": "c.png", "text": [NaN]}\n{"file_name": "d.png", "text": ["D", null]}\n'
            '[1]\n{"file_name"\n{"file_name": "e.png", "text": "a \\"big\\" dog"}\n',
            [
                "1 caption left out: it is a number, not text (line 2)",
                "1 caption left out: it is NaN (line 3)",
                "1 caption left out: it is null (line 4)",
                "1 record left out: it is not a JSON object (line 5)",
                "1 record left out: it is not JSON: Expecting ':' delimiter (line 6)",
            ],
        ),
    ],
)
def test_a_bad_record_costs_one_record(
    tmp_path, paint, manifest, captions, name, content, left_out
):
    paint(tmp_path, "a.png", "b.png", "c.png", "d.png", "e.png", "f.png")
    (tmp_path / f"metadata.{name}").write_text(content)
    result = manifest()
    assert captions(result) == [
        ("a.png", "A"),
        ("b.png", None),
        ("c.png", None),
        ("d.png", "D"),
        ("e.png", 'a "big" dog'),
        ("f.png", None),
    ]
    assert [str(entry) for entry in result.account.left_out] == [
        f"metadata.{name}: {line}" for line in left_out
    ]
    with pytest.raises(DatasetError, match=r"line \d.*without --strict"):
        manifest(strict=True)


def test_values_of_parquet_are_texts_where_they_can_be(tmp_path, paint, manifest, captions):
    paint(tmp_path, "a.png", "b.png", "c.png")
    texts = pa.array([b"bytes", b"\xe9", None], pa.binary())
    labels = pa.array([1.0, float("nan"), 2.0])
    names = ["a.png", "b.png", "c.png"]
    table = pa.table({"file_name": names, "text": texts, "label": labels, "vector": [[0.5]] * 3})
    pq.write_table(table, tmp_path / "metadata.parquet")
    result = manifest()
    assert captions(result) == [("a.png", "bytes"), ("b.png", None), ("c.png", None)]
    assert result.classes["name"].to_pylist() == ["1", "2"]
    reasons = ["it has bytes that are not UTF-8", "it is null"]
    assert [entry.why for entry in result.account.left_out] == reasons
    assert result.account.used[0].unused == ("vector",)


def test_two_metadata_files_in_one_folder_are_refused(tmp_path, paint, manifest):
    paint(tmp_path, "a.png")
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,A\n")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "A"}')
    with pytest.raises(DatasetError, match=r"in several files, .* and .*: keep one"):
        manifest()


def test_text_that_is_not_utf8_is_replaced_and_said(tmp_path, paint, manifest, captions):
    paint(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "metadata.csv").write_bytes(b"file_name,text\na.png,caf\xe9\n")
    (tmp_path / "b.txt").write_bytes(b"na\xefve")
    long = "x" * 200_000
    (tmp_path / "c.txt").write_text(long)
    result = manifest()
    assert captions(result) == [("a.png", "caf\ufffd"), ("b.png", "na\ufffdve"), ("c.png", long)]
    said = [(entry.file, entry.what, entry.first) for entry in result.account.left_out]
    assert said == [
        ("files beside images", "letter", "b.txt"),
        ("metadata.csv", "letter", "line 2"),
    ]
    assert "save the file as UTF-8" in result.account.left_out[1].why
    (tmp_path / "metadata.csv").write_text(f"file_name,text\na.png,{long}\n")
    assert captions(manifest())[0] == ("a.png", long)


def test_half_surrogates_become_replacement_characters(tmp_path, paint, manifest, captions):
    paint(tmp_path, "a.png")
    line = r'{"file_name": "a.png", "text": "\ud83d\ude00 \ud800!"}'
    (tmp_path / "metadata.jsonl").write_text(line)
    assert captions(manifest()) == [("a.png", "😀 �!")]


def test_metadata_whose_images_are_all_missing_are_refused_as_such(tmp_path, manifest):
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,A\n")
    with pytest.raises(DatasetError, match=r"images named in the metadata is there .* a\.png"):
        manifest()


def test_metadata_without_a_column_of_captions_is_said(tmp_path, paint, manifest, captions):
    paint(tmp_path, "a.png")
    (tmp_path / "metadata.csv").write_text("file_name,story\na.png,A\n")
    account = manifest().account
    assert account.lacks_captions
    assert account.used[0].unused == ("story",)
    assert captions(manifest(caption_column="Story")) == [("a.png", "A")]
    with pytest.raises(DatasetError, match=r"no column 'tale' of --caption-column; its columns:"):
        manifest(caption_column="tale")
    (tmp_path / "a.txt").write_text("a caption beside it")
    assert captions(manifest()) == [("a.png", "a caption beside it")]


@pytest.mark.parametrize(
    ("header", "used"),
    [
        ("File_Name, Text, Label", ("File_Name", "Text", "Label")),
        ("image;prompt;class", ("image", "prompt", "class")),
        ("filepath\ttitle\tcategory", ("filepath", "title", "category")),
        ("image path|description|labels", ("image path", "description", "labels")),
    ],
)
def test_columns_are_known_by_their_usual_names(
    tmp_path, paint, manifest, captions, labels, header, used
):
    paint(tmp_path, "a.png", "b.png")
    between = next(mark for mark in ("\t", ";", "|", ", ") if mark in header)
    lines = [header, between.join(["a.png", '"one, two"', "cat"]), between.join(["b.png", "", ""])]
    (tmp_path / "metadata.csv").write_text("\n".join(lines), encoding="utf-16")
    result = manifest()
    assert captions(result) == [("a.png", "one, two"), ("b.png", None)]
    assert labels(result) == {"a": ["cat"], "b": []}
    assert result.account.used[0].used == used


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.csv", "filepath\ttitle\nimages/a.jpg\tone\nimages/a.jpg\ttwo\nimages/b.jpg\tB\n"),
        (
            "results.csv",
            "image_name| comment_number| comment\na.jpg| 0| one\na.jpg| 1| two\nb.jpg| 0| B",
        ),
        ("x.token.txt", "a.jpg#0\tone\na.jpg#1\ttwo\nb.jpg#0\tB\n"),
        ("captions.json", '{"images/a.jpg": ["one", "two"], "images/b.jpg": "B"}'),
        (
            "meta.json",
            '[{"image": "A.JPG", "captions": ["one", "two"]}, {"image": "b", "text": "B"}]',
        ),
        (
            "meta.jsonl",
            '{"path": "/data/images/a.jpg", "text": ["one", "two"]}\n'
            '{"path": "b.jpg", "text": "B"}',
        ),
    ],
)
def test_the_only_table_of_captions_is_read_whatever_its_name(
    tmp_path, paint, manifest, captions, name, content
):
    paint(tmp_path, "images/a.jpg", "images/b.jpg")
    (tmp_path / name).write_text(content)
    expected = [("images/a.jpg", "one"), ("images/a.jpg", "two"), ("images/b.jpg", "B")]
    assert captions(manifest()) == expected
    (tmp_path / f"other-{name}").write_text(content)
    two = manifest()
    assert two.account.lacks_captions
    advice = {entry.what: entry.advice for entry in two.account.unused}
    assert advice[name] == f"--table {name} reads it"
    assert captions(manifest(table=tmp_path / name)) == expected


def test_text_beside_most_images_wins_over_a_table(tmp_path, paint, manifest, captions):
    paint(tmp_path, "00000/0.jpg", "00000/1.jpg")
    pq.write_table(pa.table({"key": ["0", "1"], "caption": ["A", "B"]}), tmp_path / "00000.parquet")
    assert captions(manifest()) == [("00000/0.jpg", "A"), ("00000/1.jpg", "B")]
    for number in range(2):
        (tmp_path / f"00000/{number}.txt").write_text(f"text {number}")
        (tmp_path / f"00000/{number}.json").write_text('{"caption": "json"}')
    result = manifest()
    assert captions(result) == [("00000/0.jpg", "text 0"), ("00000/1.jpg", "text 1")]
    unused = {entry.what: entry.advice for entry in result.account.unused}
    assert unused["00000.parquet"] == "--table 00000.parquet reads it"


def test_captions_lie_beside_images_in_files_of_several_kinds(tmp_path, paint, manifest, captions):
    paint(tmp_path, "a.png", "b.png", "c.png", "K\u00e4se.png", "d.png")
    (tmp_path / "a.caption").write_text("A")
    (tmp_path / "b.json").write_text('{"url": "u", "caption": ["B", null]}')
    (tmp_path / "c.png.TXT").write_text("C", encoding="utf-16")
    (tmp_path / "Ka\u0308se.txt").write_text("cheese")
    (tmp_path / "d.json").write_text("{")
    result = manifest()
    assert captions(result) == [
        ("K\u00e4se.png", "cheese"),
        ("a.png", "A"),
        ("b.png", "B"),
        ("c.png", "C"),
        ("d.png", None),
    ]
    assert [(entry.what, entry.first) for entry in result.account.left_out] == [
        ("caption", "b.json"),
        ("file", "d.json"),
    ]


def test_the_nearer_of_two_metadata_files_counts(tmp_path, paint, manifest, captions):
    paint(tmp_path, "train/a.png", "train/b.png", "test/c.png")
    (tmp_path / "metadata.csv").write_text(
        "file_name,text\ntrain/a.png,far\ntrain/b.png,B\ntest/c.png,C\nnowhere.png,N\n"
    )
    (tmp_path / "train/metadata.csv").write_text("file_name,text\ntrain/a.png,near\n")
    result = manifest(split="train")
    assert captions(result) == [("train/a.png", "near"), ("train/b.png", "B")]
    assert [(entry.why, entry.first) for entry in result.account.left_out] == [
        ("train/metadata.csv names the image too, nearer to it", "line 2"),
        ("no image has its name", "line 5"),
    ]


def test_a_few_images_beside_splits_are_left(tmp_path, paint, manifest, captions):
    paint(tmp_path, "preview.png", "train/a.png", "train/b.png", "val/c.png")
    result = manifest(split="train")
    assert captions(result) == [("train/a.png", None), ("train/b.png", None)]
    assert next(entry.what for entry in result.account.unused) == "preview.png"


def test_files_that_metadata_name_are_images_whatever_their_suffix(
    tmp_path, paint, manifest, captions
):
    paint(tmp_path, "a.png", "b.png")
    (tmp_path / "b.png").rename(tmp_path / "photo.jpg_large")
    (tmp_path / "metadata.csv").write_text("file_name,text\na,A\nphoto.jpg_large,B\n")
    result = manifest()
    assert captions(result) == [("a.png", "A"), ("photo.jpg_large", "B")]
    assert result.account.resolved[0].how == "suffix"


def test_a_file_for_labels_is_no_table_of_captions(tmp_path, paint, manifest, labels):
    paint(tmp_path, "a.png", "b.png")
    (tmp_path / "labels.csv").write_text("ImageID,LabelName,Confidence\na,cat,0\nb,dog,1\n")
    assert labels(manifest()) == {"a": [], "b": []}
    assert manifest().account.unused[0].what == "labels.csv"


def test_folders_called_like_splits_beside_others_are_said(tmp_path, paint, manifest):
    paint(tmp_path, "train/a.png", "val/b.png", "extras/c.png")
    result = manifest()
    assert result.rows.num_rows == 3
    assert result.account.unused[0].what == "folders called like splits (train, val)"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_columns_without_a_name_and_other_ends_of_lines(tmp_path, paint, manifest, captions, end):
    paint(tmp_path, "a.png", "b.png", "c.png")
    lines = [",file_name,text", '0,a.png,"A, a"', "1,b.png,B,", "2,c.png"]
    (tmp_path / "metadata.csv").write_bytes(end.join(lines).encode())
    result = manifest()
    assert captions(result) == [("a.png", "A, a"), ("b.png", "B"), ("c.png", None)]
    assert result.account.used[0].used == ("file_name", "text")
    assert result.account.left_out[0].why == "it has 2 columns, not 3"


def test_splits_may_lie_in_the_folder_that_holds_all_images(tmp_path, paint, manifest, captions):
    paint(tmp_path, "images/train/a.png", "images/val/b.png")
    (tmp_path / "images/train/metadata.csv").write_text("file_name,text\na.png,one\n")
    (tmp_path / "images/val/metadata.csv").write_text("file_name,text\nb.png,two\n")
    with pytest.raises(DatasetError, match="--split: images/train, images/val"):
        manifest()
    assert captions(manifest(split="train")) == [("images/train/a.png", "one")]
    assert captions(manifest(split="images/val")) == [("images/val/b.png", "two")]


def test_a_table_beside_the_splits_counts_for_each(tmp_path, paint, manifest, captions):
    paint(tmp_path, "train/a.png", "val/b.png")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/all.csv").write_text("image,caption\na.png,one\nb.png,two\n")
    assert captions(manifest(split="train")) == [("train/a.png", "one")]
    assert captions(manifest(split="val")) == [("val/b.png", "two")]


@pytest.mark.parametrize(
    ("image", "text"),
    [
        ("images/a.png", "captions/a.txt"),
        ("a.png", "texts/a.txt"),
        ("images/x/a.png", "text/x/a.txt"),
        ("IMG_1.PNG", "img_1.txt"),
        ("K\u00e4se.png", "Ka\u0308se.txt"),
    ],
)
def test_text_in_a_folder_of_its_own_or_in_another_case(
    tmp_path, paint, manifest, captions, image, text
):
    paint(tmp_path, image)
    (tmp_path / text).parent.mkdir(exist_ok=True, parents=True)
    (tmp_path / text).write_text("one")
    assert captions(manifest()) == [(image, "one")]


@pytest.mark.parametrize(
    "cell",
    [
        '["a cat", "it\'s \\"one\\""]',
        """['a cat', 'it\\'s "one"']""",
        ["a cat", 'it\'s "one"'],
    ],
)
def test_a_list_that_is_written_as_text_is_several_captions(
    tmp_path, paint, manifest, captions, cell
):
    paint(tmp_path, "a.png", "b.png")
    lines = [{"file_name": "a.png", "text": cell}, {"file_name": "b.png", "text": "[sic] 'no'"}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert captions(manifest()) == [
        ("a.png", "a cat"),
        ("a.png", 'it\'s "one"'),
        ("b.png", "[sic] 'no'"),
    ]


def test_what_programs_write_for_a_missing_text_is_no_caption(tmp_path, paint, manifest, captions):
    paint(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,NaN\nb.png,None\nc.png,none\n")
    result = manifest()
    assert captions(result) == [("a.png", None), ("b.png", None), ("c.png", "none")]
    assert [left_out.why for left_out in result.account.left_out] == ["it is NaN", "it is None"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("data.json", '{"version": "1", "data": [{"image": "a.png", "caption": "one"}]}'),
        ("data.json", '{"data":\n [{"image": "a.png",\n "caption": "one"}]}'),
        ("data.json", '{"image": ["a.png"], "caption": ["one"]}'),
        ("data.json", '{"image": {"0": "a.png"}, "caption": {"0": "one"}}'),
        ("data.jsonlines", '{"image_file": "a.png", "caption": "one", "parts": [{"x": 1}]}'),
        ("metadata.csv", "sep=;\nfile_name;text\na.png;one\n"),
        ("metadata.csv", "file_name,text\na.png,one\n".encode("utf-32")),
        ("metadata.csv", "file_name,text\nhttps://lab.org/x/a.png?size=3,one\n"),
    ],
)
def test_tables_as_programs_write_them(tmp_path, paint, write, manifest, captions, name, content):
    paint(tmp_path, "a.png")
    write(name, content)
    assert captions(manifest()) == [("a.png", "one")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:a\n", "git lfs pull"),
        ("<!DOCTYPE html><html>404</html>", "is a web page and no table: download the file again"),
        ("file_name,text\n7.png,one\n", "its images have names such as a.png"),
    ],
)
def test_metadata_that_are_something_else_are_refused_with_the_way_out(
    tmp_path, paint, write, manifest, content, message
):
    paint(tmp_path, "a.png")
    write("metadata.csv", content)
    with pytest.raises(DatasetError, match=message):
        manifest()


def test_images_that_git_lfs_has_not_fetched_are_said(tmp_path, write, manifest):
    write("a.png", "version https://git-lfs.github.com/spec/v1\noid sha256:a\n")
    assert manifest().account.notes == (
        "images are pointers of Git LFS: fetch them with git lfs pull",
    )


def test_keys_of_json_beside_images_that_are_no_captions_are_named(
    tmp_path, paint, manifest, captions
):
    paint(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "a.json").write_text('{"short": "one", "label": "x"}')
    (tmp_path / "b.json").write_text('{"short": "two"}')
    (tmp_path / "c.json").write_text('["three", "four"]')
    result = manifest()
    assert captions(result) == [
        ("a.png", None), ("b.png", None), ("c.png", "three"), ("c.png", "four"),
    ]  # fmt: skip
    assert "not used  2 .json files: short, label (--caption-column NAME for captions; " in (
        "\n".join(result.account.lines())
    )
    assert captions(manifest(caption_column="short"))[:2] == [("a.png", "one"), ("b.png", "two")]


def test_parts_of_a_table_are_read_as_one(tmp_path, paint, manifest, captions):
    paint(tmp_path, "a.png", "b.png")
    (tmp_path / "part-00000.csv").write_text("image,caption\na.png,one\n")
    (tmp_path / "part-00001.csv").write_text("image,caption\nb.png,two\n")
    assert captions(manifest()) == [("a.png", "one"), ("b.png", "two")]


def test_lists_that_are_written_as_text_are_several_classes(tmp_path, paint, manifest, labels):
    paint(tmp_path, "a.png", "b.png")
    (tmp_path / "metadata.csv").write_text("file_name,label\na.png,\"['cat', 'dog']\"\nb.png,nan\n")
    assert labels(manifest()) == {"a": ["cat", "dog"], "b": []}
