"""The rows of an extraction: those of a dataset, or the places of its images."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

from sparc.common.cache.manifest import Manifest
from sparc.common.text import amount
from sparc.extract.config import ExtractConfig
from sparc.extract.encoding.chunks import ChunkTable, has_input, require_inputs
from sparc.extract.places import Places, by_place, places_of


class Rows(NamedTuple):
    """The rows of a job.

    Attributes:
        manifest: The rows, with what the dataset says beside them.
        table: The same, to be cut into chunks.
        rows_per_chunk: In every chunk but the last.
        places: Which places of each image are rows; None where whole images are.
    """

    manifest: Manifest
    table: ChunkTable
    rows_per_chunk: int
    places: Places | None

    def lines(self) -> Iterator[str]:
        """What to say of places, for a person to read."""
        if self.places is not None:
            yield f"places    {self.places}: {amount(len(self.manifest.rows), 'row')}"


def fitting_streams(
    manifest: Manifest, config: ExtractConfig
) -> tuple[ExtractConfig, tuple[str, ...]]:
    """The streams of a preset for which a dataset has input; streams that were named all need it.

    A preset has streams of images and of captions, and a folder of images may have no captions.

    Returns:
        The settings with these streams, and a line for a person about each that is left out.

    Raises:
        DatasetError: A stream that was named has no input in the dataset, or none of a preset has.
    """
    specs = config.specs
    fitting = {name: spec for name, spec in specs.items() if has_input(manifest.rows, spec)}
    if config.streams or not fitting:
        require_inputs(manifest.rows, specs)
    if len(fitting) == len(specs):
        return config, ()
    streams = tuple(f"{name}={spec}" for name, spec in fitting.items())
    lines = tuple(
        f"left out  stream {name} of {config.preset}: there is nothing for it to encode"
        for name in specs
        if name not in fitting
    )
    return dataclasses.replace(config, streams=streams, preset=""), lines


def rows_of(manifest: Manifest, config: ExtractConfig) -> Rows:
    """The rows of a dataset, or the places of its images where streams ask for them.

    Raises:
        DatasetError: The dataset's images cannot be divided.
        ConfigError: Streams ask for different places.
    """
    places = places_of(config.specs.values(), config.places_per_image)
    if places is None:
        return Rows(manifest, ChunkTable(manifest.rows), config.rows_per_chunk, None)
    manifest = by_place(manifest, places)
    table = ChunkTable(manifest.rows, places_per_image=places.per_image)
    return Rows(manifest, table, places.rows_per_chunk(config.rows_per_chunk), places)
