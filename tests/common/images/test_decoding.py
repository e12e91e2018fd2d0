"""Every kind of image that datasets hold, and what must be refused in little time and memory."""

import io
import struct
import threading
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version
from PIL import Image, ImageDraw

from sparc.common.images.decoding import FORMATS, ImageError, decode

RED, WHITE = (255, 0, 0), (255, 255, 255)


def encoded(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def photo(mode: str = "RGB", size=(40, 24)) -> Image.Image:
    """Smooth, with a dark mark in the upper left corner that shows which way is up."""
    y, x = np.mgrid[: size[1], : size[0]]
    values = np.stack([40 + 4 * x, 60 + 6 * y, 100 + x + y], axis=-1).clip(0, 255)
    image = Image.fromarray(values.astype(np.uint8))
    ImageDraw.Draw(image).rectangle((0, 0, 7, 5), fill=(0, 0, 0))
    return image.convert(mode)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_is_read_at_full_size(format):
    lossy = {"JPEG": {"quality": 95}, "AVIF": {"quality": 95}, "WEBP": {"lossless": True}}
    decoded = decode(encoded(photo(), format, **lossy.get(format, {})))
    assert (decoded.mode, decoded.size) == ("RGB", (40, 24))
    # GIF has 256 colours, JPEG and AVIF are lossy around the mark.
    difference = np.abs(np.asarray(decoded, int) - np.asarray(photo(), int))
    assert np.median(difference) <= (12 if format == "GIF" else 3)
    if format in ("PNG", "WEBP", "BMP", "TIFF", "PPM"):
        assert difference.max() == 0


def test_common_formats_are_there():
    assert {"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"} <= set(FORMATS)


@pytest.mark.parametrize(
    ("image", "format"),
    [
        (photo("CMYK"), "JPEG"),
        (photo("CMYK"), "TIFF"),
        pytest.param(
            *(photo("YCbCr"), "TIFF"),
            marks=pytest.mark.skipif(
                Version(PIL.__version__) < Version("13"), reason="Pillow does not read it"
            ),
        ),
        (photo("L"), "PNG"),
        (photo("P"), "PNG"),
        (photo("1"), "PNG"),
        (photo("1"), "TIFF"),
    ],
)
def test_colour_modes_become_what_pillow_makes_of_them(image, format):
    options = {"quality": 100} if format == "JPEG" else {}
    decoded = decode(encoded(image, format, **options))
    difference = np.abs(np.asarray(decoded, int) - np.asarray(image.convert("RGB"), int))
    assert decoded.mode == "RGB"
    assert difference.mean() < (8 if format == "JPEG" else 1)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_white(mode):
    colour = (255, 0, 0, 0) if mode == "RGBA" else (0, 0)
    image = Image.new(mode, (8, 8), colour)
    opaque, half = ((0, 0, 255, 255), (0, 0, 0, 128)) if mode == "RGBA" else ((9, 255), (0, 128))
    image.putpixel((1, 1), opaque)
    image.putpixel((2, 2), half)
    decoded = decode(encoded(image, "PNG"))
    assert decoded.getpixel((0, 0)) == WHITE
    assert decoded.getpixel((1, 1)) == ((0, 0, 255) if mode == "RGBA" else (9, 9, 9))
    assert decoded.getpixel((2, 2)) == (127, 127, 127)


def test_transparent_colour_of_a_palette_is_laid_on_white():
    image = Image.new("P", (8, 8), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putpixel((3, 3), 1)
    decoded = decode(encoded(image, "PNG", transparency=0))
    assert (decoded.getpixel((0, 0)), decoded.getpixel((3, 3))) == (WHITE, RED)
    assert decode(encoded(image, "GIF", transparency=0)).getpixel((0, 0)) == WHITE


def test_transparent_colour_of_an_rgb_png_is_laid_on_white():
    image = Image.new("RGB", (4, 4), (1, 2, 3))
    image.putpixel((0, 0), RED)
    decoded = decode(encoded(image, "PNG", transparency=(1, 2, 3)))
    assert (decoded.getpixel((0, 0)), decoded.getpixel((1, 1))) == (RED, WHITE)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_scale(format):
    values = np.array([[0, 257, 32_768, 65_535]], np.uint16).repeat(2, axis=0)
    decoded = decode(encoded(Image.fromarray(values), format))
    assert np.asarray(decoded)[0].tolist() == [[v] * 3 for v in (0, 1, 128, 255)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0, 0.25], [0, 128, 255, 64]),
        ([0.0, 100.0, 200.0, 255.0], [0, 100, 200, 255]),
        ([0.0, 65_535.0, 257.0, 514.0], [0, 255, 1, 2]),
        ([-1.0, 0.0, 0.0, 1.0], [0, 128, 128, 255]),
        ([7e5, 0.0, 0.0, 0.0], [255, 0, 0, 0]),
    ],
)
def test_float_tiff_is_scaled_by_the_range_that_holds_it(values, expected):
    image = Image.fromarray(np.array([values], np.float32))
    assert np.asarray(decode(encoded(image, "TIFF")))[0, :, 0].tolist() == expected


