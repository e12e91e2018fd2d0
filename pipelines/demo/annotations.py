"""What the held-out scenes hold, by the annotations that the demo wrote."""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path


def objects_by_image(scenes: Path) -> Mapping[str, frozenset[str]]:
    """The names of the objects in every held-out scene, by the file's name, in order.

    Args:
        scenes: The folder of the dataset, written by `sparc.pipelines.demo.dataset`.
    """
    document = json.loads((scenes / "annotations/instances_test.json").read_text("utf-8"))
    names = {category["id"]: category["name"] for category in document["categories"]}
    objects: dict[int, set[str]] = defaultdict(set)
    for annotation in document["annotations"]:
        objects[annotation["image_id"]].add(names[annotation["category_id"]])
    return {image["file_name"]: frozenset(objects[image["id"]]) for image in document["images"]}
