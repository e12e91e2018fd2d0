import json

import pytest

from sparc.common.errors import DatasetError


@pytest.fixture
def files(tmp_path_factory):
    """Labels, classes and hierarchy, outside of the dataset; each may be replaced."""

    def write(labels, classes="/cat,Cat\n/animal,Animal\n", hierarchy=None):
        folder = tmp_path_factory.mktemp("labels")
        (folder / "labels.csv").write_text(labels)
        (folder / "classes.csv").write_text(classes)
        tree = {
            "LabelName": "/entity",
            "Subcategory": [{"LabelName": "/animal", "Subcategory": [{"LabelName": "/cat"}]}],
        }
        (folder / "hierarchy.json").write_text(json.dumps(hierarchy or tree))
        return {name: folder / f"{name}.csv" for name in ("labels", "classes")} | {
            "hierarchy": folder / "hierarchy.json"
        }

    return write


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        ("x/a", "y/b", "sample id"),
        ("x/a.png", "y/b.png", "path"),
        ("a.png", "b.png", "file name"),
        ("a", "b", "file name without suffix"),
    ],
)
def test_labels_come_by_any_unambiguous_name(
    tmp_path, paint, manifest, labels, files, capsys, first, second, kind
):
    paint(tmp_path, "x/a.png", "y/b.png", "z/c.png", "w/c.png")
    (tmp_path / "metadata.csv").write_text("file_name,labels\nx/a.png,its own\n")
    csv = f"Source,ImageID,LabelName,Confidence\nv,{second},/cat,1\nv,{second},/dog,0\n"
    csv += f"v,{first},/dog,1.0\nv,{first},/entity,1\nv,{first},/dog,1\nv,stranger,/cat,1\n"
    csv += "v,c,/cat,1\n" if kind != "file name" else "v,c.png,/cat,1\n"
    result = manifest(**files(csv))
    assert labels(result) == {"x/a": ["/entity", "/dog"], "y/b": ["Cat"], "z/c": [], "w/c": []}
    assert result.classes["key"].to_pylist() == ["/entity", "/animal", "/cat", "/dog"]
    assert result.classes["depth"].to_pylist() == [0, 1, 2, 1]
    said = capsys.readouterr().err
    assert f"2 images of 4 labelled, by {kind}; 2 of 6 labels name no image" in said
    table, *_ = (files for files in result.account.used if files.what.endswith("labels.csv"))
    assert (table.used, table.unused) == (("ImageID", "LabelName", "Confidence"), ("Source",))


def test_kinds_of_names_are_never_mixed(tmp_path, paint, manifest, labels, files):
    # The ids of these images are the file names of other ones.
    (tmp_path / "images").mkdir()
    paint(tmp_path, "images/1.png", "images/2.png", "images/3.png")
    images = [
        {"id": 2, "file_name": "1.png"},
        {"id": 3, "file_name": "2.png"},
        {"id": 4, "file_name": "3.png"},
    ]
    document = {"images": images, "annotations": []}
    (tmp_path / "captions_val.json").write_text(json.dumps(document))
    by_name = "ImageID,LabelName,Confidence\n" + "".join(f"{n},/n{n},1\n" for n in (1, 2, 3))
    assert labels(manifest(**files(by_name))) == {"2": ["/n1"], "3": ["/n2"], "4": ["/n3"]}
    by_id = "ImageID,LabelName,Confidence\n" + "".join(f"{n},/n{n},1\n" for n in (2, 3, 4))
    assert labels(manifest(**files(by_id))) == {"2": ["/n2"], "3": ["/n3"], "4": ["/n4"]}


def test_columns_in_another_case_cells_with_spaces_and_paths_with_a_dot(
    tmp_path, paint, manifest, labels, files
):
    paint(tmp_path, "a.png", "b.png")
    content = (
        "imageID, labelname ,confidence\n./a.png, /cat, 1\n./a.png, /dog, 0\nb.png , /dog,1.0\n"
    )
    assert labels(manifest(**files(content, "LabelName,DisplayName\n/cat , Cat\n"))) == {
        "a": ["Cat"],
        "b": ["/dog"],
    }


def test_the_order_of_lines_does_not_matter(tmp_path, paint, manifest, files):
    paint(tmp_path, *(f"{n}.png" for n in range(6)))
    lines = [f"{n},/c{n % 4},1\n" for n in range(6)]
    header = "ImageID,LabelName,Confidence\n"
    one = manifest(**files(header + "".join(lines)))
    other = manifest(**files(header + "".join(reversed(lines)), "LabelName,DisplayName\n"))
    assert one.rows == other.rows
    assert one.classes == other.classes


