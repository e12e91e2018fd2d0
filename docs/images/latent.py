"""Draws README's first picture: one latent, as each model of the demo chooses it alone.

After `make demo`:  .venv/bin/python docs/images/latent.py demo/reports/sparc --word violin

All figures are those of the report: the images on which the latent is active, by any of their rows,
with its class and in all (`report.bias`), and the overlaps of `report.latent`. Of the latents that
the word names, the one is drawn that all models share with the largest overlap, or `--latent`.
"""

import argparse
import base64
import html
import io
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

import sparc
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.notebook.latent import LatentView

PICTURE = Path(__file__).with_suffix(".webp")
PAGE = Template(Path(__file__).with_suffix(".html").read_text(encoding="utf-8"))
WIDTH, HEIGHT, SCALE = 800, 544, 2
"""In CSS pixels, and how many pixels of the picture each of these is."""

MILLISECONDS = 3_000
"""That the page has, by its own clock, to draw."""

MODELS = {
    "dino": ("DINOv2", "never saw a word", "#6fb1ff"),
    "effnet": ("EfficientNet", "never saw a word", "#7fe0b4"),
    "minilm": ("MiniLM", "never saw an image", "#d7a1ff"),
}
"""By stream of the demo, what its model is called, what it never saw, and its colour."""

AMBER, PANEL, EDGE = "#ffc24b", "#161e33", "#2b3550"

# In CSS pixels, from the left: models, their codes, what the latent shows, its counts.
LEFT, CODES, SHOWN, RIGHT = 28, (164, 306), (330, 684), 772

# From the top: the row that all models get, a band a model, the lines of the held-out images.
ROW, BANDS, LINES, TRUTH = 22, (114, 202, 290), (412, 438, 464), 498
SIDE, IMAGES, CAPTIONS, THICK, CORNER = 66, 5, 3, 19, 14


@dataclass(frozen=True)
class Alone:
    """What a stream says of a latent alone, without seeing the others.

    Attributes:
        images: On which of the report's images the latent is active, (images,).
        chosen: The latents that the stream chooses for the row that is shown.
        with_class: How many images on which it is active carry the class.
        active: On how many images it is active.
    """

    images: npt.NDArray[np.bool_]
    chosen: npt.NDArray[np.int64]
    with_class: int
    active: int


def what_each_says(
    report: sparc.Report, latent: int, word: str, row: int, of_row: npt.NDArray[np.int64]
) -> dict[str, Alone]:
    """By stream, what it says alone.

    Raises:
        ValueError: The codes say otherwise than the report's table.
    """
    table = report.bias(f"class:{word}").associations
    table = table[(table["latent"] == latent) & (table["control"] == "trained")]
    counts = table.set_index("stream")
    said = {}
    for stream in report.info.streams:
        images = np.zeros(of_row.max() + 1, np.bool_)
        chosen = np.empty(0, np.int64)
        for chunk in range(report.codes.layout.chunks):
            codes = report.codes.read(CodeSet("independent"), chunk, (stream,))
            matrix = codes.matrix(stream, report.info.latents)
            images[of_row[codes.rows[matrix[:, latent].nonzero()[0]]]] = True
            if row in codes.rows:
                chosen = matrix[codes.rows == row].nonzero()[1]
        active = int(counts.loc[stream, "images_latent"])
        if images.sum() != active:
            raise ValueError(f"{stream}: {images.sum()} images by codes, {active} by the report")
        said[stream] = Alone(images, chosen, int(counts.loc[stream, "images_both"]), active)
    return said


def at(x: float, y: float, inner: str, kind: str, style: str = "") -> str:
    """HTML at a place."""
    return f'<div class="at {kind}" style="left:{x}px;top:{y}px;{style}">{inner}</div>'


def box(x: float, y: float, width: float, height: float, colour: str, more: str = "") -> str:
    """A rectangle of SVG."""
    return (
        f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" '
        f'fill="{colour}" {more}/>'
    )


