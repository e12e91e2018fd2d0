"""What other programs export as COCO, and what people make of its files."""

import json

import pytest

from sparc.common.errors import DatasetError
from sparc.extract.datasets import DatasetOptions, open_dataset

SQUARE = [[2.0, 1.0, 5.0, 1.0, 5.0, 4.0, 2.0, 4.0]]
OBJECT = {"id": 1, "image_id": 0, "category_id": 1, "segmentation": SQUARE, "iscrowd": 0}
CAPTION = {"id": 1, "image_id": 0, "caption": "a red fish"}
CATEGORIES = [{"id": 1, "name": "cat", "supercategory": "animal"}]


def document(*annotations, names=("0.jpg", "1.jpg"), key="file_name", **more):
    images = [{"id": n, key: name, "height": 6, "width": 8} for n, name in enumerate(names)]
    return json.dumps({"images": images, "annotations": annotations, **more})


OBJECTS = document(OBJECT, categories=CATEGORIES)


@pytest.mark.parametrize(
    ("file", "pictures", "names"),
    [
        ("labels.json", "data", ("0.jpg", "1.jpg")),  # FiftyOne
        ("result.json", "images", ("images/0.jpg", "images/1.jpg")),  # Label Studio
        ("result.json", "images", ("..\\..\\files\\0.jpg", "..\\..\\files\\1.jpg")),
        ("_annotations.coco.json", ".", ("0.jpg", "1.jpg")),  # Roboflow, one split
        ("annotations/coco.json", "images", ("0.jpg", "1.jpg")),
        ("export/annotations.json", "export/images", ("0.jpg", "1.jpg")),
        ("anything.json", "pictures", ("/mnt/data/0.jpg", "/mnt/data/1.jpg")),
        ("annotations/instances.json", "images/default", ("0.jpg", "1.jpg")),
    ],
)
def test_an_undivided_export(tmp_path, paint, write, manifest, labels, file, pictures, names):
    paint(tmp_path / pictures, "0.jpg", "1.jpg")
    write(file, document(OBJECT, names=names, categories=CATEGORIES))
    result = manifest(masks=True)
    assert (result.dataset_format, result.split) == ("coco", "")
    prefix = "" if pictures == "." else f"{pictures}/"
    assert result.rows["image"].to_pylist() == [f"{prefix}0.jpg", f"{prefix}1.jpg"]
    assert labels(result) == {"0": ["cat"], "1": []}
    assert len(result.masks) == 1
    assert "captions  NONE: no row has a caption" in result.account.lines()
    assert manifest(holdout=0.5, split="train").rows.num_rows == 1


@pytest.mark.parametrize(
    ("files", "pictures"),
    [
        (("train/_annotations.coco.json", "valid/_annotations.coco.json"), ("train", "valid")),
        (("train/labels.json", "valid/labels.json"), ("train/data", "valid/data")),
        (("annotations/train.json", "annotations/valid.json"), ("train", "valid")),
        (("my_train_coco.json", "my_valid_coco.json"), ("images/train", "images/valid")),
    ],
)
def test_an_export_of_several_splits(tmp_path, paint, write, manifest, labels, files, pictures):
    for number, (file, folder) in enumerate(zip(files, pictures, strict=True)):
        paint(tmp_path / folder, "0.jpg", "1.jpg")
        annotation = {**OBJECT, "image_id": number}
        write(file, document(annotation, categories=CATEGORIES))
    with pytest.raises(DatasetError, match="choose one with --split: train, valid"):
        manifest()
    result = manifest(split="val")
    assert result.rows["image"].to_pylist() == [f"{pictures[1]}/0.jpg", f"{pictures[1]}/1.jpg"]
    assert labels(result) == {"0": [], "1": ["cat"]}
    said = list(result.account.lines())
    assert said[-1].startswith("not used  3 files of other splits")
    # A picture of another split is not taken for one that is missing.
    (tmp_path / pictures[1] / "1.jpg").unlink()
    assert manifest(split="val").rows["image"].to_pylist()[1] == f"{pictures[1]}/1.jpg"


