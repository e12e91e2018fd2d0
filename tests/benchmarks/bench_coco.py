"""How fast, and in how much memory, annotations of COCO's real size become rows.

    python tests/benchmarks/bench_coco.py [--images 118287] [--masks] [--folder FOLDER]

Writes captions and instances as those of train2017 (five captions and seven objects an image,
polygons of about 50 corners; 990 MB of JSON), and the images as links to few
files. Then one process makes the manifest; its processor time and its most resident memory are
those of the whole process, Python and imports included, encoders' libraries not.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

IMAGES = 118_287
CAPTIONS_AN_IMAGE = 5
OBJECTS_AN_IMAGE = 7.27
CATEGORIES = 80
LINKS = 60_000
"""Most links to one file; file systems have a limit."""

WORDS = [
    "a",
    "man",
    "woman",
    "dog",
    "cat",
    "standing",
    "on",
    "the",
    "street",
    "near",
    "red",
    "blue",
    "large",
    "table",
    "with",
    "train",
]
MANIFEST = """
from sparc.extract.datasets import DatasetOptions, open_dataset
manifest = open_dataset({folder!r}, DatasetOptions(format="coco", masks={masks})).manifest()
print(len(manifest.rows), len(manifest.classes), len(manifest.masks or ()))
"""


def make_coco(folder: Path, images: int) -> None:
    """Write a dataset of that many images."""
    generator = random.Random(0)
    (folder / "annotations").mkdir(parents=True)
    (folder / "train2017").mkdir()
    ids = generator.sample(range(1, images * 5), images)
    _link_images(folder / "train2017", ids)
    listed = json.dumps([_image(number) for number in ids])
    captions = (
        {"image_id": ids[n % images], "id": n, "caption": " ".join(generator.choices(WORDS, k=11))}
        for n in range(images * CAPTIONS_AN_IMAGE)
    )
    _write(folder / "annotations/captions_train2017.json", listed, captions, [])
    objects = (_object(n, generator, ids) for n in range(int(images * OBJECTS_AN_IMAGE)))
    categories = [
        {"supercategory": f"group {n // 8}", "id": n, "name": f"class {n}"}
        for n in range(1, CATEGORIES + 1)
    ]
    _write(folder / "annotations/instances_train2017.json", listed, objects, categories)


def _write(
    path: Path, images: str, annotations: Iterator[dict[str, Any]], categories: list[dict[str, Any]]
) -> None:
    with path.open("w") as file:
        file.write(f'{{"info": {{"year": 2017}}, "images": {images}, "annotations": [')
        for number, annotation in enumerate(annotations):
            file.write((", " if number else "") + json.dumps(annotation))
        file.write(f'], "categories": {json.dumps(categories)}}}')


def _image(number: int) -> dict[str, Any]:
    name = f"{number:012d}.jpg"
    return {
        "license": number % 8,
        "file_name": name,
        "coco_url": f"http://images.cocodataset.org/train2017/{name}",
        "height": 480,
        "width": 640,
        "date_captured": "2013-11-14 16:28:13",
        "flickr_url": f"http://farm4.staticflickr.com/3153/{number:010d}_a9a_z.jpg",
        "id": number,
    }


def _object(number: int, generator: random.Random, ids: list[int]) -> dict[str, Any]:
    return {
        "segmentation": [_outline(generator)],
        "area": generator.random() * 1e4,
        "iscrowd": 0,
        "image_id": generator.choice(ids),
        "bbox": [1.5, 2.5, 100.25, 50.5],
        "category_id": generator.randrange(CATEGORIES) + 1,
        "id": number,
    }


def _outline(generator: random.Random) -> list[float]:
    """A ragged circle of about 50 corners, of which some reach out of the image."""
    corners = int(min(600, max(3, generator.lognormvariate(3.7, 0.8))))
    radii = generator.lognormvariate(3.4, 0.7) * np.linspace(0.8, 1.2, corners)
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    centre = (generator.random() * 640, generator.random() * 480)
    points = radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1) + centre
    numbers: list[float] = np.round(points.clip(0, (640, 480)), 2).ravel().tolist()
    return numbers


def _link_images(folder: Path, ids: list[int]) -> None:
    for place, number in enumerate(ids):
        path = folder / f"{number:012d}.jpg"
        if place % LINKS:
            os.link(folder / f"{ids[place // LINKS * LINKS]:012d}.jpg", path)
        else:
            Image.new("RGB", (640, 480), (place % 256, 90, 200)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--masks", action="store_true")
    parser.add_argument("--folder", type=Path, help="where the dataset is or will be")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder: Path = arguments.folder or Path(name) / "coco"
        if not folder.exists():
            make_coco(folder, arguments.images)
        stored = sum(path.stat().st_size for path in folder.glob("annotations/*.json"))
        script = MANIFEST.format(folder=str(folder), masks=arguments.masks)
        process = subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        rows, classes, masks = process.stdout.read().split()
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit("failed")
    print(f"{stored / 1e6:,.0f} MB of JSON: {rows} rows, {classes} classes, {masks} masks")
    print(f"{usage.ru_utime:.1f} s of processor time, {usage.ru_maxrss * 1024 / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