def test_float_tiff_that_is_not_finite_is_refused():
    image = Image.fromarray(np.array([[np.nan, 1.0]], np.float32))
    with pytest.raises(ImageError, match="not finite"):
        decode(encoded(image, "TIFF"))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_a_large_grey_image_takes_little_memory_beside_its_pixels(dtype):
    data = encoded(Image.fromarray(np.zeros((2000, 2000), dtype)), "TIFF", compression="tiff_lzw")
    tracemalloc.start()
    decode(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * 2000 * 2000  # a byte for each grey pixel, and a few lines


def test_thirty_two_bit_grey():
    image = Image.fromarray(np.array([[0, 514, 65_535, 0]], np.int32))
    assert np.asarray(decode(encoded(image, "TIFF")))[0, :, 0].tolist() == [0, 2, 255, 0]


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_gives_its_first_frame(format):
    later = Image.new("RGB", (16, 16), (0, 0, 255))
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(
        Image.new("RGB", (16, 16), RED), format, save_all=True, append_images=[later], **options
    )
    with Image.open(io.BytesIO(data)) as check:
        assert check.n_frames == 2
    assert decode(data).getpixel((5, 5)) == RED


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(format, orientation):
    upright = photo()
    stored = {
        1: upright,
        2: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: upright.transpose(Image.Transpose.ROTATE_180),
        4: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.transpose(Image.Transpose.ROTATE_90),
        7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode(encoded(stored, format, exif=exif))
    assert decoded.size == upright.size
    difference = np.abs(np.asarray(decoded, int) - np.asarray(upright, int))
    assert difference.mean() < 6  # another turn moves the mark and the shading


@pytest.mark.parametrize("garbage", [b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0xx"])
def test_damaged_exif_does_not_matter(garbage):
    assert decode(encoded(photo(), "JPEG", exif=garbage)).size == (40, 24)


@pytest.mark.parametrize("format", FORMATS)
def test_a_truncated_image_is_refused(format):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), format)
    with pytest.raises(ImageError):
        decode(data[: len(data) // 2])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"<html>404</html>",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"%PDF-1.7\n",
        b"RIFF",
    ],
)
def test_what_is_no_image_is_refused(data):
    with pytest.raises(ImageError):
        decode(data)


@pytest.mark.parametrize("format", ["ICO", "TGA", "PCX", "JPEG2000", "EPS", "SGI"])
def test_rare_formats_are_not_reached(format):
    try:
        data = encoded(photo(), format)
    except (OSError, KeyError):
        pytest.skip(f"this Pillow writes no {format}")
    with pytest.raises(ImageError, match="known format"):
        decode(data)


def test_the_reason_is_one_line_and_the_same_every_time():
    reasons = set()
    for data in (b"garbage", bytearray(b"garbage")):
        with pytest.raises(ImageError) as caught:
            decode(bytes(data))
        reasons.add(str(caught.value))
    (reason,) = reasons
    assert reason.isprintable()
    assert "0x" not in reason  # no memory address of a buffer: rejects are compared bit for bit


@pytest.mark.parametrize("size", [(20_000, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_a_huge_image_is_refused_from_its_header(size):
    data = png_header(*size)
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match="pixels"):
            decode(data)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_a_real_image_of_200_megapixels_is_refused_before_decoding(monkeypatch):
    # One bit a pixel: the file itself is small.
    data = encoded(Image.new("1", (20_000, 10_000)), "PNG")
    from PIL import PngImagePlugin

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(ImageError):
        decode(data)


def test_the_limit_is_the_callers():
    data = encoded(photo(), "PNG")
    assert decode(data, max_pixels=40 * 24).size == (40, 24)
    with pytest.raises(ImageError, match="40 x 24"):
        decode(data, max_pixels=40 * 24 - 1)


def test_a_thread_of_pixels_is_refused():
    with pytest.raises(ImageError, match="200 times"):
        decode(encoded(Image.new("RGB", (2, 401)), "PNG"))
    assert decode(encoded(Image.new("RGB", (2, 400)), "PNG")).size == (2, 400)


@given(cut=st.integers(0, 2_000), position=st.integers(0, 2_000), byte=st.integers(0, 255))
def test_damage_gives_an_image_or_an_image_error(cut, position, byte):
    data = bytearray(JPEG if cut % 2 else PNG)
    data[position % len(data)] = byte
    if cut < len(data):
        data = data[: len(data) - cut]
    try:
        outcome = decode(bytes(data)).mode
    except ImageError as error:
        outcome = str(error)
    assert outcome.isprintable()


PNG, JPEG = encoded(photo(), "PNG"), encoded(photo(), "JPEG", progressive=True)


def test_many_threads_decode_alike():
    images = [encoded(photo(), format) for format in FORMATS] * 8
    alone = [decode(data).tobytes() for data in images]
    barrier = threading.Barrier(8)

    def work(data: bytes) -> bytes:
        return decode(data).tobytes()

    with ThreadPoolExecutor(8, initializer=barrier.wait) as pool:
        assert list(pool.map(work, images)) == alone
