"""Writing scenes to disk as COCO lays them out, with labels as Open Images describes them.

    FOLDER/
      images/train/train_000000.jpg …        images/test/test_000000.jpg …
      annotations/captions_train.json        captions_test.json
      annotations/instances_train.json       instances_test.json     (masks: uncompressed RLE)
      labels.csv  classes.csv  hierarchy.json                        (group > subgroup > emoji)
      scenes.json                            what was asked for; written last

The LabelName of a class in the label files is its category id in the COCO files, so that masks and
labels mean the same classes. Nothing here knows how a cache is made: the reader of COCO reads
the scenes.
"""

import csv
import dataclasses
import functools
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from sparc.common.errors import DatasetError
from sparc.common.files.durable import is_leftover
from sparc.common.files.folder import Folder
from sparc.common.files.lock import LOCK_FILE, exclusive
from sparc.common.parsing import parse_json
from sparc.common.progress import progress
from sparc.pipelines.demo.drawings import Drawing, drawings
from sparc.pipelines.demo.scenes import SIZE, Scene, Split, compose

SETTINGS_FILE = "scenes.json"
BEGUN_FILE = "scenes.begun.json"
"""The same settings while the scenes are being written."""
LABELS_FILE = "labels.csv"
CLASSES_FILE = "classes.csv"
HIERARCHY_FILE = "hierarchy.json"

_VERSION = 1
"""To be raised when the same settings begin to give other scenes."""

_ADVICE = "choose another folder or remove it"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SceneSettings:
    """Which scenes to write.

    Attributes:
        train: Scenes to learn from.
        test: Scenes held out.
        seed: Another seed gives other scenes.
    """

    train: int
    test: int
    seed: int = 0


def write_scenes(location: Path, settings: SceneSettings) -> None:
    """Write scenes, or do nothing where exactly these scenes have been written already.

    Args:
        location: The folder, created if need be.
        settings: Which scenes.

    Raises:
        DatasetError: The folder holds scenes of other settings, or something else.
        LockedError: Another process is writing scenes there.
    """
    folder = Folder(location)
    wanted = {"version": _VERSION, **dataclasses.asdict(settings)}
    with exclusive(folder, lambda opened: _recognize(opened, wanted)):
        if not folder.exists(SETTINGS_FILE):
            folder.write(BEGUN_FILE, _json(wanted))
            _write(folder, settings)
            folder.write(SETTINGS_FILE, _json(wanted))
        folder.remove(BEGUN_FILE)


def _recognize(folder: Folder, wanted: Mapping[str, Any]) -> None:
    """Refuse a folder that holds anything but these scenes, finished or begun."""
    for name in (SETTINGS_FILE, BEGUN_FILE):
        if folder.exists(name):
            try:
                is_same = parse_json(folder.read(name)) == wanted
            except ValueError:
                is_same = False
            if not is_same:
                raise DatasetError(f"{folder} holds other scenes: {_ADVICE}")
            return
    ours = (BEGUN_FILE, LOCK_FILE)
    if any(name not in ours and not is_leftover(name, ours) for name in folder.files()):
        raise DatasetError(f"{folder} holds files that are not scenes: {_ADVICE}")


def _write(folder: Folder, settings: SceneSettings) -> None:
    labels: list[tuple[str, int, int]] = []
    with progress(settings.train + settings.test, "scenes", unit="scenes") as bar:
        for split in get_args(Split):
            annotations = _Annotations()
            for index in range(getattr(settings, split)):
                scene = compose(settings.seed, split, index)
                name = f"{split}_{index:06d}"
                _write_image(folder.inside(f"images/{split}/{name}.jpg"), scene)
                annotations.add(f"{name}.jpg", scene)
                labels += [(name, class_number(placed.drawing), 1) for placed in scene.objects]
                bar.update()
            annotations.write(folder, split)
    folder.write(LABELS_FILE, _csv(("ImageID", "LabelName", "Confidence"), labels))
    classes = ((number, path[-1]) for path, number in _numbers().items())
    folder.write(CLASSES_FILE, _csv(("LabelName", "DisplayName"), classes))
    folder.write(HIERARCHY_FILE, _json(_hierarchy()))


class _Annotations:
    """The captions and the objects of one split, in COCO's format."""

    def __init__(self) -> None:
        self.images: list[dict[str, Any]] = []
        self.captions: list[dict[str, Any]] = []
        self.instances: list[dict[str, Any]] = []

    def add(self, file_name: str, scene: Scene) -> None:
        image = len(self.images) + 1
        self.images.append({"id": image, "file_name": file_name, "height": SIZE, "width": SIZE})
        for caption in scene.captions:
            number = len(self.captions) + 1
            self.captions.append({"id": number, "image_id": image, "caption": caption})
        for placed in scene.objects:
            self.instances.append(
                {
                    "id": len(self.instances) + 1,
                    "image_id": image,
                    "category_id": class_number(placed.drawing),
                    "iscrowd": 0,
                    "area": int(placed.mask.sum()),
                    "bbox": _bounding_box(placed.mask),
                    "segmentation": {"size": [SIZE, SIZE], "counts": run_lengths(placed.mask)},
                }
            )

    def write(self, folder: Folder, split: Split) -> None:
        categories = [
            {"id": class_number(d), "name": d.name, "supercategory": d.subgroup} for d in drawings()
        ]
        captions = {"images": self.images, "annotations": self.captions}
        instances = {
            "images": self.images,
            "annotations": self.instances,
            "categories": categories,
        }
        folder.write(f"annotations/captions_{split}.json", _json(captions))
        folder.write(f"annotations/instances_{split}.json", _json(instances))


def class_number(drawing: Drawing) -> int:
    """The number of a drawing's class: its category id, and its LabelName in the label files."""
    return _numbers()[_path(drawing)]


def run_lengths(mask: npt.NDArray[np.bool_]) -> list[int]:
    """COCO's uncompressed run-length encoding of a mask.

    Args:
        mask: (height, width) bool.

    Returns:
        Lengths of the runs of zeros and ones in turn, column by column, beginning with zeros.
    """
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate(([0], changes, [flat.size]))).tolist()
    return [0, *lengths] if flat[0] else lengths


def _bounding_box(mask: npt.NDArray[np.bool_]) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]


def _write_image(path: Path, scene: Scene) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scene.image.save(path, quality=92)


def _path(drawing: Drawing) -> tuple[str, ...]:
    """A drawing's class, as the names from the top of the tree to it."""
    return drawing.group, drawing.subgroup, drawing.name


@functools.cache
def _numbers() -> Mapping[tuple[str, ...], int]:
    """A number for every class of the tree, parents before their children, counted from 1."""
    paths = dict.fromkeys(
        path[:depth] for path in map(_path, drawings()) for depth in range(1, len(path) + 1)
    )
    return {path: number for number, path in enumerate(paths, 1)}


def _hierarchy() -> dict[str, Any]:
    """The tree as Open Images writes it, under one root."""
    root: dict[str, Any] = {"LabelName": "root"}
    nodes: dict[tuple[str, ...], dict[str, Any]] = {(): root}
    for path, number in _numbers().items():
        nodes[path] = {"LabelName": str(number)}
        nodes[path[:-1]].setdefault("Subcategory", []).append(nodes[path])
    return root


def _csv(header: Iterable[str], lines: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return text.getvalue().encode()


def _json(document: object) -> bytes:
    return (json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
