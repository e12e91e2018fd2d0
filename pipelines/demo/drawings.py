"""The drawings that scenes are composed of: 200 of Noto Emoji, bundled with their licence.

`emoji/emoji.csv` names each one and places it in a tree of groups and subgroups.
"""

import csv
import functools
from pathlib import Path
from typing import NamedTuple

from PIL import Image

FOLDER = Path(__file__).parent / "emoji"


class Drawing(NamedTuple):
    """One drawing and what it shows.

    Attributes:
        file: Its file in `FOLDER`, RGBA.
        name: What it shows: `sunflower`.
        phrase: The name with its article: `a sunflower`.
        subgroup: What it is a kind of: `flowers`.
        group: What that is a kind of: `plants`.
        code_point: The emoji's Unicode code point in hexadecimal.
    """

    file: str
    name: str
    phrase: str
    subgroup: str
    group: str
    code_point: str


@functools.cache
def drawings() -> tuple[Drawing, ...]:
    """All drawings, in the order of `emoji.csv`."""
    with (FOLDER / "emoji.csv").open(encoding="utf-8", newline="") as file:
        return tuple(Drawing(**line) for line in csv.DictReader(file))


@functools.cache
def open_drawing(drawing: Drawing) -> Image.Image:
    """The drawing's image: 128 x 128 RGBA. Not to be changed in place."""
    with Image.open(FOLDER / drawing.file) as image:
        return image.convert("RGBA")
