import tarfile
from graphlib import TopologicalSorter

import pytest

from sparc.common.errors import DatasetError
from sparc.extract.datasets.formats.detection import detect_format, reader_of
from sparc.extract.datasets.formats.registry import FORMATS
from sparc.extract.datasets.safe_folder import SafeFolder


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
    assert detect_format(SafeFolder(tmp_path)) == expected


def test_shards(tmp_path):
    (tmp_path / "00000.parquet").touch()
    tarfile.open(tmp_path / "00000.tar", "w").close()
    assert detect_format(SafeFolder(tmp_path)) == "webdataset"


def test_what_cannot_be_told_is_refused_with_reasons(tmp_path, paint):
    with pytest.raises(DatasetError, match=r"cannot tell.*no images.*coco.*open-images.*webdata"):
        detect_format(SafeFolder(tmp_path))
    paint(tmp_path, "a.jpg")
    (tmp_path / "captions_val.json").touch()
    (tmp_path / "open_images_test_captions.jsonl").touch()
    message = r"coco \(captions_val.json\), open-images \(open_images_test_captions.jsonl\).*--form"
    with pytest.raises(DatasetError, match=message):
        detect_format(SafeFolder(tmp_path))


def test_formats_yield_to_formats_that_are_there_and_never_in_a_circle():
    yields_to = {name: reader_of(name).yields_to for name in FORMATS}
    order = list(TopologicalSorter(yields_to).static_order())  # refuses circles
    assert sorted(order) == sorted(FORMATS)
