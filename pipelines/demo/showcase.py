"""Held-out scenes to draw maps on: one with several objects, and scenes that share some of them."""

import json
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

OBJECTS = 3
"""Objects of the first scene, whose names are the queries."""
SCENES = 3


class Showcase(NamedTuple):
    """The scenes and the queries.

    Attributes:
        images: Files of scenes; the first shows all that the queries name.
        texts: The queries.
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
    # Then the scenes that share most with it and show something else, too.
    others = sorted(
        (image for image in objects if image != richest and objects[image] - set(wanted)),
        key=lambda image: (-len(objects[image] & set(wanted)), image),
    )
    shown = [richest, *others[: SCENES - 1]]
    return Showcase(tuple(files[image] for image in shown), tuple(f"a {name}" for name in wanted))
