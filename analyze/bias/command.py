"""The command `sparc-analyze bias`: from a finished report and an attribute to tables and text."""

import json
import math
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparc.analyze.bias.associations import BiasTables, find_bias
from sparc.analyze.bias.attribute import Attribute, check_both_sides, contrast, read_attribute
from sparc.analyze.bias.config import BiasConfig
from sparc.analyze.bias.detectable import least_images, tested_latents
from sparc.analyze.bias.latents import LEAST_IMAGES
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.codes.parts import Parts
from sparc.analyze.concepts.names import guesses, names
from sparc.analyze.maths.reduction import open_reducer
from sparc.analyze.report.folder import Report
from sparc.analyze.report.output import write_table
from sparc.analyze.report.sources import open_cache
from sparc.analyze.report.tables import described
from sparc.analyze.rows.active_images import analysed_rows
from sparc.analyze.rows.images import read_images
from sparc.common.text import amount, shorten

_NAME_WIDTH = 30

_WORDS = 3
"""Words of a name that the tables hold."""


class Bias(NamedTuple):
    """What goes with an attribute, and which images say so.

    Attributes:
        attribute: The attribute.
        tables: What goes with it.
        strata: By how many analysed rows an image has, the known images with the attribute and
            those without: only images of one stratum are compared.
        guesses: Names that few images support: stream, latent and word.
    """

    attribute: Attribute
    tables: BiasTables
    strata: dict[int, tuple[int, int]]
    guesses: frozenset[tuple[str, int, str]] = frozenset()


def bias(report: Report, config: BiasConfig) -> Bias:
    """Find what goes with an attribute in a report's codes.

    Args:
        report: A finished report.
        config: The attribute and the settings.

    Raises:
        SparcError: The cache is not there, the attribute names what is not there, or all images
            have it or none.
    """
    cache = open_cache(report, config.cache)
    store = report.codes
    images = read_images(cache, store.valid)
    attribute = read_attribute(config.attribute, cache, images)
    if config.against:
        attribute = contrast(attribute, read_attribute(config.against, cache, images))
    check_both_sides(attribute)
    parts = Parts(store, cache, CodeSet(config.mode))
    called = names(report, config.mode)
    words = {place: [name.word for name in best[:_WORDS]] for place, best in called.items()}
    with open_reducer(config.scheduler, config.workers) as reducer:
        tables = find_bias(
            parts,
            images,
            attribute,
            words,
            reducer,
            rate=config.q,
            examples=config.examples,
            pair_latents=config.pair_latents,
            most_pairs=config.pairs,
            seed=config.seed,
        )
    strata = _strata(attribute, analysed_rows(parts, images))
    result = Bias(attribute, tables, strata, guesses(called))
    if config.out is not None:
        for name, table in tables._asdict().items():
            made = described(_with_attribute(table, result), name, report.about("bias", config))
            write_table(posixpath.join(config.out, f"{name}.parquet"), made)
    return result


def _strata(attribute: Attribute, rows: npt.NDArray[np.int64]) -> dict[int, tuple[int, int]]:
    known, held = (np.bincount(rows[flags]) for flags in (attribute.known, attribute.held))
    held = np.pad(held, (0, len(known) - len(held)))
    return {int(n): (int(held[n]), int(known[n] - held[n])) for n in np.flatnonzero(known)}


def show(result: Bias, config: BiasConfig) -> str:
    """The findings as plain text."""
    return "\n".join(_lines(result, config))


def _lines(result: Bias, config: BiasConfig) -> Iterator[str]:
    attribute = result.attribute
    held, known = int(attribute.held.sum()), int(attribute.known.sum())
    yield (
        f"{shorten(attribute.name, 200)}: {held:,} of {amount(known, 'image')} have it; "
        f"streams select {'independently' if config.mode == 'independent' else 'JOINTLY'}"
    )
    yield from compared(result.strata)
    if config.mode == "joint":
        yield "  joint: what one stream goes with, the others go with by construction"
    rows = result.tables.associations.filter(result.tables.associations["associated"]).to_pylist()
    wide = False
    for stream in dict.fromkeys(result.tables.associations["stream"].to_pylist()):
        own = [x for x in rows if x["stream"] == stream and x["control"] == "trained"]
        chance = sum(x["stream"] == stream and x["control"] == "shuffled" for x in rows)
        with_it = [x for x in own if x["log_odds"] > 0]
        yield ""
        yield (
            f"{stream}: {amount(len(with_it), 'latent')} with it, {len(own) - len(with_it):,} "
            f"with its absence ({chance:,} when the attribute is shuffled)"
        )
        yield f"  {power(result, stream, held, known, config.q)}"
        if own:
            yield _association_line(None, result)
        own.sort(key=lambda x: (x["p"], -abs(x["log_odds"]), x["latent"]))
        yield from (_association_line(row, result) for row in own[: config.lines])
        wide = wide or any(map(_is_wide, own[: config.lines]))
    if wide:
        yield ""
        yield (
            "WIDE: the interval spans more than two orders of magnitude: that there is an "
            "association is known, its size is not"
        )
    pairs = result.tables.pairs.to_pylist()
    chance = sum(x["control"] == "shuffled" for x in pairs)
    pairs = [x for x in pairs if x["control"] == "trained"]
    yield ""
    yield (
        f"PAIRS that meet more often under it: {len(pairs):,} ({chance:,} when the attribute is "
        "shuffled)"
    )
    for stream in dict.fromkeys(x["stream"] for x in pairs):
        yield from map(_pair_line, [x for x in pairs if x["stream"] == stream][: config.lines])


