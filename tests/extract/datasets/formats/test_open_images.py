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


def test_one_bad_narrative_is_one_line_left_out(tmp_path, paint, write, manifest, captions):
    paint(tmp_path, "test/a.jpg", "test/b.jpg")
    bad = ['{"image_id": "a"}', '{"image_id": 5, "caption": "x"}', '{"image_id": "a", ', "[]"]
    bad += ['{"image_id": "b", "caption": NaN}', ""]
    text = narratives(("a", "A")) + "".join(f"{line}\n" for line in bad) + narratives(("b", "B"))
    write("open_images_test_captions.jsonl", text)
    result = manifest()
    assert captions(result) == [("test/a.jpg", "A"), ("test/b.jpg", "B")]
    assert [(entry.why, entry.records) for entry in result.account.left_out] == [
        ("it needs the texts image_id and caption", 4),
        ("its line is not JSON", 1),
    ]
    with pytest.raises(DatasetError, match=r"captions\.jsonl: 4 narratives .*line 2.*--strict"):
        manifest(strict=True)


def test_narratives_are_read_alike_by_arrow_and_by_line(tmp_path, paint, write, manifest):
    paint(tmp_path, "test/a.jpg")
    line = {"image_id": "a", "caption": "ünd \U0001f600", "traces": [[{"x": 0.1, "t": 1.0}]]}
    name = "open_images_test_captions.jsonl"
    for text in (json.dumps(line), json.dumps(line, ensure_ascii=False) + "\n\n"):
        write(name, text)
        rows = manifest().rows
        write(name, "\ufeff" + text + "\nno JSON\n")  # makes Arrow refuse the file
        by_line = manifest()
        assert by_line.rows == rows
        assert rows["caption"].to_pylist() == ["ünd \U0001f600"]
        assert by_line.account.used[0].unused == ("traces",)


def test_ids_of_narratives_in_another_form(tmp_path, paint, write, manifest, captions):
    paint(tmp_path, "train/a.jpg", "train/b.jpg", "train/c.JPG")
    pairs = (("A", "of a"), ("train/b.png", "of b"), ("c", "of c"))
    write("open_images_train_captions.jsonl", narratives(*pairs))
    result = manifest()
    assert captions(result) == [
        ("train/a.jpg", "of a"),
        ("train/b.jpg", "of b"),
        ("train/c.JPG", "of c"),
    ]
    assert sum(resolved.names for resolved in result.account.resolved) == 2


def test_labels_of_machines_are_named_with_their_option(dataset, write, manifest):
    name = "oidv7-train-annotations-machine-imagelabels.csv"
    write(name, "ImageID,Source,LabelName,Confidence\n000a,machine,/m/cat,0.9\n")
    result = manifest(split="train")
    advice = {files.what: files.advice for files in result.account.unused}
    assert advice[name] == f"--labels {dataset}/{name}"
    with pytest.raises(DatasetError, match="it has no label"):
        manifest(split="train", labels=dataset / name)


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
