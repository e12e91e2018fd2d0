"""Sprite sheets of all latents, within the size that a site may have."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from sparc.analyze.browse.contents.scripts import script
from sparc.analyze.browse.folder import SiteFolder
from sparc.analyze.browse.gather.gathered import Gathered
from sparc.analyze.browse.pictures import budget, sprites
from sparc.analyze.browse.pictures.budget import Plan
from sparc.analyze.browse.pictures.sources import Pictures

_BATCH = 64
"""Latents whose pictures are read at a time."""

_SAMPLE = 64
"""Pictures, or latents, that sizes are estimated from."""

MARGIN = 1.05
"""Of an estimated size."""


def plan_pictures(gathered: Gathered, pictures: Pictures, room: float) -> Plan:
    """Which pictures there is room for.

    Args:
        gathered: The report.
        pictures: Where they come from.
        room: Bytes that they may have together.
    """
    of_row, has_image = gathered.evidence.images.of_row, gathered.shown.has_image
    wants = {n: budget.wanted(choice, of_row, has_image) for n, choice in gathered.choices()}
    order = [latent for latent in gathered.by_interest if latent in wants]
    tiles = int(room / (_tile_bytes(gathered, pictures) * MARGIN))
    return budget.plan(wants, order, max(0, tiles))


def draw_all(
    site: SiteFolder,
    pictures: Pictures,
    plan: Plan,
    workers: int,
    advance: Callable[[int], Any],
) -> int:
    """Draw the sprite sheets that the site does not have yet.

    Args:
        site: The site.
        pictures: Where they come from.
        plan: Which of them.
        workers: Threads.
        advance: Called with the number of latents that are done.

    Returns:
        Number of images that could not be read.
    """
    unreadable: set[int] = set()
    latents = [latent for latent, tiles in plan.tiles.items() if tiles]
    with ThreadPoolExecutor(workers) as threads:
        for start in range(0, len(latents), _BATCH):
            batch = latents[start : start + _BATCH]
            missing = [latent for latent in batch if not site.keep(sprites.file_of(latent))]
            rows = {n: plan.wanted[n].rows[: plan.tiles[n]].tolist() for n in missing}
            every = sorted({row for of_latent in rows.values() for row in of_latent})
            read = pictures.read(every) if every else {}
            unreadable.update(set(every) - read.keys())

            def write(latent: int, rows: Any = rows, read: Any = read) -> None:
                site.write(sprites.file_of(latent), sprites.draw(rows[latent], read))

            list(threads.map(write, missing))
            advance(len(batch))
    return len(unreadable)


def bytes_of_page(gathered: Gathered) -> float:
    """Bytes of a latent's page without pictures, the mean of some."""
    choose, detail = gathered.chooser.choose, gathered.details.detail
    sample = _spread(gathered.alive)
    sizes = [len(script("", detail(n, choose(n), {}, None))) for n in sample]
    return sum(sizes) / max(1, len(sizes))


def _tile_bytes(gathered: Gathered, pictures: Pictures) -> float:
    """Bytes of a tile, from the sheet of some pictures."""
    rows = _spread(gathered.shown.rows_with_image.tolist())
    return len(sprites.draw(rows, pictures.read(rows))) / len(rows)


def _spread(all_of_them: Sequence[int]) -> list[int]:
    """Some of them at even distances."""
    places = np.linspace(0, len(all_of_them) - 1, min(len(all_of_them), _SAMPLE)).round()
    return [all_of_them[int(place)] for place in places]
