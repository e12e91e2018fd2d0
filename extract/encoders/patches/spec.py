"""The options by which a spec of any library asks for the features of places, not of the image."""

import dataclasses
import re
from collections.abc import Hashable
from typing import ClassVar, NamedTuple, Self

from sparc.common.streams.info import Modality
from sparc.extract.encoders.spec import MalformedSpecError, StreamSpec

_QUERY = re.compile(r"(?P<before>[^?]*)\?(?P<query>[^?]*?)(?P<tower>#image|#text)?", re.DOTALL)
_PLACES = re.compile(r"([1-9]\d{0,2})x([1-9]\d{0,2})")
_TOKENS = "tokens=patch"


class Grid(NamedTuple):
    """How many places an image is divided into.

    Attributes:
        rows: From top to bottom.
        columns: From left to right.
    """

    rows: int
    columns: int

    @property
    def places(self) -> int:
        """How many there are; they are numbered row by row, from 0."""
        return self.rows * self.columns

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}"


@dataclasses.dataclass(frozen=True)
class PatchSpec(StreamSpec):
    """An image encoder that gives a feature for each place of a grid.

    Attributes:
        inner: The encoder, as if it gave one of the whole image.
        grid: The places.
    """

    library: ClassVar[str] = "patches"
    grammar: ClassVar[str] = "<spec of images>?tokens=patch&places=<rows>x<columns>"

    inner: StreamSpec
    grid: Grid

    @classmethod
    def parse(cls, source: str) -> Self:
        """Not used: `patches_asked_for` finds the options in specs of other libraries."""
        raise MalformedSpecError(f"{source} names no library")

    @property
    def source(self) -> str:
        """See `StreamSpec.source`."""
        return str(self).partition(":")[2]

    @property
    def modality(self) -> Modality:
        """See `StreamSpec.modality`."""
        return "image"

    @property
    def place(self) -> str | None:
        """See `StreamSpec.place`."""
        return self.inner.place

    @property
    def runs_code(self) -> bool:
        """See `StreamSpec.runs_code`."""
        return self.inner.runs_code

    @property
    def model_key(self) -> Hashable:
        """See `StreamSpec.model_key`."""
        return self.inner.model_key

    @property
    def offline_advice(self) -> str:
        """See `StreamSpec.offline_advice`."""
        return self.inner.offline_advice

    def absolute(self) -> Self:
        """See `StreamSpec.absolute`."""
        return dataclasses.replace(self, inner=self.inner.absolute())

    def __str__(self) -> str:
        text = str(self.inner)
        before, tower = (text[:-6], "#image") if text.endswith("#image") else (text, "")
        joint = "&" if "?" in before else "?"
        return f"{before}{joint}{_TOKENS}&places={self.grid}{tower}"


def patches_asked_for(text: str) -> tuple[str, Grid | None]:
    """A spec without the options that ask for places, and the grid that they ask for.

    Args:
        text: A spec of any library.

    Raises:
        MalformedSpecError: They are incomplete, or the spec is of captions.
    """
    match = _QUERY.fullmatch(text)
    options = match["query"].split("&") if match else []
    if match is None or _TOKENS not in options:
        return text, None
    if match["tower"] == "#text":
        raise MalformedSpecError("captions have no patches: remove tokens=patch")
    values = [option.partition("=")[2] for option in options if option.startswith("places=")]
    size = _PLACES.fullmatch(values[0]) if len(values) == 1 else None
    if size is None:
        raise MalformedSpecError(
            "tokens=patch needs the number of places, rows by columns, as in "
            "?tokens=patch&places=7x7"
        )
    others = [o for o in options if o != _TOKENS and not o.startswith("places=")]
    query = f"?{'&'.join(others)}" if others else ""
    return f"{match['before']}{query}{match['tower'] or ''}", Grid(int(size[1]), int(size[2]))
