"""From the bytes of an image to RGB pixels, or to one line that says why this is impossible.

That line becomes the reason of a rejected row. Caches record reasons, so their wording ("the
picture …") never changes: a repaired cache then has the bytes that it had before.

Whatever an image's file claims is checked before memory is spent on it. This module must not know
where the bytes come from, nor which encoder reads the pixels.
"""

import io
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from sparc.common.errors import SparcError
from sparc.common.text import shorten

MAX_PIXELS = 100_000_000
"""A larger image is refused: decoded, it would take more than 300 MB."""

MAX_ASPECT = 200
"""An image this many times longer than wide is refused, and the reverse: encoders enlarge the
shorter side to a few hundred pixels, and the longer one with it."""

Image.init()
FORMATS = tuple(
    name
    for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
    if name in Image.OPEN
)
"""The formats that are read. Pillow knows many more, whose parsers are little tested."""

_LINES = 64
"""Lines of a grey image that are scaled at a time."""

_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(SparcError):
    """An image cannot be read: the message gives the reason, the caller knows which image."""


def upright_rgb(image: Image.Image) -> Image.Image:
    """An image that Pillow has opened, upright and in RGB; see `decode`."""
    image.load()
    # After loading, which turns TIFFs upright and removes their tag.
    turn = _TURNS.get(_orientation(image))
    return _rgb(image if turn is None else image.transpose(turn))


def decode(
    data: bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    formats: tuple[str, ...] = FORMATS,
    shorter_side: int = 0,
) -> Image.Image:
    """Decode an image, upright, in RGB.

    Transparency is put on white, an animation gives its first frame, EXIF orientation is applied.
    Grey values of more than 8 bits are scaled to 8: those of 16 bits from 0..65535; integers of 32
    bits and floats from 0..1 (floats only), 0..255 or 0..65535, the first of these that contains
    them, else from their own range.

    May be called from several threads at once.

    Args:
        data: The encoded image.
        max_pixels: Most pixels; judged by the header, before anything is decoded.
        formats: The formats that are read, as Pillow calls them.
        shorter_side: Least pixels of the shorter side, if a JPEG file is to be decoded at a half, a
            quarter or an eighth of its size, which takes less time; 0 decodes at full size, as
            other formats always are.

    Raises:
        ImageError: The image is broken, truncated, too large or in no known format.
        MemoryError: This machine has too little memory, which says nothing about the image.
    """
    if not data:
        raise ImageError("the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            _check_size(*image.size, max_pixels)
            if shorter_side:
                image.draft(None, (shorter_side, shorter_side))
            return upright_rgb(image)
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"not a picture in a known format ({', '.join(formats)})") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"the picture has more than {max_pixels:,} pixels") from error
    except Exception as error:  # Pillow's parsers raise almost anything for damaged bytes
        raise ImageError(f"the picture is broken: {shorten(str(error), 160)}") from error


def decode_numbers(data: bytes) -> npt.NDArray[np.uint8]:
    """The numbers of a PNG whose pixels are numbers: places in a palette, or grey values.

    Such images say which object or class each pixel belongs to; their colours mean nothing.

    Args:
        data: The encoded image.

    Returns:
        (height, width) numbers.

    Raises:
        ImageError: It is not such an image, broken or too large.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            _check_size(*image.size, MAX_PIXELS)
            if image.mode not in ("P", "L", "1"):
                raise ImageError(f"its pixels are colours ({image.mode}), not numbers")
            return np.asarray(image, np.uint8)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # Pillow's parsers raise almost anything for damaged bytes
        raise ImageError(f"the picture is broken: {shorten(str(error), 160)}") from error


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(
            f"the picture has {width} x {height} pixels, more than {max_pixels:,} in all"
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(
            f"the picture has {width} x {height} pixels: one side is more than {MAX_ASPECT} times "
            "the other"
        )


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # damaged metadata say nothing about the pixels
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return _grey(image, black=0.0, white=65_535.0)
    if image.mode in ("I", "F"):
        return _grey(image, *_range(image))
    if image.mode == "La":  # premultiplied grey: Pillow converts it to LA only
        image = image.convert("LA")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layers = image.convert("RGBA")
    flat = Image.new("RGB", image.size, "white")
    flat.paste(layers, mask=layers.getchannel("A"))
    return flat


def _range(image: Image.Image) -> tuple[float, float]:
    """The values of black and white in an image whose type does not define them."""
    least, most = math.inf, -math.inf
    for _, lines in _lines(image):
        if not np.isfinite(lines).all():
            raise ImageError("the picture has values that are not finite")
        least, most = min(least, float(lines.min())), max(most, float(lines.max()))
    scales = (1.0, 255.0, 65_535.0) if image.mode == "F" else (255.0, 65_535.0)
    fitting = [scale for scale in scales if most <= scale] if least >= 0 else []
    if fitting:
        return 0.0, fitting[0]
    return least, most if most > least else least + 1.0


def _grey(image: Image.Image, black: float, white: float) -> Image.Image:
    width, height = image.size
    grey = np.empty((height, width), np.uint8)
    for start, lines in _lines(image):
        scaled = (lines.astype(np.float64) - black) * (255.0 / (white - black))
        grey[start : start + _LINES] = np.rint(scaled)
    return Image.fromarray(grey).convert("RGB")


def _lines(image: Image.Image) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """The values of a few lines at a time, with the first line's number.

    Arrays of the whole image, one of them in double precision, would take many times its memory.
    """
    width, height = image.size
    for start in range(0, height, _LINES):
        part = image.crop((0, start, width, min(start + _LINES, height)))
        yield start, np.asarray(part)
