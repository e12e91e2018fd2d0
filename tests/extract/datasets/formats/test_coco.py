import json

import numpy as np
import pytest

from sparc.common import rle
from sparc.common.cache import tables
from sparc.common.errors import DatasetError
from sparc.extract.datasets import DatasetOptions, open_dataset


def document(**more):
    return {
        "images": [
            {"id": 30, "file_name": "c.jpg", "height": 6, "width": 8},
            {"id": 10, "file_name": "a.jpg", "height": 6, "width": 8},
            {"id": 20, "file_name": "b.jpg", "height": 6, "width": 8},
        ],
        **more,
    }


CAPTIONS = [
    {"id": 1, "image_id": 10, "caption": "first of a"},
    {"id": 2, "image_id": 30, "caption": "of c"},
    {"id": 3, "image_id": 10, "caption": "second of a"},
    {"id": 4, "image_id": 99, "caption": "of nothing"},
]
CATEGORIES = [
    {"id": 1, "name": "person", "supercategory": "person"},
    {"id": 18, "name": "dog", "supercategory": "animal"},
    {"id": 90, "name": "poodle", "supercategory": "dog"},
    {"id": 91, "name": "thing"},
]
SQUARE = [2.0, 1.0, 5.0, 1.0, 5.0, 4.0, 2.0, 4.0]
OBJECTS = [
    {"id": 1, "image_id": 10, "category_id": 90, "segmentation": [SQUARE], "iscrowd": 0},
    {"id": 2, "image_id": 10, "category_id": 90, "segmentation": [SQUARE], "iscrowd": 0},
    {
        "id": 3,
        "image_id": 20,
        "category_id": 1,
        "segmentation": {"size": [6, 8], "counts": [6, 6, 36]},
        "iscrowd": 1,
    },
    {
        "id": 4,
        "image_id": 20,
        "category_id": 91,
        "segmentation": {"size": [6, 8], "counts": "66T1"},
        "iscrowd": 1,
    },
]


@pytest.fixture
def coco(tmp_path, paint):
    """A dataset in COCO's layout; images under the folder that is given."""

    def build(images="val2017", split="val2017", objects=OBJECTS):
        paint(tmp_path / images, "a.jpg", "b.jpg", "c.jpg")
        folder = tmp_path / "annotations"
        folder.mkdir(exist_ok=True)
        captions = document(annotations=CAPTIONS)
        (folder / f"captions_{split}.json").write_text(json.dumps(captions))
        instances = document(annotations=objects, categories=CATEGORIES)
        (folder / f"instances_{split}.json").write_text(json.dumps(instances))

    return build


@pytest.mark.parametrize("images", ["val2017", "images/val2017", "images", "."])
def test_captions_by_image(tmp_path, coco, manifest, captions, capsys, images):
    coco(images)
    result = manifest()
    prefix = "" if images == "." else f"{images}/"
    assert captions(result) == [
        (f"{prefix}c.jpg", "of c"),
        (f"{prefix}a.jpg", "first of a"),
        (f"{prefix}a.jpg", "second of a"),
        (f"{prefix}b.jpg", None),
    ]
    assert result.rows["sample_id"].to_pylist() == ["30", "10", "10", "20"]
    assert (result.dataset_format, result.split) == ("coco", "val2017")
    assert [str(entry).partition(": ")[2] for entry in result.account.left_out] == [
        "1 caption left out: its image is not listed (annotations[3])"
    ]
    opened = open_dataset(tmp_path, DatasetOptions())
    assert opened.read_image(f"{prefix}a.jpg") == (tmp_path / images / "a.jpg").read_bytes()


def test_categories_are_labels_and_supercategories_the_hierarchy(coco, manifest, labels):
    coco()
    result = manifest()
    assert labels(result) == {"30": [], "10": ["poodle"], "20": ["person", "thing"]}
    lines = {
        (line["key"], line["name"]): (line["parent_id"], line["depth"])
        for line in result.classes.to_pylist()
    }
    keys = result.classes["key"].to_pylist()
    assert lines == {
        ("supercategory/person", "person"): (None, 1),
        ("1", "person"): (keys.index("supercategory/person"), 2),
        ("supercategory/animal", "animal"): (None, 1),
        ("18", "dog"): (keys.index("supercategory/animal"), 2),
        ("90", "poodle"): (keys.index("18"), 3),
        ("91", "thing"): (None, 1),
    }