def tile(image: Image.Image) -> str:
    """An image, as HTML that needs no other file."""
    content = io.BytesIO()
    image.convert("RGB").resize((SIDE * SCALE, SIDE * SCALE)).save(content, "PNG")
    data = base64.b64encode(content.getvalue()).decode()
    return f'<img width="{SIDE}" height="{SIDE}" src="data:image/png;base64,{data}">'


def marked(caption: str, word: str) -> str:
    """A caption with a word of it in colour."""
    return re.sub(rf"(?i)\b({word}s?)\b", r"<b>\1</b>", html.escape(caption))


def texts(view: LatentView, said: Mapping[str, Alone], word: str, latents: int) -> Iterator[str]:
    """All that is HTML: names, images, captions and counts."""
    first = next(iter(said))
    yield at(LEFT, ROW, tile(view.images[first][0]), "")
    caption = html.escape(str(view.rows["caption"].iloc[0]))
    yield at(LEFT + SIDE + 14, ROW + 26, f"“{caption}”", "")
    yield at(_of_latent(view.number, latents), ROW + 58, f"latent {view.number}", "latent")
    yield at(SHOWN[0], ROW + 60, "where it is strongest", "quiet")
    yield at(RIGHT, ROW + 58, html.escape(word), "word right")
    step = (SHOWN[1] - SHOWN[0] - SIDE) / (IMAGES - 1)
    for top, (stream, alone) in zip(BANDS, said.items(), strict=True):
        name, never, colour = MODELS[stream]
        yield at(LEFT, top + 14, name, "model", f"color:{colour}")
        yield at(LEFT, top + 38, never, "quiet")
        rows = view.rows[view.rows["stream"] == stream]
        if stream == "minilm":
            width = f"width:{SHOWN[1] - SHOWN[0]}px"
            for line, caption in enumerate(rows["caption"].iloc[:CAPTIONS]):
                yield at(SHOWN[0], top + 26 * line - 4, marked(caption, word), "caption", width)
        else:
            for place, image in enumerate(view.images[stream][:IMAGES]):
                yield at(SHOWN[0] + step * place, top, tile(image), "")
        count = f"{alone.with_class}<span> of {alone.active}</span>"
        yield at(RIGHT, top + 20, count, "count right")
    for top, stream in zip(LINES, said, strict=True):
        yield at(
            LEFT, top + 1, MODELS[stream][0], "", f"color:{MODELS[stream][2]};font-weight:bold"
        )
    yield at(
        LEFT, TRUTH + 1, f"{html.escape(word)} in the image", "", f"color:{AMBER};font-weight:bold"
    )
    images = next(iter(said.values())).images
    yield at(CODES[0], LINES[0] - 26, f"{len(images)} held-out images", "quiet")
    pairs = view.facts.pairs
    overlaps = [pair.overlap for pair in pairs if pair.overlap is not None]
    chances = [pair.overlap_mispaired for pair in pairs if pair.overlap_mispaired is not None]
    text = (
        f"images in common <b>{min(overlaps):.2f} to {max(overlaps):.2f}</b>, "
        f"by chance {min(chances):.2f} to {max(chances):.2f}"
    )
    yield at(RIGHT, LINES[0] - 26, text, "quiet right")


