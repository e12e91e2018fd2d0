"""From a report to a site: gather, choose pictures, write; continued where it was interrupted."""

import dataclasses
import hashlib
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from sparc.analyze.browse.config import BrowseConfig
from sparc.analyze.browse.contents import columns as encoded
from sparc.analyze.browse.contents.detail import Detail, Details, Sprite
from sparc.analyze.browse.contents.index import Column, DetailFiles, Images, Index, Views, lists
from sparc.analyze.browse.contents.scripts import script
from sparc.analyze.browse.export import export_latents
from sparc.analyze.browse.folder import (
    SiteFolder,
    SiteRecord,
    SiteSources,
    recognize,
    remove_site,
)
from sparc.analyze.browse.gather.about import Run, open_run
from sparc.analyze.browse.gather.gathered import Gathered, gather
from sparc.analyze.browse.page_files import START, digest, page_files
from sparc.analyze.browse.pictures.budget import Plan
from sparc.analyze.browse.pictures.draw import MARGIN, bytes_of_page, draw_all, plan_pictures
from sparc.analyze.browse.pictures.heat_maps import HeatMaps, make_heat_maps
from sparc.analyze.browse.pictures.sources import TILE, Pictures, has_pictures, open_pictures
from sparc.analyze.browse.pictures.sprites import columns_of
from sparc.analyze.browse.views import MadeViews, make_views
from sparc.analyze.report.digests import DIGESTS_FILE
from sparc.analyze.report.folder import Report
from sparc.analyze.report.sources import open_cache
from sparc.common.cli.options import flag_of
from sparc.common.config import to_mapping
from sparc.common.errors import CacheError
from sparc.common.files.folder import Folder
from sparc.common.files.lock import exclusive
from sparc.common.progress import progress
from sparc.common.text import amount
from sparc.common.text import size as shown_size
from sparc.common.versions import software_versions

Location = str | os.PathLike[str]

_PER_FILE = (256, 128, 64, 32, 16)
"""Latents in a file of details: as many as fit in `_FILE_BYTES`."""

_FILE_BYTES = 1_000_000

_NOT_REPEATED = ("overwrite", "export", "device", "workers")
"""Settings that the command on the site's page leaves out."""

_NOT_DECISIVE = (*_NOT_REPEATED, "specs", "trust_encoders", "run", "cache", "dataset")
"""Settings that do not decide what a site shows: a place does by what is there (`SiteSources`), and
encoders are those of the run, whoever names them."""

_NO_PICTURES = Plan({}, {}, "")


class Site(NamedTuple):
    """A site that was made.

    Attributes:
        start: The page to open.
        bytes: Size of all its files; 0 if it had been finished before.
        latents: How many have a page.
        notes: What a person must know: what was left out, and why.
    """

    start: str
    bytes: int
    latents: int
    notes: tuple[str, ...]


def browse(report: Report, site: Location, config: BrowseConfig | None = None) -> Site:
    """Make a site of a report: a folder of pages that opens by double click.

    After an interruption the same call continues where it stopped. A finished site is checked, and
    what is damaged is made again.

    Args:
        report: A finished report.
        site: The site's folder.
        config: The settings.

    Raises:
        SparcError: There is no such latent, the folder holds something else, the report's cache is
            not there, or something is damaged.
    """
    config = config or BrowseConfig()
    for latent in config.latent_numbers:
        report.check_latent(latent)
    folder, files = Folder(site), page_files()
    run = open_run(report, config.run)
    record = SiteRecord(
        report=str(report.folder),
        report_sha256=hashlib.sha256(report.folder.read(DIGESTS_FILE)).hexdigest(),
        sources=_sources(report, config, run),
        settings={n: v for n, v in to_mapping(config).items() if n not in _NOT_DECISIVE},
        versions={**software_versions(), "page": digest(files)},
    )
    with exclusive(folder, recognize):
        if config.overwrite:
            remove_site(folder)
        opened = SiteFolder(folder, record)
        exported = config.export is None or config.export.exists()
        if opened.finished and exported:
            return Site(folder.shown(START), 0, 0, (f"{folder} is finished",))
        return _Building(opened, folder, report, run, config, files).build()


def _sources(report: Report, config: BrowseConfig, run: Run | str) -> SiteSources:
    """What is at hand to make a site from."""
    pictures = False
    try:
        pictures = has_pictures(open_cache(report, config.cache), config.dataset)
    except CacheError:
        if config.cache:
            raise
        # A finished site does not need the cache; one that is not is refused by `gather`.
    return SiteSources(run=not isinstance(run, str), pictures=pictures)


