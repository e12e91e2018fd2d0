import json

import pytest

from sparc.common.errors import DatasetError
from sparc.extract.datasets import DatasetOptions, open_dataset


def entry(name, split, *captions, **more):
    return {
        "filename": name,
        "split": split,
        "sentences": [{"raw": caption, "tokens": ["x"], "sentid": 1} for caption in captions],
        "sentids": [1],
        "imgid": 5,
        **more,
    }


IMAGES = [
    entry("a.jpg", "train", "one of a", "two of a", filepath="val2014", cocoid=11),
    entry("b.jpg", "restval", "of b", filepath="val2014", cocoid=12),
    entry("c.jpg", "val", "of c", filepath="val2014", cocoid=13),
    entry("d.jpg", "test", "of d", filepath="val2014", cocoid=14),
]


@pytest.fixture
def karpathy(tmp_path, paint):
    """Writes a file of this form and the images."""

    def build(images, file="dataset_coco.json", folder="val2014"):
        paint(tmp_path / folder, "a.jpg", "b.jpg", "c.jpg", "d.jpg")
        (tmp_path / file).write_text(json.dumps({"dataset": "coco", "images": images}))

    return build


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train", [("a.jpg", "one of a"), ("a.jpg", "two of a")]),
        ("train+restval", [("a.jpg", "one of a"), ("a.jpg", "two of a"), ("b.jpg", "of b")]),
        ("validation", [("c.jpg", "of c")]),
        ("test", [("d.jpg", "of d")]),
    ],
)
@pytest.mark.parametrize("folder", ["val2014", "pictures/val2014", "pictures"])
def test_splits_and_sentences(karpathy, manifest, captions, split, expected, folder):
    karpathy(IMAGES, folder=folder)
    result = manifest(split=split)
    assert result.dataset_format == "karpathy"
    assert captions(result) == [(f"{folder}/{name}", caption) for name, caption in expected]
    assert result.account.captioned == result.account.rows
    (rest,) = result.account.unused
    assert (rest.what, rest.advice) == ("files of other splits", "--split chooses another")


def test_no_split_is_refused_with_the_choices(karpathy, manifest):
    karpathy(IMAGES)
    with pytest.raises(DatasetError, match=r"restval, test, train, train\+restval, val"):
        manifest()


def test_ids_are_those_of_coco_or_the_names_and_fields_become_columns(karpathy, manifest):
    karpathy([{**image, "license": 3} for image in IMAGES])
    result = manifest(split="train", columns=("license",))
    assert result.rows["sample_id"].to_pylist() == ["11", "11"]
    assert result.rows["license"].to_pylist() == [3, 3]
    assert "license" in result.account.used[0].used
    (file,) = manifest(split="train").account.used
    assert (file.unused, file.advice) == (("license",), "--column NAME keeps one of them")
    karpathy([entry("a.jpg", "train", "of a")])
    assert manifest().rows["sample_id"].to_pylist() == ["a"]
    karpathy([entry("a.jpg", "train", "of a", cocoid=11.0)])  # as tables with gaps are exported
    assert manifest().rows["sample_id"].to_pylist() == ["11"]


def test_a_field_that_makes_groups_is_used(karpathy, manifest):
    karpathy([entry(f"{name}.jpg", "", "a text", place=f"at {name}") for name in "abcd"])
    result = manifest(holdout=0.5, split="train", holdout_by="place")
    (file,) = result.account.used
    assert ("place" in file.used, file.unused) == (True, ())


def test_the_file_of_the_images_that_are_there_is_read(karpathy, manifest, captions):
    karpathy([entry("elsewhere.jpg", "train", "x")], "dataset_flickr8k.json")
    karpathy(IMAGES)
    result = manifest(split="test")
    assert captions(result) == [("val2014/d.jpg", "of d")]
    unused = {entry.what: entry.advice for entry in result.account.unused}
    assert unused["dataset_flickr8k.json"] == "--format karpathy reads it"
    karpathy(IMAGES, "copy.json")
    with pytest.raises(DatasetError, match=r"has copy\.json and dataset_coco\.json: keep"):
        manifest(split="test")


def test_one_bad_record_is_one_omission(tmp_path, karpathy, manifest, captions):
    bad = [
        7,
        entry(None, "train", "no name"),
        {"filename": "b.jpg", "split": "train", "sentences": [{"raw": None}, 5, {"raw": "good"}]},
        {"filename": "c.jpg", "split": "train", "sentences": "text"},
        {"filename": "d.jpg", "cocoid": "d", "sentences": []},
        {
            "filename": "d.jpg",
            "cocoid": 9,
            "split": "train",
            "sentences": [{"tokens": ["a", "fish"]}],
        },
    ]
    karpathy([IMAGES[0], IMAGES[0], *bad])
    result = manifest()
    assert captions(result) == [
        ("val2014/a.jpg", "one of a"),
        ("val2014/a.jpg", "two of a"),
        ("val2014/b.jpg", "good"),
        ("val2014/c.jpg", None),
        ("val2014/d.jpg", "a fish"),
    ]
    assert [(e.what, e.records, e.first) for e in result.account.left_out] == [
        ("image", 1, "images[2]"),
        ("image", 1, "images[3]"),
        ("caption", 2, "images[4].sentences[0]"),
        ("caption", 1, "images[5]"),
        ("image", 1, "image d"),
    ]
    with pytest.raises(DatasetError, match=r"images\[2\].*without --strict"):
        open_dataset(tmp_path, DatasetOptions(strict=True)).manifest()
    karpathy([IMAGES[0], {**IMAGES[0], "filename": "b.jpg"}])
    with pytest.raises(DatasetError, match="two different images have the id '11'"):
        manifest()


def test_other_metadata_of_the_folder_come_first(tmp_path, karpathy, manifest):
    karpathy(IMAGES)
    annotations = tmp_path / "annotations"
    annotations.mkdir()
    images = [{"id": 1, "file_name": "a.jpg"}]
    (annotations / "captions_val2014.json").write_text(
        json.dumps({"images": images, "annotations": []})
    )
    result = manifest()
    assert result.dataset_format == "coco"
    unused = {entry.what: entry.advice for entry in result.account.unused}
    assert unused["dataset_coco.json"] == "--format karpathy reads it"
