"""The latents of a site as one Parquet table, to go on with in other tools.

Embedding Atlas opens it: `embedding-atlas FILE --image image --x x --y y`.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sparc.analyze.browse.config import BrowseConfig
from sparc.analyze.browse.contents.index import Column
from sparc.analyze.browse.contents.views import Map
from sparc.analyze.browse.gather.gathered import Gathered
from sparc.analyze.browse.pictures.sources import Pictures
from sparc.analyze.report.output import write_table
from sparc.analyze.report.tables import described


def export_latents(
    file: Path,
    gathered: Gathered,
    columns: Sequence[Column],
    plane: Map | None,
    pictures: Pictures | None,
    config: BrowseConfig,
) -> None:
    """Write a row for each latent that is alive.

    It has `latent`, `image` (a struct of `bytes`, as WebP, and `path`: its strongest image in the
    first stream where it has one), with a map `x` and `y`, and the columns of the list of latents.

    Args:
        file: The Parquet file.
        gathered: The report.
        columns: The columns of the list.
        plane: Where latents are in the map; None without one.
        pictures: Where pictures come from; None without any.
        config: The settings, for the table's description.

    Raises:
        SparcError: The file is something else.
    """
    alive = np.flatnonzero(~gathered.tables.dead)
    content: dict[str, Any] = {"latent": pa.array(alive, pa.int32())}
    content["image"] = _images(gathered, alive.tolist(), pictures)
    if plane is not None:
        content |= _places(plane, alive)
    for column in columns:
        values = column.data.decode()
        chosen = [values[latent] for latent in alive.tolist()]
        content[column.key] = pa.array(
            [None if isinstance(v, float | np.floating) and np.isnan(v) else v for v in chosen]
        )
    about = gathered.evidence.report.about("browse", config)
    write_table(file, described(pa.table(content), "latents_of_site", about))


def _places(plane: Map, alive: Any) -> dict[str, Any]:
    placed = plane.latents.decode().astype(np.int64)
    result = {}
    for axis, numbers in (("x", plane.x), ("y", plane.y)):
        values = dict(zip(placed.tolist(), numbers.decode().tolist(), strict=True))
        result[axis] = pa.array([values.get(latent) for latent in alive.tolist()], pa.float32())
    return result


def _images(gathered: Gathered, alive: Sequence[int], pictures: Pictures | None) -> pa.Array:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    if pictures is None:
        return pa.nulls(len(alive), kind)
    rows = {latent: _strongest(gathered, latent) for latent in alive}
    read = pictures.read(sorted({row for row in rows.values() if row is not None}))
    return pa.array([_image(read.get(rows[latent]), latent) for latent in alive], kind)  # type: ignore[arg-type]


def _strongest(gathered: Gathered, latent: int) -> int | None:
    for of_stream in gathered.chooser.choose(latent)["independent"].values():
        shown = of_stream.top.rows[gathered.shown.has_image(of_stream.top.rows)]
        if len(shown):
            return int(shown[0])
    return None


def _image(picture: Any, latent: int) -> dict[str, Any] | None:
    if picture is None:
        return None
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, format="WEBP")
    return {"bytes": buffer.getvalue(), "path": f"latent-{latent}.webp"}