class _Building:
    """A site that is being made."""

    def __init__(
        self,
        site: SiteFolder,
        folder: Folder,
        report: Report,
        run: Run | str,
        config: BrowseConfig,
        page: Mapping[str, bytes],
    ) -> None:
        self._site, self._folder, self._report, self._run = site, folder, report, run
        self._config, self._page = config, page
        self._workers = config.workers or os.cpu_count() or 1
        self._views = MadeViews(Views(), {}, (), (), None)

    def build(self) -> Site:
        config = self._config
        gathered = gather(self._report, run=self._run, cache=config.cache, workers=config.workers)
        self._views = make_views(gathered, config)
        notes = [*gathered.notes, *self._views.notes]
        pictures = open_pictures(
            gathered.evidence.cache, gathered.shown, config.dataset, self._workers
        )
        maps = make_heat_maps(gathered, pictures, config)
        notes += maps.notes
        # What may fail for a setting comes before: a site that was begun keeps its settings.
        self._site.begin()
        for name, content in self._views.files.items():
            self._site.write(name, content)
        bytes_of_one = bytes_of_page(gathered) + maps.bytes / max(1, len(gathered.alive))
        per_file = _per_file(bytes_of_one)
        plan, unreadable = _NO_PICTURES, 0
        if isinstance(pictures, str):
            notes.append(f"the site has no pictures: {pictures}")
        else:
            index = self._index(gathered, plan, notes, per_file)
            rest = len(script("index", index)) + bytes_of_one * len(gathered.alive)
            rest += sum(map(len, self._page.values()))
            room = config.bytes - self._site.bytes - rest * MARGIN
            plan, unreadable = self._draw(gathered, pictures, room)
        self._write_details(gathered, plan, maps, per_file)
        if config.export is not None:
            source = None if isinstance(pictures, str) else pictures
            columns = (*gathered.columns, *self._views.columns)
            export_latents(config.export, gathered, columns, self._views.plane, source, config)
        index = self._index(gathered, plan, notes, per_file)
        self._site.write("data/index.js", script("index", index))
        for name in sorted(self._page, key=lambda name: name == START):  # the page itself last
            self._site.write(name, self._page[name])
        size = self._site.finish()
        if plan.dropped:
            notes.append(f"{config.size} had no room for {plan.dropped}")
        if size > config.bytes:
            drawn = any(plan.tiles.values())
            cause = "its pictures are larger than estimated" if drawn else "its pages need that"
            notes.append(f"the site has {shown_size(size)}, more than {config.size}: {cause}")
        if unreadable:
            notes.append(f"{amount(unreadable, 'image')} could not be read: empty frames")
        return Site(self._folder.shown(START), size, len(gathered.alive), tuple(notes))

    def _draw(self, gathered: Gathered, pictures: Pictures, room: float) -> tuple[Plan, int]:
        plan = plan_pictures(gathered, pictures, room)
        sheets = sum(tiles > 0 for tiles in plan.tiles.values())
        with progress(sheets, "drawing pictures", unit="latents") as bar:
            unreadable = draw_all(self._site, pictures, plan, self._workers, bar.update)
        return plan, unreadable

    def _write_details(self, gathered: Gathered, plan: Plan, maps: HeatMaps, per_file: int) -> None:
        with progress(len(gathered.alive), "writing pages", unit="latents") as bar:
            for number, of_file in groupby(
                _details(gathered, plan, maps), lambda detail: detail.latent // per_file
            ):
                content = Details(latents={detail.latent: detail for detail in of_file})
                self._site.write(
                    f"data/latents/{number:04d}.js", script(f"latents/{number}", content)
                )
                bar.update(len(content.latents))

    def _index(self, gathered: Gathered, plan: Plan, notes: Sequence[str], per_file: int) -> Index:
        classes, latents = gathered.class_latents
        place = str(self._report.folder).rstrip("/").split("/")
        return Index(
            title="/".join(place[-2:]),
            command=self._command(),
            report=gathered.about,
            streams=gathered.streams,
            notes=tuple(notes),
            headlines=gathered.headlines,
            columns=(
                *gathered.columns,
                *self._views.columns,
                _tiles_column(plan, self._report.info.latents),
            ),
            classes=classes,
            class_latents=lists(latents),
            details=DetailFiles(latents_per_file=per_file),
            images=Images(
                tile=TILE,
                format="webp" if any(plan.tiles.values()) else "",
                dropped=plan.dropped,
            ),
            views=self._views.views,
        )

    def _command(self) -> str:
        """How this site was made, to copy."""
        words = ["sparc-analyze", "browse", str(self._report.folder), str(self._folder)]
        values, default = to_mapping(self._config), to_mapping(BrowseConfig())
        for field in dataclasses.fields(BrowseConfig):
            value = values[field.name]
            if field.name not in _NOT_REPEATED and value != default[field.name]:
                flag = flag_of(field)
                if isinstance(value, bool):
                    words += [flag if value else flag.replace("--", "--no-", 1)]
                else:
                    for single in value if isinstance(value, list) else [value]:
                        words += [flag, str(single)]
        return shlex.join(words)


def _details(gathered: Gathered, plan: Plan, maps: HeatMaps) -> Iterator[Detail]:
    for latent, choice in gathered.choices():
        number = plan.tiles.get(latent, 0)
        images: list[Any] = plan.wanted[latent].images[:number].tolist() if number else []
        tiles = {image: tile for tile, image in enumerate(images)}
        sprite = Sprite(columns=columns_of(number), tiles=number) if number else None
        detail = gathered.details.detail(latent, choice, tiles, sprite)
        of_latent = maps.of_latents.get(latent)
        if of_latent:
            detail = dataclasses.replace(detail, maps=of_latent)
        yield detail


def _per_file(bytes_of_one: float) -> int:
    fitting = [number for number in _PER_FILE if number * bytes_of_one <= _FILE_BYTES]
    return fitting[0] if fitting else _PER_FILE[-1]


def _tiles_column(plan: Plan, latents: int) -> Column:
    tiles = [plan.tiles.get(latent, 0) for latent in range(latents)]
    return Column(
        key="tiles",
        label="pictures",
        help="Pictures on the latent's page.",
        group="size",
        kind="count",
        data=encoded.counts(tiles),
    )