def test_masks_one_line_an_object(coco, manifest):
    broken = [
        {"image_id": 10, "category_id": 1, "segmentation": segmentation}
        for segmentation in ([[1, 2, 3]], [["x"] * 6], [[float("nan")] * 6], "text", {"size": [6]})
    ]
    boxed = [{"image_id": 10, "category_id": 1, "segmentation": []}]
    coco(objects=OBJECTS + broken + boxed)
    result = manifest(masks=True)
    assert result.masks.schema == tables.MASKS
    keys = result.classes["key"].to_pylist()
    lines = [
        (m["sample_id"], keys[m["class_id"]], rle.decode(m["counts"], m["height"], m["width"]))
        for m in result.masks.to_pylist()
    ]
    assert [line[:2] for line in lines] == [("10", "90"), ("10", "90"), ("20", "1"), ("20", "91")]
    square = np.zeros((6, 8), bool)
    square[1:4, 2:5] = True
    column = np.zeros((6, 8), bool)
    column[:, 1] = True
    for (_, _, mask), expected in zip(lines, [square, square, column, column], strict=True):
        np.testing.assert_array_equal(mask, expected)
    only = manifest(masks=True, limit=2)
    assert only.masks["sample_id"].to_pylist() == ["10", "10"]
    assert manifest().masks is None


def test_unreadable_masks_are_counted(tmp_path, coco, manifest):
    bad = {"image_id": 10, "category_id": 1, "segmentation": {"size": [6, 8], "counts": [3, 4]}}
    coco(objects=[*OBJECTS, bad])
    result = manifest(masks=True)
    assert result.masks.num_rows == 4
    line = "1 mask left out: its segmentation cannot be read (annotations[4])"
    assert any(line in str(left_out) for left_out in result.account.left_out)
    (tmp_path / "annotations/captions_val2017.json").unlink()
    with pytest.raises(DatasetError, match=r"1 mask left out: .*run without --strict"):
        manifest(masks=True, strict=True)


def test_one_id_for_two_files_is_refused(tmp_path, coco, manifest):
    coco()
    path = tmp_path / "annotations/instances_val2017.json"
    path.write_text(path.read_text().replace("c.jpg", "a.jpg"))
    with pytest.raises(DatasetError, match=r"image 30 is 'a\.jpg', in the file of the captions"):
        manifest()


def test_a_bad_entry_is_left_out_and_the_others_are_read(
    tmp_path, paint, manifest, captions, labels, capsys
):
    paint(tmp_path, "a.jpg", "b.jpg")
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}]
    texts = [
        {"image_id": 1, "caption": "of a"},
        {"image_id": 2, "caption": None},
        {"image_id": 2, "caption": " "},
        {"image_id": 2, "caption": "of b"},
        {"caption": "of nobody"},
        "no object",
    ]
    objects = [
        {"image_id": 1, "category_id": 5},
        {"image_id": 1, "category_id": 6},
        {"image_id": 2},
        {"image_id": 9, "category_id": 5},
    ]
    categories = [{"id": 5, "name": "cat"}, {"id": 5, "name": "cat"}, {"id": 7}]
    # The first image is listed twice, word for word, as by merged files; others are no images.
    listed = [*images, images[0], {"id": 3}, 4]
    for kind, annotations in (("captions", texts), ("instances", objects)):
        content = {"images": listed, "annotations": annotations, "categories": categories}
        (tmp_path / f"{kind}_val.json").write_text(json.dumps(content))
    result = manifest()
    assert captions(result) == [("a.jpg", "of a"), ("b.jpg", "of b")]
    assert labels(result) == {"1": ["cat"], "2": []}
    said = set(map(str, result.account.left_out))
    for line in (
        "captions_val.json: 2 captions left out: it is no text (the first is annotations[1])",
        "captions_val.json: 1 caption left out: it has no image_id (annotations[4])",
        "captions_val.json: 1 caption left out: it is not an object (annotations[5])",
        "captions_val.json: 1 image left out: it has no file_name (images[3])",
        "captions_val.json: 1 image left out: it is not an object (images[4])",
        "instances_val.json: 1 object left out: its category is not listed (annotations[1])",
        "instances_val.json: 1 object left out: it has no category_id (annotations[2])",
        "instances_val.json: 1 object left out: its image is not listed (annotations[3])",
        "instances_val.json: 1 category left out: it has no id or name (categories[2])",
    ):
        assert line in said
    with pytest.raises(DatasetError, match=r"1 image left out: .*run without --strict"):
        manifest(strict=True)


def test_an_object_keeps_its_good_polygons(coco, manifest):
    flat = {"image_id": 30, "category_id": 1, "segmentation": SQUARE}
    both = {"image_id": 30, "category_id": 1, "segmentation": [SQUARE, [1.0, 1.0, 3.0, 3.0]]}
    coco(objects=[*OBJECTS[:1], flat, both])
    masks = manifest(masks=True).masks
    assert masks.num_rows == 3
    assert len({tuple(counts) for counts in masks["counts"].to_pylist()}) == 1


