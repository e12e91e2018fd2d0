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
    assert f"2 images of 4 labelled, by {kind}; 2 of 4 labelled ids" in said


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
        ("Image,Label\na,b\n", "not Image, Label"),
        ("ImageID,LabelName,Confidence\na,/cat,high\n", "line 2: a label needs"),
        ("ImageID,LabelName,Confidence\na,/cat\n", "line 2: a label needs"),
    ],
)
def test_broken_labels_are_named(tmp_path, paint, manifest, files, content, message):
    paint(tmp_path, "a.png")
    with pytest.raises(DatasetError, match=rf"labels\.csv.*{message}"):
        manifest(**files(content))


def test_broken_classes_and_missing_files_are_named(tmp_path, paint, manifest, files):
    paint(tmp_path, "a.png")
    good = "ImageID,LabelName\na,/cat\n"
    with pytest.raises(DatasetError, match=r"classes\.csv, line 2 needs two columns"):
        manifest(**files(good, "/cat,Cat\n/dog\n"))
    given = files(good)
    given["labels"].unlink()
    with pytest.raises(DatasetError, match=r"cannot read .*labels\.csv: No such file"):
        manifest(**given)