def test_labels_of_nothing_here_are_refused(tmp_path, paint, manifest, files):
    paint(tmp_path, "a.png")
    with pytest.raises(DatasetError, match=r"labels none.*names 'zebra', an image here is 'a'"):
        manifest(**files("ImageID,LabelName,Confidence\nzebra,/cat,1\n"))
    with pytest.raises(DatasetError, match="it has no label"):
        manifest(**files("ImageID,LabelName,Confidence\na,/cat,0\n"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "needs the columns ImageID and LabelName"),
        ("Image,Label\na,b\n", "not Image,Label"),
        ("ImageID,LabelName,Confidence\na,/cat,high\n", "line 2: its Confidence is 'high'"),
        ("ImageID,LabelName,Confidence\na,/cat\n", "a,/cat: it has not the header's 3 columns"),
    ],
)
def test_broken_labels_are_named(tmp_path, paint, manifest, files, content, message):
    paint(tmp_path, "a.png")
    with pytest.raises(DatasetError, match=rf"labels\.csv.*{message}"):
        manifest(**files(content))


def test_one_bad_line_is_one_line_left_out(tmp_path, paint, manifest, labels, files):
    paint(tmp_path, "a.png", "b.png")
    lines = ["a,/cat,1", "b,/cat", "b,/cat,high", ",/cat,1", "b,,1", "b,/dog,1.0", "caf\xe9,x,1"]
    given = files("")
    text = "\n".join(["ImageID,LabelName,Confidence", "", *lines])
    given["labels"].write_bytes(text.encode("latin-1"))
    result = manifest(**given)
    assert labels(result) == {"a": ["Cat"], "b": ["/dog"]}
    assert [(entry.why, entry.records) for entry in result.account.left_out] == [
        ("it has not the header's 3 columns", 1),
        ("it has no ImageID or no LabelName", 2),
        ("its Confidence is 'high'", 1),
    ]
    with pytest.raises(DatasetError, match=r"labels\.csv: 1 line left out.*without --strict"):
        manifest(**given, strict=True)


def test_a_column_of_other_texts_as_confidence_is_a_few_reasons(tmp_path, paint, manifest, files):
    paint(tmp_path, "a.png")
    lines = [f"a,/cat,text {number}" for number in range(300)]
    account = manifest(
        **files("\n".join(["ImageID,LabelName,Confidence", *lines, "a,/cat,1"]))
    ).account
    (*named, others) = account.left_out
    assert {entry.records for entry in named} == {1}
    assert (others.why, others.first) == ("its Confidence is no number", "line 12")
    assert len(named) + others.records == 300


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [";", "\t"])
def test_encodings_and_separators(tmp_path, paint, manifest, labels, files, encoding, separator):
    paint(tmp_path, "\xe4.png")
    given = files("")
    text = 'ImageID,LabelName\n\xe4.png,"/cat"\n'.replace(",", separator)
    given["labels"].write_bytes(text.encode(encoding))
    assert labels(manifest(**given)) == {"\xe4": ["Cat"]}


def test_ids_in_another_form(tmp_path, paint, manifest, labels, files, capsys):
    paint(tmp_path, "train/a/0.png", "train/b/0.png", "val/a/1.png", "val/a/2.png")
    for written in ("a/0.PNG", "data/train/a/0.png", "a\\0.png", "C:/x/train/a/0.jpg"):
        result = manifest(split="train", **files(f"ImageID,LabelName\n{written},/cat\n"))
        assert labels(result) == {"train/a/0": ["Cat"], "train/b/0": []}
        assert "by path in another form; 0 of 1 label" in capsys.readouterr().err
        (resolved,) = result.account.resolved
        assert (resolved.names, resolved.example) == (1, written)
    # Beside others that fit exactly; labels of another split's images come to none of this one.
    mixed = files("ImageID,LabelName\ntrain/b/0.png,/dog\ntrain/a/0.PNG,/cat\nval/a/1.PNG,/x\n")
    assert labels(manifest(split="train", **mixed)) == {
        "train/a/0": ["Cat"],
        "train/b/0": ["/dog"],
    }
    assert "2 images of 2 labelled, by path; 1 of 3 labels" in capsys.readouterr().err
    with pytest.raises(DatasetError, match=r"labels none.*'0.png'.*it fits several images"):
        manifest(split="train", **files("ImageID,LabelName\n0.png,/cat\n"))


def test_a_table_of_labels_that_lies_there_is_named_with_its_option(
    tmp_path, paint, write, manifest, labels
):
    paint(tmp_path, "a.png")
    write("some.csv", "ImageID;Source;LabelName\na;v;/cat\n")
    write("other.csv", "a,b\n1,2\n")
    result = manifest()
    assert {files.what: files.advice for files in result.account.unused}["some.csv"] == (
        f"--labels {tmp_path}/some.csv"
    )
    result = manifest(labels=tmp_path / "some.csv")
    assert labels(result) == {"a": ["/cat"]}
    assert [files.what for files in result.account.used] == ["some.csv"]


def test_broken_classes_and_missing_files_are_named(tmp_path, paint, manifest, files):
    paint(tmp_path, "a.png")
    good = "ImageID,LabelName\na,/cat\n"
    with pytest.raises(DatasetError, match=r"classes\.csv, line 2 needs two columns"):
        manifest(**files(good, "/cat,Cat\n/dog\n"))
    given = files(good)
    given["labels"].unlink()
    with pytest.raises(DatasetError, match=r"cannot read .*labels\.csv: No such file"):
        manifest(**given)
