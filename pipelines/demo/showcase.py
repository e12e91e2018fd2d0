"""Held-out scenes to show maps on: one with several objects, whose names are looked for."""

import json
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

OBJECTS = 3
"""Objects of the scene that is shown first, and names that are looked for."""
SCENES = 3


class Showcase(NamedTuple):
    """What is shown.

    Attributes:
        images: Files of scenes; the first holds all that is looked for.
        texts: What is looked for.
    """

    images: tuple[Path, ...]
    texts: tuple[str, ...]


def choose_showcase(scenes: Path) -> Showcase:
    """Choose from the held-out scenes; the same ones for the same scenes.

    Args:
        scenes: The folder of the dataset, written by `sparc.pipelines.demo.dataset`.
    """
    document = json.loads((scenes / "annotations/instances_test.json").read_text("utf-8"))
    names = {category["id"]: category["name"] for category in document["categories"]}
    objects: dict[int, set[str]] = defaultdict(set)
    for annotation in document["annotations"]:
        objects[annotation["image_id"]].add(names[annotation["category_id"]])
    files = {
        image["id"]: scenes / "images/test" / image["file_name"] for image in document["images"]
    }
    richest = max(objects, key=lambda image: (min(len(objects[image]), OBJECTS), -image))
    wanted = sorted(objects[richest])[:OBJECTS]
    # Then the scenes that share most with it and hold something else besides.
    others = sorted(
        (image for image in objects if image != richest and objects[image] - set(wanted)),
        key=lambda image: (-len(objects[image] & set(wanted)), image),
    )
    shown = [richest, *others[: SCENES - 1]]
    return Showcase(tuple(files[image] for image in shown), tuple(f"a {name}" for name in wanted))
