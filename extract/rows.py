"""The rows of an extraction: those of a dataset, or the places of its images."""

from collections.abc import Iterator
from typing import NamedTuple

from sparc.common.cache.manifest import Manifest
from sparc.common.text import amount
from sparc.extract.config import ExtractConfig
from sparc.extract.encoding.chunks import ChunkTable
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