def test_captions_and_objects_in_one_document(tmp_path, paint, write, manifest, captions, labels):
    paint(tmp_path, "0.jpg", "1.jpg")
    write("all.json", document(CAPTION, {**OBJECT, "image_id": 1}, categories=CATEGORIES))
    result = manifest()
    assert captions(result) == [("0.jpg", "a red fish"), ("1.jpg", None)]
    assert labels(result) == {"0": [], "1": ["cat"]}
    assert not result.account.left_out


def test_several_captions_in_one_annotation(tmp_path, paint, write, manifest, captions):
    paint(tmp_path, "0.jpg", "1.jpg")
    listed = {**CAPTION, "caption": ["a red fish", None, "a fish"], "by": "x"}
    write("captions_val.json", document(listed, {**CAPTION, "image_id": 1}))
    result = manifest(columns=("by",))
    assert captions(result) == [
        ("0.jpg", "a red fish"),
        ("0.jpg", "a fish"),
        ("1.jpg", "a red fish"),
    ]
    assert result.rows["by"].to_pylist() == ["x", "x", None]


def test_captions_in_another_folder(tmp_path, paint, write, manifest, captions):
    paint(tmp_path / "pictures", "0.jpg", "1.jpg")
    write("texts/captions_train.json", document(CAPTION))
    assert captions(manifest()) == [("pictures/0.jpg", "a red fish"), ("pictures/1.jpg", None)]


def test_files_of_other_tasks_are_named(tmp_path, paint, write, manifest, labels):
    paint(tmp_path / "val2017", "0.jpg", "1.jpg")
    write("annotations/captions_val2017.json", document(CAPTION))
    other = "annotations/person_keypoints_val2017.json"
    write(other, OBJECTS)
    assert f"not used  {other}" in manifest().account.lines()
    (tmp_path / "annotations/captions_val2017.json").unlink()
    assert labels(manifest()) == {"0": ["cat"], "1": []}


def test_lvis(tmp_path, paint, write, manifest, labels):
    paint(tmp_path / "train2017", "0.jpg", "1.jpg")
    urls = [f"http://images.cocodataset.org/train2017/{n}.jpg" for n in (0, 1)]
    categories = [{"id": 1, "name": "aerosol_can", "synset": "aerosol.n.02"}]
    lvis = document(OBJECT, names=urls, key="coco_url", categories=categories)
    write("lvis_v1_val.json", lvis)
    result = manifest(masks=True)
    assert (result.dataset_format, result.split) == ("lvis", "val")
    assert result.rows["image"].to_pylist() == ["train2017/0.jpg", "train2017/1.jpg"]
    assert labels(result) == {"0": ["aerosol_can"], "1": []}
    assert len(result.masks) == 1
    # Beside COCO's own files it is not read, but with the option.
    write("annotations/captions_train2017.json", document(CAPTION))
    result = manifest()
    assert result.dataset_format == "coco"
    assert "not used  lvis_v1_val.json (--format lvis reads it)" in result.account.lines()
    assert manifest(format="lvis").classes.num_rows == 1


@pytest.mark.parametrize(
    ("name", "picture"),
    [
        ("part/0.jpg", "train2017/part/0.jpg"),
        ("0.jpg", "train2017/part/0.jpg"),
        ("train2017\\0.jpg", "train2017/0.jpg"),
        ("0.JPG", "train2017/0.jpg"),
        ("/data/coco/train2017/0.jpg", "images/0.jpg"),
        ("train%202017/0.jpg", "train 2017/0.jpg"),
    ],
)
def test_names_in_another_form(tmp_path, paint, write, manifest, name, picture):
    paint(tmp_path, picture)
    write("annotations/captions_train2017.json", document(CAPTION, names=(name,)))
    assert manifest().rows["image"].to_pylist() == [picture]


