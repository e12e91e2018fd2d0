"""A latent as a notebook shows it: names, rows and images.

Texts come from datasets and are shown as texts, never as markup. This module must not know how
anything is computed.
"""

import base64
import html
import io
import itertools
import sys
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from PIL import Image

from sparc.analyze.notebook.frames import frame
from sparc.analyze.search.tiles import open_images, unreadable
from sparc.analyze.show.page import show
from sparc.analyze.show.sheet import draw_sheet
from sparc.analyze.show.view import Latent, LatentImage
from sparc.common.cache.reader import ActivationCache
from sparc.common.text import amount, printable

_SIDE = 120
"""Longer side of an image in a notebook, in pixels."""

_ROWS = pa.schema(
    [
        pa.field("stream", pa.string(), nullable=False),
        pa.field("place", pa.int64(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("image", pa.string()),
        pa.field("caption", pa.string()),
    ]
)


class LatentView:
    """A latent of a report; `report.latent(42)` makes one.

    At the end of a notebook's cell it shows itself; `print(report.latent(42))` and `show()` do so
    elsewhere.

    Args:
        facts: What there is to say of it.
        cache: The cache whose images its are.
        dataset: Where these are, if they have moved.

    Attributes:
        facts: What there is to say of it, as typed tuples.
    """

    def __init__(self, facts: Latent, cache: ActivationCache, dataset: str = "") -> None:
        self.facts = facts
        self._cache = cache
        self._dataset = dataset

    @property
    def number(self) -> int:
        """Its number."""
        return self.facts.number

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """By stream, the words that name it, the most telling first."""
        return {s.stream: tuple(name.word for name in s.names) for s in self.facts.streams}

    @property
    def rows(self) -> Any:
        """By stream, the rows of its strongest images, and of some further ones.

        `place` counts its images in the stream from the strongest, `value` is that of the latent.
        """
        lines = [
            {"stream": stream.stream, **entry._asdict()}
            for stream in self.facts.streams
            for entry in stream.shown
        ]
        return frame(pa.Table.from_pylist(lines, schema=_ROWS))

    @property
    def images(self) -> dict[str, list[Image.Image | None]]:
        """By stream, the images of `rows`; None where one cannot be read."""
        images = self._open()
        return {
            stream.stream: list(itertools.islice(images, len(stream.shown)))
            for stream in self.facts.streams
        }

    def sheet(self) -> Image.Image:
        """The images of all streams side by side."""
        return draw_sheet(self.facts, self._cache, dataset=self._dataset)[0]

    def show(self) -> None:
        """Write all that is known of it to standard output."""
        sys.stdout.write(f"{self}\n")

    def __str__(self) -> str:
        return show(self.facts)

    def __repr__(self) -> str:
        names = "; ".join(
            f"{stream}: {printable(', '.join(words[:3]))}"
            for stream, words in self.names.items()
            if words
        )
        return f"LatentView({self.number}{', ' if names else ''}{names})"

    def _repr_html_(self) -> str:
        return "\n".join(self._html())

    def _html(self) -> Iterator[str]:
        yield f"<details><summary>latent {self.number}</summary><pre>"
        yield f"{html.escape(str(self))}</pre></details>"
        images, missing = self._open(), 0
        for stream in self.facts.streams:
            names = ", ".join(self.names[stream.stream][:3])
            heading = f"{stream.stream}: {amount(stream.images, 'image')}"
            yield f"<p><b>{html.escape(heading)}</b> {html.escape(printable(names))}</p><div>"
            for entry in stream.shown:
                image = next(images)
                missing += image is None
                yield _figure(entry, image)
            yield "</div>"
        if missing:
            yield f"<p>{html.escape(unreadable(missing, self._cache))}</p>"

    def _open(self) -> Iterator[Image.Image | None]:
        """The images of all streams, one after the other."""
        shown = [entry for stream in self.facts.streams for entry in stream.shown]
        rows, images = [entry.row for entry in shown], [entry.image for entry in shown]
        return open_images(rows, images, self._cache, self._dataset)


def _figure(entry: LatentImage, image: Image.Image | None) -> str:
    """An image with its place and caption, as HTML that needs no other file."""
    text = html.escape(printable(entry.caption or entry.sample_id), quote=True)
    inner = "<i>no image</i>"
    if image is not None:
        small = image.copy()
        small.thumbnail((_SIDE, _SIDE))
        content = io.BytesIO()
        small.save(content, "JPEG", quality=85)
        data = base64.b64encode(content.getvalue()).decode()
        inner = f'<img src="data:image/jpeg;base64,{data}" alt="{text}">'
    return (
        f'<div style="display:inline-block;vertical-align:top;width:{_SIDE + 10}px">{inner}'
        f"<br><small>{entry.place}. {entry.value:.3f}, row {entry.row}<br>{text}</small></div>"
    )