def test_captions_alone_or_instances_alone(tmp_path, coco, manifest):
    coco()
    (tmp_path / "annotations/captions_val2017.json").unlink()
    result = manifest()
    assert result.rows["caption"].to_pylist() == [None] * 3
    assert result.classes.num_rows
    coco()
    (tmp_path / "annotations/instances_val2017.json").unlink()
    result = manifest(masks=True)
    assert result.classes.num_rows == 0
    assert result.masks is None


def test_splits_by_prefix_and_holdout_of_the_only_one(tmp_path, coco, manifest):
    coco()
    parts = [
        manifest(split=split, holdout=0.5).rows["sample_id"].to_pylist()
        for split in ("train", "test")
    ]
    assert not set(parts[0]) & set(parts[1])
    assert set(parts[0]) | set(parts[1]) == {"10", "20", "30"}
    with pytest.raises(DatasetError, match="value of the column 'who' of --holdout-by; columns: "):
        manifest(split="test", holdout=0.5, holdout_by="who")
    coco("train2017", "train2017")
    assert manifest(split="val").split == "val2017"
    assert manifest(split="train").rows["image"][0].as_py() == "train2017/c.jpg"
    with pytest.raises(DatasetError, match="--split: train2017, val2017"):
        manifest()


def test_images_that_are_missing(tmp_path, coco, manifest, capsys):
    coco()
    (tmp_path / "val2017/b.jpg").unlink()
    assert manifest().rows["image"].to_pylist()[-1] == "val2017/b.jpg"
    assert "1 of 3 images named in " in capsys.readouterr().err
    for name in ("a.jpg", "c.jpg"):
        (tmp_path / "val2017" / name).rename(tmp_path / f"other_{name}")
    with pytest.raises(DatasetError, match=r"named in .* is there .* for example c\.jpg"):
        manifest()


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/passwd", "x/../../secret.jpg"])
def test_file_names_that_leave_are_refused_when_read(tmp_path, paint, name):
    paint(tmp_path / "data", "a.jpg")
    paint(tmp_path, "secret.jpg")
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": name}]
    captions = {"images": images, "annotations": []}
    (tmp_path / "data/captions_val.json").write_text(json.dumps(captions))
    opened = open_dataset(tmp_path / "data", DatasetOptions())
    images = opened.manifest().rows["image"].to_pylist()
    assert opened.read_image(images[0])
    with pytest.raises(DatasetError, match="leaves the dataset's folder"):
        opened.read_image(images[1])


LISTED = '"images": [{"id": "01", "file_name": "a.jpg"}]'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ('{"images": [\n}', "line 2 is not JSON"),
        ("[]", "is not a JSON object"),
        ("{}", "has no list 'images'"),
        ('{"images": [5]}', r"no images that can be used: images\[0\]: it is not an object"),
        ('{"images": [{"file_name": "a"}]}', r"images\[0\]: it has no id"),
        ('{"images": [{"id": true, "file_name": "a"}]}', r"images\[0\]: it has no id"),
        ('{"images": [{"id": 1}]}', r"images\[0\]: it has no file_name"),
        (
            '{"images": [{"id": 1, "file_name": "a"}, {"id": "1", "file_name": "b"}]}',
            "twice, with file_name 'a' and 'b'",
        ),
        ('{"images": [], "annotations": []}', "has no images"),
        (
            f'{{{LISTED}, "annotations": [{{"caption": "x"}}]}}',
            r"annotations\[0\]: it has no image_id",
        ),
        (f'{{{LISTED}, "annotations": [{{"image_id": "01"}}]}}', "it is no text"),
        (
            f'{{{LISTED}, "annotations": [{{"image_id": 1, "caption": "x"}}]}}',
            "none of the annotations belongs to an image that is listed: image_id is 1, ids are "
            "such as 01",
        ),
    ],
)
def test_broken_documents_are_named(tmp_path, paint, manifest, content, message):
    paint(tmp_path, "a.jpg")
    (tmp_path / "captions_val.json").write_text(content)
    with pytest.raises(DatasetError, match=message) as caught:
        manifest()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([{"id": 1}], "it has no id or name"),
        ([{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], "twice, as 'a' and 'b'"),
        ([{"id": 2, "name": "a"}], r"no object can be used: annotations\[0\]: its category is not"),
    ],
)
def test_broken_categories_are_named(tmp_path, coco, manifest, categories, message):
    coco()
    path = tmp_path / "annotations/instances_val2017.json"
    path.write_text(json.dumps(document(annotations=OBJECTS, categories=categories)))
    with pytest.raises(DatasetError, match=rf"instances_val2017\.json.*{message}"):
        manifest()
