import json

import pytest

from sparc.common.errors import DatasetError

TREE = {
    "LabelName": "/m/0bl9f",
    "Subcategory": [{"LabelName": "/m/animal", "Subcategory": [{"LabelName": "/m/cat"}]}],
}


def narratives(*pairs):
    return "".join(
        json.dumps({"dataset_id": "open_images", "image_id": i, "annotator_id": 4, "caption": c})
        + "\n"
        for i, c in pairs
    )


@pytest.fixture
def dataset(tmp_path, paint, write):
    paint(tmp_path, "train/000a.jpg", "train/000b.jpg", "train/000c.jpg", "validation/000v.jpg")
    write(
        "open_images_train_v6_captions.jsonl",
        narratives(("000b", "bee"), ("000a", "one "), ("000b", "bee again"), ("000x", "lost")),
    )
    write("open_images_validation_captions.jsonl", narratives(("000v", "vee")))
    header = "ImageID,Source,LabelName,Confidence\n"
    write(
        "oidv7-train-annotations-human-imagelabels.csv",
        header + "000b,verification,/m/cat,1\n000b,verification,/m/dog,0\n000c,v,/m/dog,1\n"
        "000a,crowdsource-verification,/m/dog,1\n",
    )
    write("train-annotations-human-imagelabels-boxable.csv", header + "000a,v,/m/boxed,1\n")
    write("oidv7-val-annotations-human-imagelabels.csv", header + "000v,v,/m/cat,1\n")
    write("oidv7-class-descriptions.csv", 'LabelName,DisplayName\n/m/cat,Cat\n/m/dog,"Dog, big"\n')
    write("class-descriptions-boxable.csv", "/m/animal,Animal\n")
    write("bbox_labels_600_hierarchy.json", json.dumps(TREE))
    return tmp_path


def test_rows_follow_the_narratives(dataset, manifest, captions, labels, capsys):
    result = manifest(split="train")
    assert result.dataset_format == "open-images"
    assert captions(result) == [
        ("train/000b.jpg", "bee"),
        ("train/000b.jpg", "bee again"),
        ("train/000a.jpg", "one"),
        ("train/000x.jpg", "lost"),
    ]
    assert labels(result) == {"000b": ["Cat"], "000a": ["Dog, big"], "000x": []}
    assert result.classes.select(["name", "depth"]).to_pylist() == [
        {"name": "Animal", "depth": 1},
        {"name": "Cat", "depth": 2},
        {"name": "Dog, big", "depth": 1},
    ]
    said = capsys.readouterr().err
    assert "1 of 3 images named in the train narratives are not there" in said
    assert "1 image of train without narrative" in said


def test_splits_do_not_mix(dataset, manifest, captions, labels):
    result = manifest(split="val")
    assert captions(result) == [("validation/000v.jpg", "vee")]
    assert labels(result) == {"000v": ["Cat"]}
    with pytest.raises(DatasetError, match="--split: train, validation"):
        manifest()


def test_full_narratives_in_parts_and_images_in_parts(tmp_path, paint, write, manifest, captions):
    paint(tmp_path, "images/train_0/a.jpg", "images/train_1/b.jpg")
    name = "narratives/open_images_train_v6_localized_narratives-0000{}-of-00002.jsonl"
    write(name.format(0), narratives(("a", "A")))
    write(name.format(1), narratives(("b", "B")))
    assert captions(manifest()) == [("images/train_0/a.jpg", "A"), ("images/train_1/b.jpg", "B")]
    # The file without traces says the same again.
    write("open_images_train_v6_captions.jsonl", narratives(("b", "B"), ("a", "A")))
    assert captions(manifest()) == [("images/train_1/b.jpg", "B"), ("images/train_0/a.jpg", "A")]


def test_without_narratives_all_images_are_rows(tmp_path, paint, write, manifest, labels):
    paint(tmp_path, "test/a.jpg", "test/b.jpg")
    text = "ImageID,Source,LabelName,Confidence\na,v,/m/cat,1\n"
    write("metadata/test-annotations-human-imagelabels.csv", text)
    result = manifest()
    assert result.rows["caption"].to_pylist() == [None, None]
    assert labels(result) == {"a": ["/m/cat"], "b": []}


def test_narratives_of_absent_images_are_refused(tmp_path, write, manifest):
    write("open_images_test_captions.jsonl", narratives(("a", "A")))
    with pytest.raises(
        DatasetError, match=r"none of the images named in .* \(1 in all, for example test/a\.jpg"
    ):
        manifest()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"image_id": "a"}', "line 2 needs the texts image_id and caption"),
        ('{"image_id": 5, "caption": "x"}', "line 2 needs"),
        ('{"image_id": "a", ', "line 2 is not JSON"),
    ],
)
def test_broken_narratives_are_named(tmp_path, paint, write, manifest, line, message):
    paint(tmp_path, "test/a.jpg")
    write("open_images_test_captions.jsonl", narratives(("a", "A")) + line + "\n")
    with pytest.raises(DatasetError, match=rf"open_images_test_captions\.jsonl, {message}"):
        manifest()


@pytest.mark.parametrize("image_id", ["../../secret", "/etc/passwd", "a/../../b"])
def test_an_image_id_cannot_leave(tmp_path, paint, write, image_id):
    from sparc.extract.datasets import DatasetOptions, open_dataset

    paint(tmp_path, "test/a.jpg")
    write("open_images_test_captions.jsonl", narratives(("a", "A"), (image_id, "X")))
    opened = open_dataset(tmp_path, DatasetOptions())
    images = opened.manifest().rows["image"].to_pylist()
    assert opened.read_image(images[0])
    with pytest.raises(DatasetError, match=r"leaves the dataset's folder|cannot open"):
        opened.read_image(images[1])