def test_a_name_that_may_be_two_files_is_refused(tmp_path, paint, write, manifest):
    paint(tmp_path / "train2017", "a/0.jpg", "b/0.jpg")
    write("annotations/captions_train2017.json", document(CAPTION, names=("0.jpg",)))
    with pytest.raises(DatasetError, match=r"'0\.jpg' in the metadata may be"):
        manifest()


def test_categories_as_programs_write_them(tmp_path, paint, write, manifest):
    paint(tmp_path, "0.jpg", "1.jpg")
    categories = [
        {"id": 0, "name": "pets", "supercategory": "none"},  # Roboflow
        {"id": 1, "name": 7, "supercategory": "pets"},
        {"id": 2, "name": "odd", "supercategory": ["x"]},
        {"id": 3, "name": "hen", "supercategory": "egg"},
        {"id": 4, "name": "egg", "supercategory": "hen"},
        {"id": 5, "name": "chick", "supercategory": "egg"},
    ]
    objects = [{"image_id": 0.0, "category_id": n} for n in range(6)]
    write("labels.json", document(*objects, categories=categories))
    result = manifest()
    lines = {
        line["name"]: (line["parent_id"], line["depth"]) for line in result.classes.to_pylist()
    }
    ids = {name: number for number, name in enumerate(result.classes["name"].to_pylist())}
    assert lines == {
        "pets": (None, 1),
        "7": (ids["pets"], 2),
        "odd": (None, 1),
        "hen": (None, 1),
        "egg": (None, 1),
        "chick": (ids["egg"], 2),
    }
    assert [str(line).partition(": ")[2] for line in result.account.left_out] == [
        "1 parent class left out: the supercategory is not text (categories[2])",
        "2 parent classes left out: the category would be below itself (the first is category hen)",
    ]


def test_sizes_that_are_written_as_floats(tmp_path, paint, write, manifest):
    paint(tmp_path, "0.jpg")
    images = [{"id": 0, "file_name": "0.jpg", "height": 6.0, "width": 8.0}]
    content = {"images": images, "annotations": [OBJECT], "categories": CATEGORIES}
    write("labels.json", json.dumps(content))
    assert manifest(masks=True).masks["height"].to_pylist() == [6]


def test_other_documents_are_not_taken_for_coco(tmp_path, paint, write):
    paint(tmp_path, "0.jpg")
    write("settings.json", json.dumps({"images": 5, "annotations": []}))
    write("list.json", json.dumps({"images": [{"url": "x"}], "annotations": [{"caption": "x"}]}))
    write("panoptic.json", document({"image_id": 0, "segments_info": []}, categories=CATEGORIES))
    write("broken.json", '{"images": [')
    assert open_dataset(tmp_path, DatasetOptions()).manifest().dataset_format == "folder"


@pytest.mark.parametrize(
    ("file", "content"),
    [("0.txt", "a red fish"), ("metadata.csv", "file_name,text\n0.jpg,a red fish\n")],
)
def test_an_export_beside_other_captions_waits_for_its_option(
    tmp_path, paint, write, manifest, captions, file, content
):
    paint(tmp_path, "0.jpg", "1.jpg")
    write(file, content)
    write("labels.json", OBJECTS)
    result = manifest()
    assert captions(result)[0] == ("0.jpg", "a red fish")
    assert "not used  labels.json (--format coco reads it)" in result.account.lines()
    assert manifest(format="coco").classes.num_rows


def test_which_keys_are_used_is_said(tmp_path, paint, write, manifest):
    paint(tmp_path, "0.jpg", "1.jpg")
    write("labels.json", document({**OBJECT, "area": 9}, categories=CATEGORIES))
    lines = list(manifest(columns=("width",)).account.lines())
    assert lines[-2:] == [
        "used      labels.json: id, file_name, image_id, category_id, width",
        "not used  labels.json: height, segmentation, iscrowd, area (--masks reads segmentation, "
        "--column NAME keeps one of images or captions)",
    ]
