"""Rows that are places of images: every row of a dataset, once for each of some of its places.

A cache of such rows is like any other: each has the image, caption and labels of the whole image,
and a `sample_id` of its own, the image's with `#` and the place. The column `place` says which
place that is, counted from 0, row by row of the grid.
"""

import dataclasses
import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparc.common.cache import tables
from sparc.common.cache.manifest import Manifest
from sparc.common.errors import ConfigError, DatasetError
from sparc.extract.encoders import StreamSpec
from sparc.extract.encoders.patches.spec import Grid, PatchSpec
from sparc.extract.encoding.chunks import PLACE


@dataclasses.dataclass(frozen=True)
class Places:
    """Which places of each image are rows.

    Attributes:
        grid: How an image is divided.
        per_image: How many of its places are kept.
    """

    grid: Grid
    per_image: int

    def __str__(self) -> str:
        kept = "" if self.per_image == self.grid.places else f"{self.per_image} of "
        return f"{kept}{self.grid} places of each image"

    def rows_per_chunk(self, wanted: int) -> int:
        """About as many rows as wanted, so that no image is divided between two chunks."""
        return max(1, wanted // self.per_image) * self.per_image

    def of(self, sample_id: str) -> npt.NDArray[np.int64]:
        """The places that are kept of an image, in order; drawn by its name alone."""
        if self.per_image == self.grid.places:
            return np.arange(self.grid.places)
        seed = int.from_bytes(hashlib.sha256(sample_id.encode()).digest()[:8], "little")
        drawn = np.random.default_rng(seed).permutation(self.grid.places)[: self.per_image]
        return np.sort(drawn)


def places_of(specs: Iterable[StreamSpec], per_image: int) -> Places | None:
    """The places that the streams of an extraction ask for; None if none does.

    Args:
        specs: The streams.
        per_image: How many places of an image are kept; 0: all.

    Raises:
        ConfigError: Streams ask for different places, or for fewer than are to be kept.
    """
    grids = list(dict.fromkeys(spec.grid for spec in specs if isinstance(spec, PatchSpec)))
    if not grids:
        if per_image:
            raise ConfigError(
                "places_per_image needs a stream of places: add ?tokens=patch&places=7x7 to its "
                "spec"
            )
        return None
    if len(grids) > 1:
        raise ConfigError(
            f"streams ask for different places, {' and '.join(map(str, grids))}, but their rows "
            "are the same: use one places= for all, which averages finer patches"
        )
    if per_image > grids[0].places:
        raise ConfigError(
            f"places_per_image is {per_image}, but places={grids[0]} are {grids[0].places}"
        )
    return Places(grids[0], per_image or grids[0].places)


def by_place(manifest: Manifest, places: Places) -> Manifest:
    """The same dataset with a row for each place of each image.

    Raises:
        DatasetError: Images have several rows already, masks were asked for, or the dataset's own
            column is in the way.
    """
    rows = manifest.rows
    if manifest.masks is not None:
        raise DatasetError("masks are of whole images, and rows are places: leave out --masks")
    if PLACE in rows.schema.names:
        raise DatasetError(
            f"the dataset has a column {PLACE} of its own, which rows of places need: do not keep "
            "it with --column"
        )
    if np.any(tables.same_as_before(rows["sample_id"])):
        raise DatasetError(
            "images have several captions, but rows of places need one row an image: add "
            "--captions first or --captions join"
        )
    names = rows.column("sample_id").to_pylist()
    chosen = [places.of(name) for name in names]
    ids = [f"{name}#{place}" for name, kept in zip(names, chosen, strict=True) for place in kept]
    repeated = rows.take(pa.array(np.repeat(np.arange(len(rows)), places.per_image)))
    own = {
        "row": np.arange(len(repeated)),
        "sample_id": ids,
        **{name: repeated.column(name) for name in ("image", "caption", "label_ids")},
    }
    columns = {name: repeated.column(name) for name in tables.dataset_columns(rows.schema).names}
    columns[PLACE] = pa.array(np.concatenate(chosen), pa.int64())
    table = tables.with_columns(pa.table(own, schema=tables.ROWS), columns)
    return dataclasses.replace(manifest, rows=table)