def compared(strata: dict[int, tuple[int, int]]) -> Iterator[str]:
    """Which images are compared, where these differ in their number of rows; else nothing."""
    if len(strata) == 1:
        return
    unmatched = sum(sum(sides) for sides in strata.values() if not min(sides))
    without = f"; {amount(unmatched, 'image')} without a counterpart" if unmatched else ""
    span = f"{min(strata)} to {max(strata)}"
    yield f"  only images with the same number of rows ({span}) are compared{without}"


def power(result: Bias, stream: str, held: int, known: int, rate: float) -> str:
    """What could have been found at best in a sample of this size."""
    tested = tested_latents(result.tables.associations, stream)
    of = f"{amount(tested, 'latent')} tested"
    if not tested:
        return "NOTHING COULD BE FOUND: no latent is active on enough known images to be tested"
    few, side = min((held, "with"), (known - held, "without"))
    least = least_images(few, known, tested, rate)
    if least is None:
        return (
            f"NOTHING COULD BE FOUND ({of}): not even a latent that is active on all of the "
            f"{amount(few, 'image')} {side} it and on no other"
        )
    others = max(LEAST_IMAGES - least, 0) or "no"
    return (
        f"{of}; the smallest effect that would be found: a latent active on {least:,} of the "
        f"{amount(few, 'image')} {side} it and on {others} other"
    )


def _is_wide(row: Mapping[str, Any]) -> bool:
    return bool(row["log_odds_high"] - row["log_odds_low"] > _WIDE)


def _association_line(row: dict[str, Any] | None, result: Bias) -> str:
    if row is None:
        return (
            f"  {'latent':>7}  {'name':<{_NAME_WIDTH}} {'with':>7} {'without':>7}  "
            f"{'odds ratio (95%)':<27} {'q':>8}  {'shared':<8} rows"
        )
    ratio, low, high = (float(np.exp(row[n])) for n in _ODDS)
    interval = f"{ratio:.2f} ({low:.2f} to {high:.2f}){' WIDE' if _is_wide(row) else ''}"
    place = row["stream"], row["latent"]
    names = _name([f"{w}?" if (*place, w) in result.guesses else w for w in row["names"]])
    return (
        f"  {row['latent']:>7}  {names:<{_NAME_WIDTH}} "
        f"{row['frequency_with']:>7.1%} {row['frequency_without']:>7.1%}  {interval:<27} "
        f"{row['q']:>8.1g}  {row['sharing']:<8} {_numbers(row['example_rows'])}"
    )


_WIDE = math.log(100)
"""Width of an interval of log odds that says little about the size."""

_ODDS = ("log_odds", "log_odds_low", "log_odds_high")


def _pair_line(row: dict[str, Any]) -> str:
    names = " + ".join(
        f"{row[f'{which}_latent']} {_name(row[f'{which}_names'])}".strip()
        for which in ("first", "second")
    )
    return (
        f"  {row['stream']}: {shorten(names, 60):<60} {row['frequency_with']:>7.2%} "
        f"{row['frequency_without']:>7.2%}  in {', '.join(row['streams'])}; "
        f"rows {_numbers(row['example_rows'])}"
    )


def _name(words: Sequence[str]) -> str:
    return shorten(", ".join(words), _NAME_WIDTH)


def _numbers(rows: Sequence[int]) -> str:
    return ", ".join(map(str, rows))


def _with_attribute(table: pa.Table, result: Bias) -> pa.Table:
    about = {
        "attribute": result.attribute.name,
        "images": str(int(result.attribute.known.sum())),
        "images_with": str(int(result.attribute.held.sum())),
        "strata": json.dumps({str(rows): sides for rows, sides in result.strata.items()}),
    }
    return table.replace_schema_metadata(about)
