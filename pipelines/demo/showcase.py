"""Held-out scenes to draw maps on: one with several objects, and scenes that share some of them."""

from pathlib import Path
from typing import NamedTuple

from sparc.pipelines.demo.annotations import objects_by_image

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
    objects = objects_by_image(scenes)
    numbers = {file: number for number, file in enumerate(objects)}
    richest = max(objects, key=lambda file: (min(len(objects[file]), OBJECTS), -numbers[file]))
    wanted = sorted(objects[richest])[:OBJECTS]
    # Then the scenes that share most with it and show something else, too.
    others = sorted(
        (file for file in objects if file != richest and objects[file] - set(wanted)),
        key=lambda file: (-len(objects[file] & set(wanted)), numbers[file]),
    )
    shown = [scenes / "images/test" / file for file in (richest, *others[: SCENES - 1])]
    return Showcase(tuple(shown), tuple(f"a {name}" for name in wanted))
