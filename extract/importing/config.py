"""The settings of `sparc-extract import`, as options and as a TOML table.

Light on purpose: the command line reads this module for `--help`, so it imports no heavy package.
"""

import dataclasses
from pathlib import Path
from typing import Literal

from sparc.common.cache.thumbnails.sizes import SIDE, side_fault
from sparc.common.config import option, require_at_least
from sparc.common.errors import ConfigError
from sparc.common.registry import summaries
from sparc.common.streams.info import Modality, check_name
from sparc.common.timing.file import OPTION_HELP
from sparc.extract.importing.sources.registry import AUTO, CHOICES, FORMATS


@dataclasses.dataclass(frozen=True)
class Place:
    """Where an array lies.

    Attributes:
        path: A file or folder, below SOURCE or of its own; empty: SOURCE itself.
        key: The array in it; empty: the only one.
    """

    path: str
    key: str

    @classmethod
    def parse(cls, text: str) -> "Place":
        """Read `PATH`, `PATH::KEY` or `::KEY`."""
        path, separator, key = text.rpartition("::")
        return cls(path, key) if separator else cls(text, "")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """The settings of `sparc-extract import`."""

    streams: tuple[str, ...] = option(
        (),
        "An array to import, as NAME=PATH or NAME=PATH::KEY, the path below SOURCE; repeat for "
        "more. Without it: every array of SOURCE.",
        flag="--stream",
    )
    modality: tuple[str, ...] = option(
        (), "NAME=image or NAME=text; without it the names of stream and file decide. Repeatable."
    )
    format: str = option(
        AUTO,
        f"What the files are; auto looks at each. {summaries(FORMATS)}.",
        choices=CHOICES,
    )
    ids: tuple[str, ...] = option(
        (),
        "Where the names of a stream's rows lie, as NAME=PATH or NAME=PATH::KEY, or as KEY where "
        "they lie beside every array; repeat for more.",
    )
    align: Literal["auto", "ids", "rows"] = option(
        "auto",
        "How rows of streams are brought together: by their names, or as they follow one another; "
        "auto takes names where every stream has them.",
    )
    join: bool = option(
        False, "The rows are those of the cache that is there, whatever made it: streams join it."
    )
    table: Path | None = option(
        None, "Captions, labels and more of the rows: Parquet, CSV, TSV or JSON Lines."
    )
    id_column: str = option("", "Its column that names rows, where it is not called as usual.")
    caption_column: str = option("", "The column of captions, where it is not called as usual.")
    label_column: str = option("", "The column of labels: names or numbers, or lists of them.")
    image_column: str = option("", "The column of image files, where it is not called as usual.")
    images: Path | None = option(None, "The folder that these files lie in: then the cache has it.")
    classes: Path | None = option(None, "A text file of the classes' names, by their number.")
    columns: tuple[str, ...] = option(
        (), "A further column to keep in rows.parquet, or all; repeat for more.", flag="--column"
    )
    dtype: Literal["auto", "float16", "float32"] = option(
        "auto", "Type of the stored features; auto: float16 where the array has it, else float32."
    )
    rows_per_chunk: int = option(4096, "Rows per chunk, the unit of writing and reading.")
    thumbnails: int = option(
        SIDE, "Longest side in pixels of the pictures that the cache keeps of --images; 0: none."
    )
    repair: bool = option(
        False, "Check every byte of an existing cache; import what is damaged again, nothing else."
    )
    timings: Path | None = option(None, OPTION_HELP)
    dry_run: bool = option(False, "Only say what would be done: write nothing.")

    def __post_init__(self) -> None:
        # What is malformed is refused before anything is read.
        names = set(self.places)
        for name in self.modalities:
            if names and name not in names:
                raise ConfigError(f"--modality {name}=…: there is no such stream")
        require_at_least(self, "rows_per_chunk", 1)
        if (fault := side_fault(self.thumbnails)) is not None:
            raise ConfigError(fault)
        if self.join and (self.table or self.images or self.columns):
            raise ConfigError(
                "--join takes the rows of the cache with what it knows of them: leave out --table, "
                "--images and --column"
            )
        if self.align == "rows" and self.ids:
            raise ConfigError("--align rows takes rows as they are: leave --ids out")

    @property
    def places(self) -> dict[str, Place]:
        """The arrays of `streams`, by the stream that each becomes.

        Raises:
            ConfigError: One is malformed, or two have one name.
        """
        places: dict[str, Place] = {}
        for text in self.streams:
            name, equals, place = text.partition("=")
            if not equals or not place:
                raise ConfigError(
                    f"cannot read stream {text!r}: it must be NAME=PATH or NAME=PATH::KEY"
                )
            if check_name(name) in places:
                raise ConfigError(f"two streams are called {name!r}")
            places[name] = Place.parse(place)
        return places

    @property
    def modalities(self) -> dict[str, Modality]:
        """What `modality` says, by stream.

        Raises:
            ConfigError: It says something else than image or text.
        """
        modalities: dict[str, Modality] = {}
        for text in self.modality:
            name, _, kind = text.partition("=")
            if kind not in ("image", "text"):
                raise ConfigError(f"--modality {text}: it must be NAME=image or NAME=text")
            modalities[name] = "text" if kind == "text" else "image"
        return modalities
