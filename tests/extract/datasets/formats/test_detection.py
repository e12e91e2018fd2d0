import json
import tarfile
from graphlib import TopologicalSorter

import pytest

from sparc.common.errors import DatasetError
from sparc.extract.datasets.folders.local import LocalFolder
from sparc.extract.datasets.formats.detection import detect_format, reader_of
from sparc.extract.datasets.formats.registry import FORMATS


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("annotations/captions_val2017.json", "coco"),
        ("annotations/instances_train.json", "coco"),
        ("captions_test.json", "coco"),
        ("open_images_train_v6_captions.jsonl", "open-images"),
        ("narratives/open_images_validation_localized_narratives.jsonl", "open-images"),
        ("oidv7-train-annotations-human-imagelabels.csv", "open-images"),
        ("metadata.csv", "folder"),
        ("readme.txt", "folder"),
        ("backup.tar", "folder"),
    ],
)
def test_format_by_files(tmp_path, paint, name, expected):
    paint(tmp_path, "train/a.jpg")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    assert detect_format(LocalFolder(tmp_path)) == expected


def test_shards(tmp_path):
    (tmp_path / "00000.parquet").touch()
    tarfile.open(tmp_path / "00000.tar", "w").close()
    assert detect_format(LocalFolder(tmp_path)) == "webdataset"


def test_what_cannot_be_told_is_refused_with_reasons(tmp_path, paint):
    with pytest.raises(DatasetError, match=r"cannot tell.*no images.*coco.*open-images.*webdata"):
        detect_format(LocalFolder(tmp_path))
    paint(tmp_path, "a.jpg")
    (tmp_path / "captions_val.json").touch()
    (tmp_path / "open_images_test_captions.jsonl").touch()
    message = r"coco \(captions_val.json\), open-images \(open_images_test_captions.jsonl\).*--form"
    with pytest.raises(DatasetError, match=message):
        detect_format(LocalFolder(tmp_path))


def test_formats_yield_to_formats_that_are_there_and_never_in_a_circle():
    yields_to = {name: reader_of(name).yields_to for name in FORMATS}
    order = list(TopologicalSorter(yields_to).static_order())  # refuses circles
    assert sorted(order) == sorted(FORMATS)


def test_names_of_folders_yield_to_any_format_that_has_a_file_of_its_own(tmp_path, paint):
    paint(
        tmp_path,
        *(f"{split}/{name}/{n}.jpg" for split in ("train", "val") for name in "ab" for n in "12"),
    )
    assert detect_format(LocalFolder(tmp_path)) == "class-folders"
    answer = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A fish."}]
    (tmp_path / "llava.json").write_text(
        json.dumps([{"id": "1", "image": "train/a/1.jpg", "conversations": answer}])
    )
    assert detect_format(LocalFolder(tmp_path)) == "llava"


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.json"])
def test_json_with_a_byte_order_mark_is_json(tmp_path, paint, manifest, name):
    paint(tmp_path, "a.jpg", "b.jpg")
    lines = [{"file_name": "a.jpg", "text": "one"}, {"file_name": "b.jpg", "text": "two"}]
    content = "\n".join(map(json.dumps, lines)) if name.endswith("l") else json.dumps(lines)
    (tmp_path / name).write_text(content, encoding="utf-8-sig")
    assert manifest().rows["caption"].to_pylist() == ["one", "two"]


def test_the_first_of_json_lines_may_be_bad(tmp_path, paint, manifest):
    paint(tmp_path, "a.jpg", "b.jpg")
    good = json.dumps({"file_name": "b.jpg", "text": "two"})
    (tmp_path / "metadata.jsonl").write_text(f'file_name: "a.jpg"\n{good}\n')
    result = manifest()
    assert result.rows["caption"].to_pylist() == [None, "two"]
    assert [(entry.records, entry.first) for entry in result.account.left_out] == [(1, "line 1")]
