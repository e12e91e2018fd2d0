"""Class folders: names of folders are labels where they can only be classes, or on request."""

import json

import pytest

from sparc.common.errors import DatasetError
from sparc.extract.datasets.labels import classes

TENCH, SHARK = "n01440764", "n01484850"


def test_folders_of_imagenet_are_classes_with_names_and_places(tmp_path, paint, manifest, labels):
    paint(tmp_path, f"train/{TENCH}/a.JPEG", f"train/{SHARK}/deep/b.JPEG", f"val/{SHARK}/c.JPEG")
    (tmp_path / "LOC_synset_mapping.txt").write_text(
        f"{TENCH} tench, Tinca tinca\n{SHARK} great white shark\nn02512053 fish\n"
    )
    (tmp_path / "wordnet.is_a.txt").write_text(
        f"n00001740 n02512053\nn02512053 {TENCH}\nn02512053 {SHARK}\nn00001740 n00002684\n"
    )
    result = manifest(split="train")
    assert result.dataset_format == "class-folders"
    assert labels(result) == {
        f"train/{TENCH}/a": ["tench, Tinca tinca"],
        f"train/{SHARK}/deep/b": ["great white shark"],
    }
    assert result.classes.select(["key", "name", "parent_id", "depth"]).to_pylist() == [
        {"key": "n02512053", "name": "fish", "parent_id": None, "depth": 1},
        {"key": TENCH, "name": "tench, Tinca tinca", "parent_id": 0, "depth": 2},
        {"key": SHARK, "name": "great white shark", "parent_id": 0, "depth": 2},
    ]
    assert [(entry.what, entry.files) for entry in result.account.used] == [(".txt files", 2)]


def test_the_same_folders_in_two_splits_are_classes(tmp_path, paint, manifest, labels):
    paint(tmp_path, "train/cat/a.jpg", "train/dog/b.jpg", "val/cat/c.jpg", "val/dog/d.jpg")
    assert labels(manifest(split="val")) == {"val/cat/c": ["cat"], "val/dog/d": ["dog"]}
    (tmp_path / "train/cat/a.TXT").write_text("a caption")
    result = manifest(split="train")
    assert (result.dataset_format, result.account.captioned) == ("folder", 1)


def test_names_of_other_folders_are_no_labels_but_said(tmp_path, paint, manifest, labels):
    paint(tmp_path, "cat/a.jpg", "dog/b.jpg")
    result = manifest()
    assert result.dataset_format == "folder"
    assert labels(result) == {"cat/a": [], "dog/b": []}
    assert [(entry.what, entry.advice) for entry in result.account.unused] == [
        ("names of 2 folders (cat, dog)", "--format class-folders takes them for classes")
    ]
    asked = manifest(format="class-folders")
    assert labels(asked) == {"cat/a": ["cat"], "dog/b": ["dog"]}
    assert asked.account.unused == ()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("names.json", json.dumps({"0": ["cat", "a cat"], "1": ["dog", "a dog"]})),
        ("names.json", json.dumps({"cat": "a cat", "dog": "a dog"})),
        ("names.json", json.dumps(["a cat", "a dog"])),
        ("names.txt", "cat\ta cat\ndog\ta dog\n"),
        ("names.csv", "LabelName,DisplayName\ncat,a cat\ndog,a dog\n"),
        ("names.txt", "a cat\na dog\n"),
    ],
)
def test_names_come_from_files_in_many_forms(tmp_path, paint, manifest, labels, name, content):
    paint(tmp_path, "cat/a.jpg", "dog/b.jpg")
    (tmp_path / name).write_text(content)
    result = manifest(format="class-folders", classes=tmp_path / name)
    assert labels(result) == {"cat/a": ["a cat"], "dog/b": ["a dog"]}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("LOC_val_solution.csv", "ImageId,PredictionString\nv_2,b 1 2 3 4 \nv_1,a 1 2 3 4 \n"),
        ("val_annotations.txt", "v_1.jpg\ta\t0\t32\nv_2.jpg\tb\t0\t32\n"),
        ("ILSVRC2012_validation_ground_truth.txt", "1\n2\n"),
    ],
)
def test_flat_images_have_classes_of_a_list(tmp_path, paint, manifest, labels, name, content):
    paint(tmp_path, "flat/v_1.jpg", "flat/v_2.jpg")
    (tmp_path / name).write_text(content)
    keys = ["1", "2"] if "ground" in name else ["a", "b"]
    said = {entry.what: entry.advice for entry in manifest().account.unused}
    assert said[name] == "--format class-folders reads classes of it"
    assert labels(manifest(format="class-folders")) == {
        "flat/v_1": [keys[0]],
        "flat/v_2": [keys[1]],
    }


def test_a_file_too_long_for_a_list_of_classes_is_not_read(
    tmp_path, paint, manifest, labels, monkeypatch
):
    monkeypatch.setattr(classes, "LARGEST_TEXT", 20)
    paint(tmp_path, "cat/a.jpg", "dog/b.jpg")
    (tmp_path / "classes.txt").write_text("cat\ta cat\ndog\ta dog, long\n")
    (tmp_path / "words.txt").write_text("a cat\na dog\n")
    result = manifest(format="class-folders")
    assert labels(result) == {"cat/a": ["a cat"], "dog/b": ["a dog"]}
    assert [entry.what for entry in result.account.unused] == ["classes.txt"]


def test_what_describes_no_folder_is_refused(tmp_path, paint, manifest):
    paint(tmp_path, "a.jpg")
    with pytest.raises(DatasetError, match="has no folders below it that images lie in"):
        manifest(format="class-folders")
    paint(tmp_path, "cat/a.jpg", "dog/b.jpg", "bird/c.jpg")
    (tmp_path / "names.txt").write_text("one\ntwo\n")
    with pytest.raises(DatasetError, match=r"names\.txt names none of 3 class folders"):
        manifest(format="class-folders", classes=tmp_path / "names.txt")
    (tmp_path / "tree.txt").write_text("animal cat\nanimal\n")
    with pytest.raises(DatasetError, match=r"tree\.txt, line 2 needs two classes"):
        manifest(format="class-folders", hierarchy=tmp_path / "tree.txt")
