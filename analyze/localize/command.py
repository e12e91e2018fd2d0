"""What `sparc-analyze localize` does: maps of images, or scores of a cache."""

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from sparc.analyze.codes.subject import Subject, choose_streams, open_subject
from sparc.analyze.localize import overlay
from sparc.analyze.localize.config import LocalizeConfig
from sparc.analyze.localize.localizer import Localizer, Presence, Query, Seen
from sparc.analyze.localize.measures import Scores
from sparc.analyze.localize.opening import open_localizer
from sparc.analyze.localize.scoring import score_cache
from sparc.analyze.localize.targets import TextFeature
from sparc.analyze.localize.words import WordWeight
from sparc.analyze.report.folder import Report, add_table
from sparc.analyze.report.output import write_array, write_png
from sparc.analyze.report.summary import figures
from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import ConfigError, ReportError
from sparc.common.files.folder import Folder
from sparc.common.progress import progress, say
from sparc.common.text import amount, printable, shorten
from sparc.extract.datasets.images import open_image_file
from sparc.extract.encoders.tower import LocalizeError

TABLE = "localization"
CONTACT_SHEET = "contact-sheet.png"


class _Answer(NamedTuple):
    """What is known of a query in an image, before anything is drawn.

    Attributes:
        query: The query.
        label: Its part of file names.
        grids: Map over the grid of the encoder, by image stream.
        presences: Whether the query is there at all, by image stream.
        words: Weights of the caption's words.
    """

    query: Query
    label: str
    grids: dict[str, npt.NDArray[np.float32]]
    presences: dict[str, Presence]
    words: list[WordWeight]


def localize_images(run: str, images: Sequence[str], config: LocalizeConfig) -> list[Path]:
    """Write overlays of some images, one an image and query.

    Args:
        run: A run, saved model or hub repository.
        images: The images' files.
        config: What is looked for, how, and where the results go.

    Returns:
        The files of the overlays, and of the contact sheet where there are several.

    Raises:
        ConfigError: There are no images, or nothing is looked for.
        LocalizeError: Nothing could be shown.
        PictureError: An image cannot be read.
    """
    if not images:
        raise ConfigError("give the images to look at, or a cache with masks: --cache CACHE")
    if not config.text and not config.latent:
        raise ConfigError("say what to look for: --text TEXT or --latent NUMBER")
    if config.report:
        raise ConfigError("report needs a cache to score, and no images")
    localizer = open_localizer(open_subject(run), config)
    queries: list[Query] = [localizer.read(text) for text in config.text]
    queries += config.latent
    config.output.mkdir(parents=True, exist_ok=True)
    names = _distinct([_file_name(Path(image).stem) for image in images])
    answers: list[list[_Answer]] = []
    failures: list[str] = []
    with progress(len(images), "localizing", unit="images") as bar:
        for image, name in zip(images, names, strict=True):
            seen = localizer.see(open_image_file(image))
            answers.append(list(_ask(localizer, seen, name, queries, config, failures)))
            bar.update(1)
    if not any(answers):
        raise LocalizeError(failures[0])
    for failure in failures:
        say(failure)
    paths: list[Path] = []
    shown: list[Image.Image] = []
    scales = _scales(answers)
    for image, name, of_image in zip(images, names, answers, strict=True):
        opened = open_image_file(image)
        for answer in of_image:
            made = _draw(localizer, opened, answer, scales)
            path = config.output / f"{name}.{answer.label}.png"
            write_png(path, made)
            paths.append(path)
            if len(shown) < overlay.SHEET_ROWS:
                shown.append(made)
    if len(paths) > 1:
        sheet = config.output / CONTACT_SHEET
        write_png(sheet, overlay.contact_sheet(shown))
        paths.append(sheet)
    return paths