def drawing(
    view: LatentView, said: Mapping[str, Alone], truth: npt.NDArray[np.bool_], latents: int
) -> Iterator[str]:
    """All that is SVG: codes, the latent that they have in common, and the held-out images."""
    trunk = f"M{LEFT - 1} {ROW + SIDE / 2} H{LEFT - 14} V{BANDS[-1] + 34} H{LEFT - 6}"
    twigs = "".join(f"M{LEFT - 14} {top + 34} H{LEFT - 6}" for top in BANDS[:-1])
    yield f'<path d="{trunk}{twigs}" stroke="#4a5676" stroke-width="2" fill="none"/>'
    for top, (stream, alone) in zip(BANDS, said.items(), strict=True):
        edge = f'rx="6" stroke="{EDGE}"'
        yield box(CODES[0], top + 10, CODES[1] - CODES[0], 50, PANEL, edge)
        for latent in alone.chosen:
            yield box(_of_latent(int(latent), latents) - 1, top + 17, 2, 36, MODELS[stream][2])
    x = _of_latent(view.number, latents)
    yield box(x - 2, ROW + 80, 4, BANDS[-1] + 64 - ROW - 80, AMBER, 'rx="2"')
    left, step = CODES[0], (RIGHT - CODES[0]) / len(truth)
    for image in np.flatnonzero(truth):
        middle = left + step * (image + 0.5)
        yield box(middle - 1, LINES[0], 2, TRUTH - LINES[0], AMBER, 'opacity=".45"')
    marks = [
        (top, alone.images, MODELS[s][2])
        for top, (s, alone) in zip(LINES, said.items(), strict=True)
    ]
    for top, images, colour in [*marks, (TRUTH, truth, AMBER)]:
        yield box(left, top, RIGHT - left, THICK, PANEL, 'rx="4"')
        for image in np.flatnonzero(images):
            yield box(left + step * (image + 0.5) - 1.5, top, 3, THICK, colour)


def _of_latent(latent: int, latents: int) -> float:
    """Where a latent is within a code, from the left."""
    return CODES[0] + (CODES[1] - CODES[0]) * (latent + 0.5) / latents


def page(report: sparc.Report, word: str, latent: int | None = None) -> str:
    """The picture as HTML.

    Args:
        report: Of the demo, with captions and labels.
        word: A class that captions name, too.
        latent: Which of the latents that the word names; None: that with the largest overlap.
    """
    if latent is None:
        named = report.concepts(word=word, shared=True)
        latent = int(named.sort_values("overlap")["latent"].iloc[-1])
    view = report.latent(latent)
    cache = sparc.ActivationCache(report.info.cache)
    rows = cache.rows(["sample_id", "label_ids"]).to_pylist()
    of_row = np.unique([row["sample_id"] for row in rows], return_inverse=True)[1]
    number = cache.classes()["name"].to_pylist().index(word)
    truth = np.zeros(of_row.max() + 1, np.bool_)
    truth[of_row[[number in row["label_ids"] for row in rows]]] = True
    said = what_each_says(report, latent, word, int(view.rows["row"].iloc[0]), of_row)
    latents = report.info.latents
    size = f'width="{WIDTH}" height="{HEIGHT}"'
    body = f"<svg {size}>{''.join(drawing(view, said, truth, latents))}</svg>"
    return PAGE.substitute(body=body + "".join(texts(view, said, word, latents)))


def draw(content: str) -> None:
    """Write the page as the picture beside this file."""
    with tempfile.TemporaryDirectory() as folder:
        source, shot = Path(folder) / "latent.html", Path(folder) / "shot.png"
        source.write_text(content, encoding="utf-8")
        subprocess.run(
            [
                *("chromium", "--headless=new", "--no-sandbox", "--disable-gpu"),
                *("--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}"),
                f"--force-device-scale-factor={SCALE}",
                *(f"--virtual-time-budget={MILLISECONDS}", f"--screenshot={shot}"),
                source.as_uri(),
            ],
            check=True,
        )
        card = Image.open(shot).convert("RGB")
    corners = Image.new("L", card.size)
    ImageDraw.Draw(corners).rounded_rectangle((0, 0, *card.size), CORNER * SCALE, fill=255)
    card.putalpha(corners)
    card.save(PICTURE, quality=86, method=6)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", help="Of the demo, with captions and labels.")
    parser.add_argument("--word", required=True, help="A class that captions name, too.")
    parser.add_argument("--latent", type=int, help="Which of the latents that the word names.")
    typed = parser.parse_args()
    draw(page(sparc.Report(typed.report), typed.word, typed.latent))
