import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sparc.common.errors import DatasetError
from sparc.extract.datasets import open_dataset
from sparc.extract.datasets.base import DatasetOptions
from sparc.pipelines.demo.dataset import (
    CLASSES_FILE,
    HIERARCHY_FILE,
    LABELS_FILE,
    SceneSettings,
    run_lengths,
    write_scenes,
)
from sparc.pipelines.demo.scenes import CAPTIONS, SIZE, compose

SETTINGS = SceneSettings(train=12, test=5, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    location = tmp_path_factory.mktemp("scenes")
    write_scenes(location, SETTINGS)
    return location


def read(folder, split):
    options = DatasetOptions(
        format="coco",
        split=split,
        labels=folder / LABELS_FILE,
        classes=folder / CLASSES_FILE,
        hierarchy=folder / HIERARCHY_FILE,
        masks=True,
    )
    return open_dataset(str(folder), options)


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_reader_of_coco_finds_what_was_composed(folder, split):
    dataset = read(folder, split)
    manifest = dataset.manifest()
    rows = manifest.rows.to_pylist()
    classes = {c["class_id"]: c for c in manifest.classes.to_pylist()}
    masks = manifest.masks.to_pylist()
    count = getattr(SETTINGS, split)
    assert len(rows) == CAPTIONS * count
    for index in range(count):
        scene = compose(SETTINGS.seed, split, index)
        mine = rows[CAPTIONS * index : CAPTIONS * (index + 1)]
        assert [row["caption"] for row in mine] == list(scene.captions)
        (sample_id,) = {row["sample_id"] for row in mine}
        for row in mine:
            assert {classes[i]["name"] for i in row["label_ids"]} == {
                placed.drawing.name for placed in scene.objects
            }
        decoded = {
            classes[m["class_id"]]["name"]: decode(m) for m in masks if m["sample_id"] == sample_id
        }
        assert decoded.keys() == {placed.drawing.name for placed in scene.objects}
        for placed in scene.objects:
            np.testing.assert_array_equal(decoded[placed.drawing.name], placed.mask)
        assert dataset.read_image(mine[0]["image"]).startswith(b"\xff\xd8")


def test_classes_stand_below_their_subgroup_and_group(folder):
    classes = {c["class_id"]: c for c in read(folder, "train").manifest().classes.to_pylist()}
    expected = {
        placed.drawing.name: placed.drawing
        for index in range(SETTINGS.train)
        for placed in compose(SETTINGS.seed, "train", index).objects
    }
    leaves = [c for c in classes.values() if c["depth"] == 3]
    assert {c["name"] for c in leaves} == expected.keys()
    for leaf in leaves:
        subgroup = classes[leaf["parent_id"]]
        group = classes[subgroup["parent_id"]]
        drawing = expected[leaf["name"]]
        assert (subgroup["name"], group["name"]) == (drawing.subgroup, drawing.group)
        assert group["parent_id"] is None


def test_boxes_and_areas_are_those_of_the_masks(folder):
    document = json.loads((folder / "annotations/instances_train.json").read_text())
    for annotation in document["annotations"]:
        mask = decode({**annotation["segmentation"], "height": SIZE, "width": SIZE})
        rows, columns = np.nonzero(mask)
        left, top, width, height = annotation["bbox"]
        assert (left, top) == (columns.min(), rows.min())
        assert (width, height) == (np.ptp(columns) + 1, np.ptp(rows) + 1)
        assert annotation["area"] == mask.sum()


def test_the_same_scenes_are_written_once(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    write_scenes(folder, SETTINGS)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_an_interrupted_folder_is_completed(folder, tmp_path):
    write_scenes(tmp_path, SETTINGS)
    (tmp_path / "scenes.json").rename(tmp_path / "scenes.begun.json")
    (tmp_path / LABELS_FILE).unlink()
    (tmp_path / "images/train/train_000003.jpg").write_bytes(b"half")
    write_scenes(tmp_path, SETTINGS)
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert all((tmp_path / name).read_bytes() == (folder / name).read_bytes() for name in files)


def test_other_scenes_are_refused(folder):
    with pytest.raises(DatasetError, match="holds other scenes"):
        write_scenes(folder, SceneSettings(train=12, test=5, seed=4))


@pytest.mark.parametrize("name", [CLASSES_FILE, "images/train/train_000000.jpg", "thesis.partial"])
def test_a_folder_of_something_else_is_left_as_it_is(name, tmp_path):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("years of work")
    with pytest.raises(DatasetError, match="holds files that are not scenes"):
        write_scenes(tmp_path, SETTINGS)
    assert [p.read_text() for p in tmp_path.rglob("*") if p.is_file()] == ["years of work"]


@pytest.mark.parametrize("content", ["[" * 100_000, "{", "7"])
def test_settings_that_nobody_wrote_are_refused(content, tmp_path):
    (tmp_path / "scenes.json").write_text(content)
    with pytest.raises(DatasetError, match="holds other scenes"):
        write_scenes(tmp_path, SETTINGS)


@given(arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6))))
def test_run_lengths_hold_the_whole_mask(mask):
    counts = run_lengths(mask)
    height, width = mask.shape
    np.testing.assert_array_equal(
        decode({"counts": counts, "height": height, "width": width}), mask
    )
    assert all(count > 0 for count in counts[1:])


def decode(mask) -> np.ndarray:
    values = np.arange(len(mask["counts"])) % 2 == 1
    return np.repeat(values, mask["counts"]).reshape(mask["width"], mask["height"]).T