def score_localization(run: str, config: LocalizeConfig) -> pa.Table:
    """Score maps against the masks of a cache, and add the scores to its report if one is given.

    Raises:
        ConfigError: A text or latent is given.
        LocalizeError: The cache has no masks.
        DatasetError: The dataset, or one of its images, is not there or not to be opened.
        ReportError: The report is on something else.
    """
    if config.text or config.latent:
        raise ConfigError(
            "without images, cache scores the texts of its classes: leave out text and latent, "
            "or give images"
        )
    subject = open_subject(run)
    cache = ActivationCache(config.cache)
    choose_streams(subject, cache, config.streams)
    report = None if not config.report else _report_on(subject, cache, config.report)
    table = score_cache(open_localizer(subject, config), cache, config)
    if report is not None:
        add_table(report, TABLE, table, figures, report.about("localize", config))
    return table


def describe_scores(table: pa.Table) -> str:
    """The means over all classes as text, stream by stream."""
    rows = [row for row in table.to_pylist() if row["class_id"] is None]
    several = any(row["pictures"] == "several" for row in rows)
    lines = [
        "maps of a class's name against its masks"
        + (", in images of several classes" if several else ""),
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
            if row["auc"] is not None:
                lines.append(
                    f"  {'':<28}against {amount(row['absent'], 'absent text')}: {_auc(row)}"
                )
    return "\n".join(lines)


def _auc(row: Mapping[str, Any]) -> str:
    interval = ""
    if row["auc_low"] is not None:
        interval = f" (95%: {row['auc_low']:.3f} to {row['auc_high']:.3f})"
    return f"AUC {row['auc']:.3f}{interval}"


def _ask(
    localizer: Localizer,
    seen: Seen,
    name: str,
    queries: Sequence[Query],
    config: LocalizeConfig,
    failures: list[str],
) -> Iterator[_Answer]:
    labels = _distinct([_file_name(_label(query)) for query in queries])
    for query, label in zip(queries, labels, strict=True):
        grids: dict[str, npt.NDArray[np.float32]] = {}
        presences = {}
        for stream in localizer.towers:
            try:
                presences[stream] = localizer.presence(stream, query, seen)
                grids[stream] = localizer.grid(stream, query, seen)
            except LocalizeError as error:
                failures.append(f"{name}: {printable(str(error))}")
                continue
            if config.arrays:
                placement = localizer.placement(stream, seen.size)
                array = config.output / f"{name}.{label}.{stream}.npy"
                write_array(array, placement.on_image(grids[stream]))
        if not grids:
            continue
        caption = config.caption or (query.text if isinstance(query, TextFeature) else "")
        yield _Answer(
            query, label, grids, presences, localizer.words(caption, query, seen) if caption else []
        )


def _scales(answers: Sequence[Sequence[_Answer]]) -> dict[str, float]:
    """By image stream the largest rise of any map above its median: one scale for all colours."""
    scales: dict[str, float] = {}
    for answer in itertools.chain(*answers):
        for stream, grid in answer.grids.items():
            if not answer.presences[stream].absent:
                rise = float(grid.max() - np.median(grid))
                scales[stream] = max(rise, scales.get(stream, 0.0))
    return scales


def _draw(
    localizer: Localizer, image: Image.Image, answer: _Answer, scales: Mapping[str, float]
) -> Image.Image:
    size = overlay.panel_size(*image.size)
    panels = {}
    for stream, grid in answer.grids.items():
        presence = answer.presences[stream]
        placed = localizer.placement(stream, image.size).on_image(grid, size)
        # Grey all over: what is not there has a map too, but it means nothing.
        scale = 0.0 if presence.absent else scales[stream]
        panels[_heading(stream, presence)] = overlay.Layer(placed, scale)
    return overlay.overlay(
        image,
        panels,
        title=_label(answer.query),
        words=answer.words,
        legend=f"%: of {localizer.compared_with}, those where it is weaker"
        if any(presence.share is not None for presence in answer.presences.values())
        else "",
    )


def _heading(stream: str, presence: Presence) -> str:
    """What stands above a panel: `dino 97% (+0.24)`, or why there is nothing to see."""
    if presence.absent:
        return f"{stream}: {presence.absent}"
    share = "" if presence.share is None else f" {presence.share:.0%}"
    return f"{stream}{share} ({presence.number:+.2f})"


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
    return re.sub(r"[^\w-]+", "-", text).strip("-")[:60] or "image"


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number where one comes again."""
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return result
