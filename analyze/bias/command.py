"""The command `sparc-analyze bias`: from a finished report and an attribute to tables and text."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparc.analyze.bias.associations import BiasTables, find_bias
from sparc.analyze.bias.attribute import Attribute, check_both_sides, contrast, read_attribute
from sparc.analyze.bias.config import BiasConfig
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.codes.parts import Parts
from sparc.analyze.maths.reduction import open_reducer
from sparc.analyze.metrics.meaning.naming import names_of
from sparc.analyze.report.folder import Report
from sparc.analyze.report.output import write_table
from sparc.analyze.report.sources import open_cache
from sparc.analyze.report.tables import described
from sparc.analyze.rows.active_images import analysed_rows
from sparc.analyze.rows.images import read_images
from sparc.common.text import amount, shorten

_NAME_WIDTH = 30


class Bias(NamedTuple):
    """What goes with an attribute, and which images say so.

    Attributes:
        attribute: The attribute.
        tables: What goes with it.
        strata: By how many analysed rows an image has, the known images with the attribute and
            those without: only images of one stratum are compared.
    """

    attribute: Attribute
    tables: BiasTables
    strata: dict[int, tuple[int, int]]


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
    images = read_images(cache.rows(["sample_id"])["sample_id"], store.valid)
    attribute = read_attribute(config.attribute, cache, images)
    if config.against:
        attribute = contrast(attribute, read_attribute(config.against, cache, images))
    check_both_sides(attribute)
    parts = Parts(store, cache, CodeSet(config.mode))
    named = "naming" in report.tables
    names = names_of(report.table("naming"), config.mode) if named else {}
    with open_reducer(config.scheduler, config.workers) as reducer:
        tables = find_bias(
            parts,
            images,
            attribute,
            names,
            reducer,
            rate=config.q,
            examples=config.examples,
            pair_latents=config.pair_latents,
            most_pairs=config.pairs,
            seed=config.seed,
        )
    result = Bias(attribute, tables, _strata(attribute, analysed_rows(parts, images)))
    if config.out is not None:
        for name, table in tables._asdict().items():
            made = described(_with_attribute(table, result), name, report.about("bias", config))
            write_table(config.out / f"{name}.parquet", made)
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
    yield from _compared(result.strata)
    if config.mode == "joint":
        yield "  joint: what one stream goes with, the others go with by construction"
    rows = result.tables.associations.filter(result.tables.associations["associated"]).to_pylist()
    for stream in dict.fromkeys(result.tables.associations["stream"].to_pylist()):
        own = [x for x in rows if x["stream"] == stream and x["control"] == "none"]
        chance = sum(x["stream"] == stream and x["control"] == "shuffled" for x in rows)
        with_it = [x for x in own if x["log_odds"] > 0]
        yield ""
        yield (
            f"{stream}: {amount(len(with_it), 'latent')} with it, {len(own) - len(with_it):,} "
            f"with its absence ({chance:,} when the attribute is shuffled)"
        )
        if own:
            yield _association_line(None)
        own.sort(key=lambda x: (x["p"], -abs(x["log_odds"]), x["latent"]))
        yield from map(_association_line, own[: config.lines])
    pairs = result.tables.pairs.to_pylist()
    chance = sum(x["control"] == "shuffled" for x in pairs)
    pairs = [x for x in pairs if x["control"] == "none"]
    yield ""
    yield (
        f"PAIRS that meet more often under it: {len(pairs):,} ({chance:,} when the attribute is "
        "shuffled)"
    )
    for stream in dict.fromkeys(x["stream"] for x in pairs):
        yield from map(_pair_line, [x for x in pairs if x["stream"] == stream][: config.lines])


def _compared(strata: dict[int, tuple[int, int]]) -> Iterator[str]:
    """Which images are compared, where these differ in their number of rows."""
    if len(strata) == 1:
        return
    unmatched = sum(sum(sides) for sides in strata.values() if not min(sides))
    without = f"; {amount(unmatched, 'image')} without a counterpart" if unmatched else ""
    span = f"{min(strata)} to {max(strata)}"
    yield f"  only images with the same number of rows ({span}) are compared{without}"


def _association_line(row: dict[str, Any] | None) -> str:
    if row is None:
        return (
            f"  {'latent':>7}  {'name':<{_NAME_WIDTH}} {'with':>7} {'without':>7}  "
            f"{'odds ratio (95%)':<22} {'q':>8}  {'shared':<8} rows"
        )
    ratio, low, high = (float(np.exp(row[n])) for n in _ODDS)
    interval = f"{ratio:.2f} ({low:.2f} to {high:.2f})"
    return (
        f"  {row['latent']:>7}  {_name(row['names']):<{_NAME_WIDTH}} "
        f"{row['frequency_with']:>7.1%} {row['frequency_without']:>7.1%}  {interval:<22} "
        f"{row['q']:>8.1g}  {row['sharing']:<8} {_numbers(row['example_rows'])}"
    )


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
