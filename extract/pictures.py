"""From the bytes of a picture to RGB pixels, or to one line that says why that cannot be.

Whatever a picture's file claims is checked before memory is spent on it. This module must not know
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
"""A larger picture is refused: decoded, it would take more than 300 MB."""

MAX_ASPECT = 200
"""A picture this many times longer than wide is refused: encoders enlarge the shorter side to a few
hundred pixels, and the longer one with it."""

Image.init()
FORMATS = tuple(
    name
    for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
    if name in Image.OPEN
)
"""The formats that are read. Pillow knows many more, with parsers that few pictures have tested."""

_LINES = 64
"""Lines of a grey picture that are scaled at a time."""

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


class PictureError(SparcError):
    """A picture that cannot be read: the text gives the reason, the caller knows which picture."""


def upright_rgb(picture: Image.Image) -> Image.Image:
    """An image that Pillow has opened, upright and in RGB; see `decode`."""
    picture.load()
    # After loading: Pillow has then turned TIFFs, and taken the tag away.
    turn = _TURNS.get(_orientation(picture))
    return _rgb(picture if turn is None else picture.transpose(turn))


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode a picture at full size, upright, in RGB.

    Transparency is laid on white, an animation gives its first frame, EXIF orientation is applied.
    Grey values beyond 8 bits are scaled to 8: 16-bit ones from 0..65535; 32-bit and float ones from
    0..1 (float), 0..255 or 0..65535, whichever is the first to hold them, else from their own
    range.

    May be called from several threads at once.

    Args:
        data: The encoded picture.
        max_pixels: Most pixels; judged by the header, before anything is decoded.

    Raises:
        PictureError: The picture is broken, truncated, too large or in no known format.
        MemoryError: This machine has not enough, which says nothing about the picture.
    """
    if not data:
        raise PictureError("the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            _check_size(*picture.size, max_pixels)
            return upright_rgb(picture)
    except (PictureError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise PictureError(f"not a picture in a known format ({', '.join(FORMATS)})") from error
    except Image.DecompressionBombError as error:
        raise PictureError(f"the picture has more than {max_pixels:,} pixels") from error
    except Exception as error:  # Pillow's parsers raise almost anything at damaged bytes
        raise PictureError(f"the picture is broken: {shorten(str(error), 160)}") from error


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise PictureError(
            f"the picture has {width} x {height} pixels, more than {max_pixels:,} in all"
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise PictureError(
            f"the picture has {width} x {height} pixels: one side is more than {MAX_ASPECT} times "
            "the other"
        )


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # damaged metadata say nothing about the pixels
        return 1


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):
        return _grey(picture, black=0.0, white=65_535.0)
    if picture.mode in ("I", "F"):
        return _grey(picture, *_range(picture))
    if picture.mode == "La":  # premultiplied grey: Pillow converts it to LA only
        picture = picture.convert("LA")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layers = picture.convert("RGBA")
    flat = Image.new("RGB", picture.size, "white")
    flat.paste(layers, mask=layers.getchannel("A"))
    return flat


def _range(picture: Image.Image) -> tuple[float, float]:
    """The values that stand for black and white in a picture whose type does not say it."""
    least, most = math.inf, -math.inf
    for _, lines in _lines(picture):
        if not np.isfinite(lines).all():
            raise PictureError("the picture has values that are not finite")
        least, most = min(least, float(lines.min())), max(most, float(lines.max()))
    scales = (1.0, 255.0, 65_535.0) if picture.mode == "F" else (255.0, 65_535.0)
    fitting = [scale for scale in scales if most <= scale] if least >= 0 else []
    if fitting:
        return 0.0, fitting[0]
    return least, most if most > least else least + 1.0


def _grey(picture: Image.Image, black: float, white: float) -> Image.Image:
    width, height = picture.size
    grey = np.empty((height, width), np.uint8)
    for start, lines in _lines(picture):
        scaled = (lines.astype(np.float64) - black) * (255.0 / (white - black))
        grey[start : start + _LINES] = np.rint(scaled)
    return Image.fromarray(grey).convert("RGB")


def _lines(picture: Image.Image) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """The values of some lines at a time, and the first line's number.

    An array of the whole picture, and one in double precision, would take many times its memory.
    """
    width, height = picture.size
    for start in range(0, height, _LINES):
        part = picture.crop((0, start, width, min(start + _LINES, height)))
        yield start, np.asarray(part)
