"""Maps of queries in images, drawn over them and written to files."""

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from sparc.analyze.codes.subject import open_subject
from sparc.analyze.localize import overlay
from sparc.analyze.localize.config import LocalizeConfig
from sparc.analyze.localize.localizer import EncodedImage, Localizer
from sparc.analyze.localize.presence import Presence
from sparc.analyze.localize.targets import Query, TextFeature
from sparc.analyze.localize.words import WordWeight
from sparc.analyze.report.output import write_array, write_png
from sparc.common.errors import ConfigError
from sparc.common.images.files import open_image_file
from sparc.common.progress import progress, say
from sparc.common.text import printable
from sparc.extract.encoders.tower import LocalizeError

CONTACT_SHEET = "contact-sheet.png"


class _Answer(NamedTuple):
    """The results for a query in an image, before anything is drawn.

    Attributes:
        query: The query.
        label: Its part of file names.
        grids: By image stream, the map over the grid of its encoder.
        presences: By image stream, whether the query is in the image at all.
        words: Weights of the caption's words.
        failures: Why streams have no map.
    """

    query: Query
    label: str
    grids: dict[str, npt.NDArray[np.float32]]
    presences: dict[str, Presence]
    words: list[WordWeight]
    failures: list[str]


def localize_images(run: str, images: Sequence[str], config: LocalizeConfig) -> list[Path]:
    """Write overlays, one per image and query.

    Args:
        run: A run, saved model or hub repository.
        images: The images' files.
        config: The settings.

    Returns:
        The files of the overlays, and of the contact sheet if there are several.

    Raises:
        ConfigError: There are no images or no queries.
        LocalizeError: No query could be located.
        ImageError: An image cannot be read.
    """
    if not images:
        raise ConfigError("give images, or a cache with masks: --cache CACHE")
    if not config.text and not config.latent:
        raise ConfigError("give a query: --text TEXT or --latent NUMBER")
    if config.report:
        raise ConfigError("report needs a cache to score, and no images")
    subject = open_subject(run)
    for image in images:  # before encoders are built, which takes its time
        open_image_file(image)
    localizer = Localizer.from_subject(subject, config)
    queries: list[Query] = [localizer.read(text) for text in config.text]
    queries += config.latent
    config.out.mkdir(parents=True, exist_ok=True)
    names = _distinct([_file_name(Path(image).stem) for image in images])
    answers: list[list[_Answer]] = []
    failures: list[str] = []
    with progress(len(images), "localizing", unit="images") as bar:
        for image, name in zip(images, names, strict=True):
            of_image = _ask(localizer, localizer.encode(open_image_file(image)), queries, config)
            failures += [f"{name}: {why}" for answer in of_image for why in answer.failures]
            answers.append([answer for answer in of_image if answer.grids])
            bar.update(1)
    if not any(answers):
        raise LocalizeError(failures[0])
    for failure in failures:
        say(failure)
    return _write(localizer, images, names, answers, config)


def _ask(
    localizer: Localizer, image: EncodedImage, queries: Sequence[Query], config: LocalizeConfig
) -> list[_Answer]:
    answers = []
    labels = _distinct([_file_name(_label(query)) for query in queries])
    for query, label in zip(queries, labels, strict=True):
        answer = _Answer(query, label, {}, {}, [], [])
        for stream in localizer.towers:
            try:
                answer.presences[stream] = localizer.presence(stream, query, image)
                answer.grids[stream] = localizer.grid(stream, query, image)
            except LocalizeError as error:
                answer.failures.append(printable(str(error)))
        caption = config.caption or (query.text if isinstance(query, TextFeature) else "")
        if answer.grids and caption:
            answer.words.extend(localizer.words(caption, query, image))
        answers.append(answer)
    return answers


def _write(
    localizer: Localizer,
    images: Sequence[str],
    names: Sequence[str],
    answers: Sequence[Sequence[_Answer]],
    config: LocalizeConfig,
) -> list[Path]:
    """Write the overlays, the contact sheet and, if asked for, the arrays."""
    paths: list[Path] = []
    for_sheet: list[Image.Image] = []
    scales = _scales(answers)
    for image, name, of_image in zip(images, names, answers, strict=True):
        opened = open_image_file(image)
        for answer in of_image:
            if config.arrays:
                for stream, grid in answer.grids.items():
                    array = config.out / f"{name}.{answer.label}.{stream}.npy"
                    write_array(array, localizer.placement(stream, opened.size).on_image(grid))
            drawn = _draw(localizer, opened, answer, scales)
            path = config.out / f"{name}.{answer.label}.png"
            write_png(path, drawn)
            paths.append(path)
            if len(for_sheet) < overlay.SHEET_ROWS:
                for_sheet.append(drawn)
    if len(paths) > 1:
        sheet = config.out / CONTACT_SHEET
        write_png(sheet, overlay.contact_sheet(for_sheet))
        paths.append(sheet)
    return paths


def _scales(answers: Sequence[Sequence[_Answer]]) -> dict[str, float]:
    """By image stream, the largest rise of any map above its median: the scale of its colours."""
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
        # An absent query has a map too, but it means nothing: it is drawn in grey.
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
    """The heading of a panel: `dino 97% (+0.24)`, or why the query is absent."""
    if presence.absent:
        return f"{stream}: {presence.absent}"
    share = "" if presence.share is None else f" {presence.share:.0%}"
    return f"{stream}{share} ({presence.strength:+.2f})"


def _label(query: Query) -> str:
    return query.text if isinstance(query, TextFeature) else f"latent {query}"


def _file_name(text: str) -> str:
    """A text as part of a file name."""
    return re.sub(r"[^\w-]+", "-", text).strip("-")[:60] or "image"


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number appended where one is repeated."""
    counts: Counter[str] = Counter()
    result = []
    for name in names:
        counts[name] += 1
        result.append(name if counts[name] == 1 else f"{name}-{counts[name]}")
    return result
