"""The latents that were asked for, as plain text."""

from collections.abc import Iterator, Mapping
from typing import Any

from sparc.analyze.concepts.config import ConceptsConfig
from sparc.analyze.concepts.evidence import LEAST_IMAGES
from sparc.analyze.concepts.find import Concepts
from sparc.analyze.concepts.names import GUESS
from sparc.analyze.report.summary_page import FEW_IMAGES
from sparc.common.text import amount, listed, shorten

_NAMES_WIDTH = 76

_IMAGES = "first rows"
"""Heads the numbers of images: these count by their first row, those of `show` by any."""


def show(result: Concepts, config: ConceptsConfig) -> str:
    """The table as plain text, and below it what its reader must know."""
    return "\n".join(_lines(result, config))


def _lines(result: Concepts, config: ConceptsConfig) -> Iterator[str]:
    rows = result.table.to_pylist()
    yield _heading(result, config)
    shown = rows[: config.limit] if config.limit else rows
    if shown:
        yield _columns(result, config)
    for row in shown:
        yield _line(row, result, config)
    if len(rows) > len(shown):
        yield f"  and {amount(len(rows) - len(shown), 'more latent')}: --limit 0, or --out FILE.csv"
    yield from _notes(result, rows)


def _heading(result: Concepts, config: ConceptsConfig) -> str:
    count, streams = len(result.table), result.streams
    which = "active in any stream"
    if config.shared:
        which = f"shared by {listed(streams)}"
    elif config.only:
        others = [stream for stream in streams if stream != config.only]
        which = f"of {config.only} that no latent of {listed(others, 'or')} matches"
        if result.meaningless:
            which += ", with a name or a class"
    elif config.lacking:
        others = [stream for stream in streams if stream != config.lacking]
        which = f"shared by {listed(others)} and lacking in {config.lacking}"
    if config.of_class:
        which += f", that go with class {config.of_class}"
    if config.word:
        which += f", named {config.word}"
    enough = f"the first row of {LEAST_IMAGES} of {amount(result.images, 'image')} or more"
    return (
        f"{amount(count, 'latent')} {which}; of {result.alive:,} alive, {result.judged:,} are "
        f"active on {enough} in {listed(result.asked)}"
    )


def _columns(result: Concepts, config: ConceptsConfig) -> str:
    streams = result.streams
    by_class = f" {'class':>6}" if config.of_class else ""
    if result.alone:
        return f"  {'latent':>6}{by_class} {'alike':>6}  {_IMAGES:<{_images_width(streams)}}  names"
    against = f"{'mispaired':>9} {'excess':>7}"
    return (
        f"  {'latent':>6}{by_class} {'overlap':>8} {against}  {'agreement':>9} {against}  "
        f"{_IMAGES:<{_images_width(streams)}}  names"
    )


def _line(row: Mapping[str, Any], result: Concepts, config: ConceptsConfig) -> str:
    streams = result.streams
    by_class = f" {_share(row['class_overlap'], 6)}" if config.of_class else ""
    images = "/".join(str(row[f"images_{stream}"]) for stream in streams)
    names = _called(row, streams)
    thin = f"  TOO THIN: {row['thin']}" if row["thin"] else ""
    if result.alone:
        alike = _share(row[f"monosemanticity_{result.alone}"], 6)
        return (
            f"  {row['latent']:>6}{by_class} {alike}  {images:<{_images_width(streams)}}  "
            f"{names}{thin}"
        )
    overlap = " ".join(
        _share(row[f"overlap{which}"], width)
        for which, width in (("", 8), ("_mispaired", 9), ("_excess", 7))
    )
    agreement = " ".join(
        _share(row[f"agreement{which}"], width)
        for which, width in (("", 9), ("_mispaired", 9), ("_excess", 7))
    )
    return (
        f"  {row['latent']:>6}{by_class} {overlap}  {agreement}  "
        f"{images:<{_images_width(streams)}}  {names}{thin}"
    )


def _called(row: Mapping[str, Any], streams: tuple[str, ...]) -> str:
    """The names in every stream; where there are none, the most frequent class in brackets."""
    width = max(12, _NAMES_WIDTH // len(streams))
    return " | ".join(shorten(called(row, stream), width) for stream in streams)


def called(row: Mapping[str, Any], stream: str) -> str:
    """What a row of the table says a latent is called in a stream."""
    name, images = row[f"name_{stream}"], row[f"name_images_{stream}"]
    if name:
        return f"{name}?" if images < GUESS else str(name)
    if row[f"class_{stream}"]:
        return f"[{row[f'class_{stream}']} {row[f'class_share_{stream}']:.0%}]"
    return "-"


def _images_width(streams: tuple[str, ...]) -> int:
    return max(len(_IMAGES), 5 * len(streams) - 1)


def _notes(result: Concepts, rows: list[dict[str, Any]]) -> Iterator[str]:
    streams = result.streams
    if result.meaningless:
        yield (
            f"and {amount(result.meaningless, 'latent')} that no word and no class goes with in "
            f"{result.alone} beyond chance: nothing tells what they show; --all lists them"
        )
    if result.unclear:
        yield (
            f"UNCLEAR: of {amount(result.unclear, 'latent')} these images cannot tell: too few are "
            "shared to know how far shared ones overlap, or chance reaches as far"
        )
    if result.shared_untrained is not None:
        yield f"control: the untrained model has {result.shared_untrained} shared by all streams"
    if rows:
        yield _of_what(result)
        yield f"{_IMAGES} and names are of {', '.join(streams)}, in this order"
        yield f"{_IMAGES}: images on whose first row the latent is active; `show` counts any row"
        if any(called(row, s).endswith("?") for row in rows for s in streams):
            yield f"?: fewer than {GUESS} images support the name: a guess"
    if result.images < FEW_IMAGES:
        yield (
            f"SMALL: {amount(result.images, 'image')} are few; a latent must be active on the "
            f"first row of {LEAST_IMAGES} to be judged, and what is missing here may only be rare"
        )


def _of_what(result: Concepts) -> str:
    """What the figures of the table are."""
    if result.alone:
        return (
            "alike: monosemanticity less that of any two images, by how much the latent's images "
            f"are more alike, cosine of {result.alone}'s features"
        )
    which = "of the weakest pair of streams" if len(result.asked) > 2 else "of both streams"
    return (
        f"overlap: of the images on which the latent is active, {which}; mispaired: "
        "with other latents of like frequency (chance); a dash: not defined"
    )


def _share(value: float | None, width: int) -> str:
    return f"{value:>{width}.2f}" if value is not None else f"{'-':>{width}}"
