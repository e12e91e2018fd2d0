"""Heat maps: where a latent is in its strongest images, by stream of images.

`SITE.md` says what their values are.
"""

import base64
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sparc.analyze.browse.config import BrowseConfig
from sparc.analyze.browse.contents.detail import HeatMap
from sparc.analyze.browse.contents.scripts import script
from sparc.analyze.browse.gather.details import distinct_rows
from sparc.analyze.browse.gather.gathered import Gathered
from sparc.analyze.browse.pictures.budget import STRONGEST
from sparc.analyze.browse.pictures.on_tile import CELLS, on_tile
from sparc.analyze.browse.pictures.sources import Pictures
from sparc.analyze.localize.config import LocalizeConfig
from sparc.analyze.localize.localizer import Localizer
from sparc.common.errors import ConfigError, DatasetError, ReportError, SparcError
from sparc.common.progress import progress
from sparc.common.text import amount, listed
from sparc.extract.datasets.images import CacheImages


class HeatMaps(NamedTuple):
    """The heat maps of a site.

    Attributes:
        of_latents: By latent and stream, those of its strongest images.
        notes: What could not be made, and why.
    """

    of_latents: Mapping[int, Mapping[str, tuple[HeatMap, ...]]]
    notes: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Bytes that all of them take in the pages of latents."""
        return len(script("", self.of_latents)) if self.of_latents else 0


class _Request(NamedTuple):
    """A map to make: of a latent, in a stream, over the image of a row.

    Attributes:
        latent: The latent.
        stream: The stream.
        row: The row of the cache.
        place: Where that row stands in the latent's `rows`.
    """

    latent: int
    stream: str
    row: int
    place: int


def make_heat_maps(gathered: Gathered, pictures: Pictures | str, config: BrowseConfig) -> HeatMaps:
    """Make the heat maps that were asked for.

    Args:
        gathered: The report.
        pictures: The pictures that maps lie over; or why there are none, in words.
        config: Of which latents, and where encoders and images come from.

    Raises:
        ConfigError: There is no stream of images.
        ReportError: There are no pictures, or the run is not at hand.
        DatasetError: The dataset is missing, or none of the images can be opened.
        LocalizeError: An encoder may not or cannot be built, or no stream can be shown.
    """
    latents = _latents(gathered, config)
    if not latents:
        return HeatMaps({}, ())
    if isinstance(pictures, str):
        raise ReportError(f"there is nothing to draw heat maps on: {pictures}")
    images = CacheImages.of(gathered.evidence.cache, config.dataset)
    localizer = _open_localizer(gathered, config)
    requests = _requests(gathered, latents, localizer.towers)
    rises: dict[_Request, npt.NDArray[np.float32]] = {}
    unreadable: list[SparcError] = []
    with progress(len(requests), "locating latents", unit="images") as bar:
        for name, of_image in requests.items():
            try:
                opened = images.open(name)
            except SparcError as error:
                unreadable.append(error)
                opened = None
            picture = pictures.read([of_image[0].row]).get(of_image[0].row)
            if opened is not None and picture is not None:
                image = localizer.encode(opened)
                for request in of_image:
                    grid = localizer.grid(request.stream, request.latent, image)
                    rise = np.maximum(grid - np.median(grid), 0)
                    placement = localizer.placement(request.stream, image.size)
                    rises[request] = on_tile(rise, placement, picture.size)
            bar.update(1)
    if unreadable and not rises:
        raise DatasetError(f"no image for heat maps can be opened: {unreadable[0]}")
    return HeatMaps(_encoded(rises), tuple(_notes(latents, rises, len(unreadable))))


def _latents(gathered: Gathered, config: BrowseConfig) -> list[int]:
    """The latents that were asked for, ascending."""
    alive = set(gathered.alive)
    order = [latent for latent in gathered.by_interest if latent in alive]
    return sorted({*order[: config.maps], *config.latent_numbers})


def _open_localizer(gathered: Gathered, config: BrowseConfig) -> Localizer:
    report = gathered.evidence.report
    if isinstance(gathered.run, str):
        raise ReportError(f"heat maps need the model: {gathered.run}")
    streams = tuple(s.name for s in gathered.streams if s.modality == "image")
    if not streams:
        raise ConfigError(f"heat maps need a stream of images, and {report.folder} has none")
    settings = LocalizeConfig(
        streams=streams,
        specs=config.specs,
        trust_encoders=config.trust_encoders,
        device=config.device,
    )
    return Localizer.from_subject(gathered.run.subject, settings)


def _requests(
    gathered: Gathered, latents: Sequence[int], streams: Collection[str]
) -> Mapping[str, list[_Request]]:
    """The maps to make by image, so that each image is encoded once."""
    requests = defaultdict(list)
    for latent in latents:
        choice = gathered.chooser.choose(latent)
        place = {row: n for n, row in enumerate(distinct_rows(choice).tolist())}
        for stream in streams:
            top = choice["independent"][stream].top.rows[:STRONGEST]
            rows = top[gathered.shown.has_image(top)]
            names = gathered.shown.image_names(rows)
            for row, name in zip(rows.tolist(), names, strict=True):
                requests[name or ""].append(_Request(latent, stream, row, place[row]))
    return requests


def _encoded(
    rises: Mapping[_Request, npt.NDArray[np.float32]],
) -> Mapping[int, Mapping[str, tuple[HeatMap, ...]]]:
    """The maps in bytes; the brightest cell of a latent in a stream is 255."""
    brightest: dict[tuple[int, str], float] = defaultdict(float)
    for request, cells in rises.items():
        key = request.latent, request.stream
        brightest[key] = max(brightest[key], float(cells.max()))
    maps: dict[int, dict[str, list[HeatMap]]] = defaultdict(lambda: defaultdict(list))
    for request in sorted(rises):
        largest = brightest[request.latent, request.stream]
        shares = rises[request] * (1 / largest if largest > 0 else 0)
        maps[request.latent][request.stream].append(
            HeatMap(
                row=request.place,
                width=CELLS,
                height=CELLS,
                data=base64.b64encode(np.rint(shares * 255).astype(np.uint8).tobytes()).decode(),
                largest=float(shares.max()),
            )
        )
    return {
        latent: {stream: tuple(of_stream) for stream, of_stream in of_latent.items()}
        for latent, of_latent in maps.items()
    }


def _notes(latents: Sequence[int], made: Collection[_Request], unreadable: int) -> Iterator[str]:
    without = sorted(set(latents) - {request.latent for request in made})
    if without:
        named = listed([str(latent) for latent in without[:10]])
        more = amount(len(without), "latent")
        yield f"{more} without an image to draw a heat map on: {named}"
    if unreadable:
        yield f"{amount(unreadable, 'image')} could not be opened and have no heat maps"
