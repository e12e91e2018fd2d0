"""What `sparc-analyze localize` does: maps of pictures, or scores of a cache."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from PIL import Image

from sparc.analyze.localize import overlay
from sparc.analyze.localize.config import LocalizeConfig
from sparc.analyze.localize.localizer import Localizer, Query
from sparc.analyze.localize.measures import Scores
from sparc.analyze.localize.rebuild import build, parse_specs, stream_specs
from sparc.analyze.localize.scoring import score_cache
from sparc.analyze.localize.targets import TextFeature
from sparc.analyze.localize.tower import LocalizeError
from sparc.analyze.output import write_array, write_png
from sparc.analyze.report import Report, add_table
from sparc.analyze.subject import Subject, choose_streams, open_subject
from sparc.analyze.summary import figures
from sparc.common.cache import ActivationCache
from sparc.common.devices import choose_device
from sparc.common.errors import ConfigError, ReportError
from sparc.common.progress import progress, say
from sparc.common.storage import Folder
from sparc.common.text import amount, printable, shorten
from sparc.extract.datasets.images import open_image_file

TABLE = "localization"
CONTACT_SHEET = "contact-sheet.png"


class Panel(NamedTuple):
    """An overlay that was written.

    Attributes:
        path: Its file.
        picture: The overlay itself.
    """

    path: Path
    picture: Image.Image


def localize_pictures(run: str, pictures: Sequence[str], config: LocalizeConfig) -> list[Path]:
    """Write overlays of some pictures, one a picture and query.

    Args:
        run: A run, saved model or hub repository.
        pictures: The pictures' files.
        config: What is looked for, how, and where the results go.

    Returns:
        The files of the overlays, and of the contact sheet where there are several.

    Raises:
        ConfigError: There are no pictures, or nothing is looked for.
        LocalizeError: Nothing could be shown.
        PictureError: A picture cannot be read.
    """
    if not pictures:
        raise ConfigError("give the pictures to look at, or a cache with masks: --cache CACHE")
    if not config.text and not config.latent:
        raise ConfigError("say what to look for: --text TEXT or --latent NUMBER")
    localizer = open_localizer(open_subject(run), config)
    queries: list[Query] = [localizer.read(text) for text in config.text]
    queries += config.latent
    config.output.mkdir(parents=True, exist_ok=True)
    names = _distinct([_file_name(Path(picture).stem) for picture in pictures])
    panels: list[Panel] = []
    failures: list[str] = []
    with progress(len(pictures), "localizing", unit="pictures") as bar:
        for picture, name in zip(pictures, names, strict=True):
            opened = open_image_file(picture)
            panels += _localize(localizer, opened, name, queries, config, failures)
            bar.update(1)
    if not panels:
        raise LocalizeError(failures[0])
    for failure in failures:
        say(failure)
    paths = [panel.path for panel in panels]
    if len(panels) > 1:
        sheet = config.output / CONTACT_SHEET
        write_png(sheet, overlay.contact_sheet([panel.picture for panel in panels]))
        paths.append(sheet)
    return paths


def score_localization(run: str, config: LocalizeConfig) -> pa.Table:
    """Score maps against the masks of a cache, and add the scores to its report if one is given.

    Raises:
        LocalizeError: The cache has no masks.
        DatasetError: The dataset, or one of its images, is not there or not to be opened.
        ReportError: The report is on something else.
    """
    subject = open_subject(run)
    cache = ActivationCache(config.cache)
    choose_streams(subject, cache, config.streams)
    report = None if not config.report else _report_on(subject, cache, config.report)
    table = score_cache(open_localizer(subject, config), cache, config)
    if report is not None:
        add_table(report, TABLE, table, figures, report.about("localize", config))
    return table


def open_localizer(subject: Subject, config: LocalizeConfig) -> Localizer:
    """Build the encoders that are needed, and say which streams cannot be shown.

    Raises:
        LocalizeError: An encoder cannot be built, or no stream can be shown.
    """
    specs = stream_specs(subject, parse_specs(config.specs))
    for name in config.streams:
        if name not in specs:
            raise LocalizeError(
                f"{subject.location} has no stream {name!r}; it has {', '.join(specs)}"
            )
    needed = {
        name: spec
        for name, spec in specs.items()
        if spec.modality == "text" or not config.streams or name in config.streams
    }
    device = choose_device(config.device)
    localizer = Localizer(subject.model, build(subject, needed, config, device), config, device)
    for stream, reason in localizer.left_out.items():
        say(f"stream {stream} is left out: {printable(reason)}")
    return localizer


def describe_scores(table: pa.Table) -> str:
    """The means over all classes as text, stream by stream."""
    rows = [row for row in table.to_pylist() if row["class_id"] is None]
    several = any(row["pictures"] == "several" for row in rows)
    lines = [
        "maps of a class's name against its masks"
        + (", in pictures of several classes" if several else ""),
        f"  {'':<28}{'pointing':>10}{'best IoU':>10}{'Otsu IoU':>10}{'precision':>11}",
    ]
    for row in rows:
        if row["pictures"] == ("several" if several else "all"):
            name = f"{row['stream']}, {row['map'].replace('_', ' ')}"
            values = "".join(
                f"{row[field]:>{width}.3f}"
                for field, width in zip(Scores._fields, (10, 10, 10, 11), strict=True)
            )
            unanswered = f"  ({row['unanswered']} unanswered)" if row["unanswered"] else ""
            lines.append(
                f"  {shorten(name, 28):<28}{values}  {amount(row['objects'], 'object')}{unanswered}"
            )
    return "\n".join(lines)


def _localize(
    localizer: Localizer,
    picture: Image.Image,
    name: str,
    queries: Sequence[Query],
    config: LocalizeConfig,
    failures: list[str],
) -> Iterator[Panel]:
    seen = localizer.see(picture)
    labels = _distinct([_file_name(_label(query)) for query in queries])
    size = overlay.panel_size(*picture.size)
    for query, label in zip(queries, labels, strict=True):
        maps = {}
        for stream in localizer.towers:
            try:
                objective = localizer.objective(stream, query, seen)
            except LocalizeError as error:
                failures.append(f"{name}: {printable(str(error))}")
                continue
            (grid,) = localizer.maps(stream, seen, [objective])
            placement = localizer.placement(stream, picture.size)
            strength = float(objective(seen.features[stream]))
            maps[f"{stream} {strength:+.2f}"] = placement.on_picture(grid, size)
            if config.arrays:
                array = config.output / f"{name}.{label}.{stream}.npy"
                write_array(array, placement.on_picture(grid))
        if not maps:
            continue
        caption = config.caption or (query.text if isinstance(query, TextFeature) else "")
        words = localizer.words(caption, query, seen) if caption else []
        made = overlay.overlay(picture, maps, title=_label(query), words=words)
        path = config.output / f"{name}.{label}.png"
        write_png(path, made)
        yield Panel(path, made)


def _report_on(subject: Subject, cache: ActivationCache, location: str) -> Report:
    report = Report(Folder(location).location)
    for what, found, wanted in (
        ("model", report.info.model_sha256, subject.digest),
        ("rows of the cache", report.info.manifest_digest, cache.info.manifest_digest),
    ):
        if found != wanted:
            raise ReportError(
                f"{location} is a report on something else ({what}: {found} there, {wanted} now): "
                f"write one with `sparc-analyze run {subject.location} {cache.folder} REPORT`"
            )
    return report


def _label(query: Query) -> str:
    return query.text if isinstance(query, TextFeature) else f"latent {query}"


def _file_name(text: str) -> str:
    """A text as a part of a file's name."""
    return re.sub(r"[^\w-]+", "-", text).strip("-")[:60] or "picture"


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number where one comes again."""
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return result
