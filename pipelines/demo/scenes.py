"""Composing scenes: one to three drawings on a ground, with captions and masks.

A scene depends on its seed, split and index alone, so that asking for more scenes changes none of
the others. `dataset.py` writes them to disk.
"""

import random
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from sparc.pipelines.demo.drawings import Drawing, drawings, open_drawing

Split = Literal["train", "test"]

SIZE = 224
"""Height and width of a scene in pixels."""

CAPTIONS = 2
"""Captions per scene."""

_COUNTS = (1, 2, 2, 3)
"""Numbers of drawings in a scene, of which one is drawn at random."""

_SIDES = {1: (100, 180), 2: (80, 130), 3: (70, 110)}
"""Smallest and largest side of a drawing in pixels, by the number of drawings."""

_LARGEST_TURN = 15.0
"""Degrees; the largest drawing still fits into the scene."""

_LEAST_VISIBLE = 0.6
"""Share of a drawing that must remain visible behind those in front of it."""

_GROUNDS = {
    "white": (250, 250, 250),
    "grey": (190, 190, 190),
    "black": (40, 40, 40),
    "pale blue": (176, 208, 236),
    "green": (150, 200, 150),
    "yellow": (246, 228, 150),
    "pink": (244, 190, 204),
    "brown": (170, 140, 115),
    "purple": (180, 165, 215),
}

_SENTENCES = (
    "{things}",
    "{things} on a {ground} background",
    "a picture of {things}",
    "a drawing of {things} on {ground}",
    "you can see {things} in this picture",
    "{things} in front of a {ground} wall",
    "this scene shows {things}",
    "a {ground} picture of {things}",
)

_PAIRS = ("{0} and {1}", "{0} next to {1}", "{0} together with {1}", "{0} beside {1}")
_TRIPLES = ("{0}, {1} and {2}", "{0} with {1} and {2}", "{0} and {1} next to {2}")


class Placed(NamedTuple):
    """A drawing in a scene.

    Attributes:
        drawing: What it is.
        mask: (SIZE, SIZE) bool: its visible part.
    """

    drawing: Drawing
    mask: npt.NDArray[np.bool_]


class Scene(NamedTuple):
    """An image with its annotations.

    Attributes:
        image: SIZE x SIZE, RGB.
        objects: From back to front.
        captions: `CAPTIONS` sentences that name every object.
    """

    image: Image.Image
    objects: tuple[Placed, ...]
    captions: tuple[str, ...]


class _Layer(NamedTuple):
    drawing: Drawing
    image: Image.Image
    """SIZE x SIZE RGBA: the drawing at its place."""
    mask: npt.NDArray[np.bool_]
    """The whole of it, hidden parts included."""


def compose(seed: int, split: Split, index: int) -> Scene:
    """A scene; the same arguments always give the same one."""
    choose = random.Random(f"{seed} {split} {index}")
    ground_name = choose.choice(sorted(_GROUNDS))
    chosen = choose.sample(drawings(), choose.choice(_COUNTS))
    layers = _place(chosen, choose)
    scene = _ground(_GROUNDS[ground_name], choose)
    for layer in layers:
        scene.alpha_composite(layer.image)
    objects = tuple(
        Placed(layer.drawing, mask) for layer, mask in zip(layers, _visible(layers), strict=True)
    )
    sentences = choose.sample(_SENTENCES, CAPTIONS)
    captions = tuple(_caption(s, chosen, ground_name, choose) for s in sentences)
    return Scene(scene.convert("RGB"), objects, captions)


def _place(chosen: list[Drawing], choose: random.Random) -> list[_Layer]:
    """Place drawings at random until enough of each one is visible."""
    while True:
        layers = [_layer(drawing, len(chosen), choose) for drawing in chosen]
        if all(
            mask.sum() >= _LEAST_VISIBLE * layer.mask.sum()
            for layer, mask in zip(layers, _visible(layers), strict=True)
        ):
            return layers


def _layer(drawing: Drawing, count: int, choose: random.Random) -> _Layer:
    side = choose.randint(*_SIDES[count])
    image = open_drawing(drawing).resize((side, side), Image.Resampling.BICUBIC)
    if choose.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    turn = choose.uniform(-_LARGEST_TURN, _LARGEST_TURN)
    image = image.rotate(turn, Image.Resampling.BICUBIC, expand=True)
    whole = Image.new("RGBA", (SIZE, SIZE))
    corner = choose.randint(0, SIZE - image.width), choose.randint(0, SIZE - image.height)
    whole.paste(image, corner)
    return _Layer(drawing, whole, np.asarray(whole.getchannel("A")) > 127)


def _visible(layers: list[_Layer]) -> list[npt.NDArray[np.bool_]]:
    """The visible part of each layer: what no later one covers."""
    covered = np.zeros((SIZE, SIZE), dtype=np.bool_)
    masks = []
    for layer in reversed(layers):
        masks.append(layer.mask & ~covered)
        covered |= layer.mask
    return masks[::-1]


def _ground(colour: tuple[int, int, int], choose: random.Random) -> Image.Image:
    """A plain ground, or one that grows darker along a random direction."""
    down, right = choose.choice([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.5, 0.5)])
    depth = choose.uniform(0.15, 0.45)
    steps = np.linspace(0.0, 1.0, SIZE)
    shade = 1 - depth * (down * steps[:, None] + right * steps[None, :])
    pixels = np.asarray(colour) * shade[:, :, None]
    return Image.fromarray(pixels.round().astype(np.uint8)).convert("RGBA")


def _caption(sentence: str, chosen: list[Drawing], ground: str, choose: random.Random) -> str:
    phrases = [drawing.phrase for drawing in choose.sample(chosen, len(chosen))]
    if len(phrases) == 1:
        things = phrases[0]
    else:
        things = choose.choice(_PAIRS if len(phrases) == 2 else _TRIPLES).format(*phrases)
    text = sentence.format(things=things, ground=ground)
    return text[0].upper() + text[1:] + "."
