"""From an image to the bytes of its thumbnail, and back."""

import io

from PIL import Image

from sparc.common.cache.thumbnails.sizes import LARGEST_SIDE
from sparc.common.images.decoding import decode

_FORMAT = "WEBP"
_QUALITY = 80


def thumbnail_of(image: Image.Image, longest_side: int) -> bytes:
    """The thumbnail of an image, as a WebP file without any metadata.

    Args:
        image: In RGB, upright; it stays as it is.
        longest_side: Of the thumbnail, in pixels; a smaller image keeps its size.

    Returns:
        The same bytes for the same pixels, with the same Pillow.
    """
    scale = min(1.0, longest_side / max(image.size))
    width, height = (max(1, round(side * scale)) for side in image.size)
    small = image
    if scale < 1.0:
        # The gap makes large images fast: they are averaged roughly first, and then precisely.
        small = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
    buffer = io.BytesIO()
    # Pillow would copy a colour profile, which may be many times as long as the picture.
    small.save(buffer, _FORMAT, quality=_QUALITY, method=4, icc_profile=b"", exif=b"", xmp=b"")
    return buffer.getvalue()


def picture_of(thumbnail: bytes) -> Image.Image:
    """A thumbnail, decoded: in RGB.

    Raises:
        ImageError: It is not a WebP file, or larger than a thumbnail may be.
    """
    return decode(thumbnail, max_pixels=LARGEST_SIDE**2, formats=(_FORMAT,))
