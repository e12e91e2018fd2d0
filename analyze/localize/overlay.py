"""Draws maps over an image, a caption with its words shaded, and contact sheets.

Colours are those of cividis (Nuñez, Anderton, Renslow 2018), from dark blue to yellow, which look
alike to all kinds of colour vision. This module must not know what made a map.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from sparc.analyze.localize.words import WordWeight
from sparc.common.text import printable, shorten

PANEL = 288
"""Longest side of an image in an overlay, in pixels."""
SHEET_ROWS = 40
"""Overlays on a contact sheet at most."""

_GAP = 8
_LINE = 18
_TEXT = 14
_INK = (0, 0, 0)
_UNSEEN = (128, 128, 128)
_CIVIDIS = np.array(
    [
        (0, 34, 78),
        (8, 51, 112),
        (53, 69, 108),
        (79, 87, 108),
        (102, 105, 112),
        (125, 124, 120),
        (148, 142, 119),
        (174, 163, 113),
        (200, 184, 102),
        (229, 207, 82),
        (254, 232, 56),
    ],
    np.float64,
)

Rgb = npt.NDArray[np.uint8]


def panel_size(width: int, height: int) -> tuple[int, int]:
    """The width and height at which an image is drawn: its own, or smaller."""
    scale = min(1.0, PANEL / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


class Layer(NamedTuple):
    """A map to draw over an image.

    Attributes:
        values: (height, width); NaN where the encoder sees nothing.
        scale: The rise above the map's median with the brightest colour; 0 draws no colour.
    """

    values: npt.NDArray[np.floating]
    scale: float


def shares(layer: Layer) -> npt.NDArray[np.float64]:
    """The colour scale of a map: 0 up to its median, 1 at a rise of `scale`; NaN stays."""
    values = layer.values
    known = values[~np.isnan(values)]
    if not known.size or layer.scale <= 0:
        return np.where(np.isnan(values), np.nan, 0.0)
    scaled: npt.NDArray[np.float64] = np.clip((values - np.median(known)) / layer.scale, 0, 1)
    return scaled


def colours(values: npt.NDArray[np.floating]) -> Rgb:
    """Shares from 0 to 1 as colours, (..., 3)."""
    stops = np.linspace(0, 1, len(_CIVIDIS))
    channels = [np.interp(values, stops, _CIVIDIS[:, i]) for i in range(3)]
    rgb: Rgb = np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
    return rgb


def blend(image: Image.Image, layer: Layer) -> Image.Image:
    """Draw a map over an image.

    Args:
        image: RGB, at the size of the map.
        layer: The map. Places that the encoder does not see are hatched; a scale of 0 draws the
            image in grey only.
    """
    pixels = np.asarray(image, np.float64)
    grey = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2)
    share = shares(layer)
    known = np.nan_to_num(share)
    tint = colours(known) if layer.scale > 0 else np.full(3, _UNSEEN[0])
    mixed = 0.45 * grey + 0.55 * tint
    rows, columns = np.indices(share.shape)
    hatched = ((rows + columns) // 4 % 2 == 0)[..., None]
    outside = np.where(hatched, _UNSEEN, 0.4 * grey + 0.6 * 255)
    result = np.where(np.isnan(share)[..., None], outside, mixed)
    return Image.fromarray(np.rint(result).astype(np.uint8))


def overlay(
    image: Image.Image,
    maps: Mapping[str, Layer],
    *,
    title: str,
    words: Sequence[WordWeight] = (),
    legend: str = "",
) -> Image.Image:
    """Draw an image, the maps of its streams over it, and the words of a caption.

    Args:
        image: RGB, any size.
        maps: By heading, at `panel_size` of the image.
        title: The query.
        words: The caption, shaded by weight; may be empty.
        legend: A line at the bottom; may be empty.
    """
    shown = image.resize(panel_size(*image.size), Image.Resampling.LANCZOS)
    panels = {"image": shown} | {name: blend(shown, layer) for name, layer in maps.items()}
    step = max(shown.width, 120) + _GAP
    width = max(step * len(panels) + _GAP, 320)
    lines = _lines_of_words(words, width - 2 * _GAP)
    height = _GAP + 2 * _LINE + shown.height + _GAP + _LINE * len(lines) + (_GAP if lines else 0)
    height += _LINE if legend else 0
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _GAP), _fit(title, width - 2 * _GAP), _INK, font=_font())
    for index, (name, panel) in enumerate(panels.items()):
        left = _GAP + index * step
        draw.text((left, _GAP + _LINE), _fit(name, step - _GAP), _INK, font=_font())
        sheet.paste(panel, (left, _GAP + 2 * _LINE))
    top = 2 * _GAP + 2 * _LINE + shown.height
    largest = max((word.weight for word in words), default=0.0)
    for number, line in enumerate(lines):
        _draw_words(draw, line, top + number * _LINE, largest)
    if legend:
        draw.text((_GAP, height - _LINE), _fit(legend, width - 2 * _GAP), _INK, font=_font())
    return sheet


def contact_sheet(overlays: Sequence[Image.Image]) -> Image.Image:
    """Overlays below each other, in two columns where there are many."""
    shown = overlays[:SHEET_ROWS]
    columns = 1 if len(shown) < 6 else 2
    width = max(overlay.width for overlay in shown)
    rows = [shown[i : i + columns] for i in range(0, len(shown), columns)]
    heights = [max(overlay.height for overlay in row) for row in rows]
    sheet = Image.new("RGB", (width * columns, sum(heights)), "white")
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for index, panel in enumerate(row):
            sheet.paste(panel, (index * width, top))
        top += height
    return sheet


def _lines_of_words(words: Sequence[WordWeight], width: int) -> list[list[WordWeight]]:
    lines: list[list[WordWeight]] = []
    left = math.inf
    for word in words:
        length = _font().getlength(printable(word.word)) + _GAP
        if left + length > width:
            lines.append([])
            left = 0.0
        lines[-1].append(word)
        left += length
    return lines


def _draw_words(
    draw: ImageDraw.ImageDraw, words: Sequence[WordWeight], top: int, largest: float
) -> None:
    left = float(_GAP)
    for word, weight in words:
        text = printable(word)
        length = _font().getlength(text)
        share = max(0.0, weight / largest) if largest > 0 else 0.0
        # From white for no weight to yellow for the largest.
        yellow = _CIVIDIS[-1]
        colour = tuple(int(c) for c in np.rint(255 + share * (yellow - 255)))
        box = (left - 2, top, left + length + 2, top + _LINE - 2)
        draw.rectangle(box, fill=colour, outline=_INK if share > 0.5 else None)
        draw.text((left, top), text, _INK, font=_font())
        left += length + _GAP


def _fit(text: str, width: int) -> str:
    shown = printable(text)
    while len(shown) > 1 and _font().getlength(shown) > width:
        shown = shorten(shown, len(shown) - 1)
    return shown


@functools.cache
def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=_TEXT)
