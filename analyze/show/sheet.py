"""The images of a latent in one PNG: a band for each stream, its strongest images and further ones.

A sheet says what it shows, images on which the latent is active; what they have in common is for
its reader to see.
"""

from pathlib import Path

from PIL import Image

from sparc.analyze.report.output import write_png
from sparc.analyze.search.tiles import GAP, LETTERS, LINE, LINES, TILE, Sheet, Tile, open_images
from sparc.analyze.show.latent import QUANTILES, STRONGEST
from sparc.analyze.show.view import InStream, Latent, LatentImage
from sparc.common.cache.reader import ActivationCache
from sparc.common.text import amount, shorten

_COLUMNS = STRONGEST + len(QUANTILES)
_BAND = LINE + TILE + LINES * LINE + 2 * GAP


def latent_sheet(latent: Latent, cache: ActivationCache, file: Path, *, dataset: str = "") -> int:
    """Write the sheet of a latent.

    Args:
        latent: The latent.
        cache: The cache whose images they are.
        file: The PNG file.
        dataset: The dataset's folder if it has moved; empty: the recorded one.

    Returns:
        Number of images that could not be read: empty frames.
    """
    image, missing = draw_sheet(latent, cache, dataset=dataset)
    write_png(file, image)
    return missing


def draw_sheet(
    latent: Latent, cache: ActivationCache, *, dataset: str = ""
) -> tuple[Image.Image, int]:
    """The sheet of a latent, and how many images could not be read; see `latent_sheet`."""
    streams = [stream for stream in latent.streams if stream.images]
    head = 2 * GAP + LINE
    sheet = Sheet(_COLUMNS * (TILE + GAP) + GAP, head + max(1, len(streams)) * _BAND)
    title = f"images on which latent {latent.number} is active, the strongest first; then at "
    title += ", ".join(f"{share:.0%}" for share in QUANTILES) + " of them"
    sheet.write(title if streams else f"latent {latent.number} is active on no image", GAP, GAP)
    shown = [entry for stream in streams for entry in stream.shown]
    rows, names = [entry.row for entry in shown], [entry.image for entry in shown]
    images, missing = open_images(rows, names, cache, dataset), 0
    for band, stream in enumerate(streams):
        top = head + band * _BAND
        sheet.write(_heading(stream), GAP, top)
        for column, entry in enumerate(stream.shown):
            image = next(images)
            missing += image is None
            sheet.place(Tile(image, _text(entry)), GAP + column * (TILE + GAP), top + LINE + GAP)
    return sheet.image, missing


def _heading(stream: InStream) -> str:
    names = ", ".join(str(name) for name in stream.names[:3])
    called = f"; named {names}" if names else ""
    return shorten(f"{stream.stream}: {amount(stream.images, 'image')}{called}", 200)


def _text(entry: LatentImage) -> list[str]:
    return [
        f"{entry.place}.  value {entry.value:.3f}  row {entry.row}",
        shorten(entry.caption or entry.sample_id, LETTERS),
    ]
