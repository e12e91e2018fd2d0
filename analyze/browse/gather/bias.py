"""Bias reports of a site: what `sparc-analyze bias` finds, by its own tables and words."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sparc.analyze.bias.command import Bias, bias, compared, power
from sparc.analyze.bias.config import BiasConfig
from sparc.analyze.browse.contents.views import Association, BiasReport, MeetingPair
from sparc.analyze.browse.gather.tables import NAMES
from sparc.analyze.report.folder import Report

AGAINST = " against "
"""Stands between two attributes: `words:woman,girl against words:man,boy`."""


def bias_report(report: Report, asked: str, *, cache: str = "", workers: int = 0) -> BiasReport:
    """What goes with an attribute, with the settings of `sparc-analyze bias`.

    Args:
        report: A finished report.
        asked: An attribute as for its option `--attribute`, or two with `AGAINST` between them.
        cache: Where the report's cache is if it has moved.
        workers: Threads; 0: one per core.

    Raises:
        SparcError: The attribute names what is not there, or all images have it or none.
    """
    attribute, _, against = (part.strip() for part in asked.partition(AGAINST))
    config = BiasConfig(attribute=attribute, against=against, cache=cache, workers=workers)
    result = bias(report, config)
    held, known = int(result.attribute.held.sum()), int(result.attribute.known.sum())
    streams = report.info.streams
    return BiasReport(
        name=result.attribute.name,
        attribute=attribute,
        against=against or None,
        images_with=held,
        images_without=known - held,
        note="; ".join(_notes(result, streams)),
        smallest="; ".join(f"{s}: {power(result, s, held, known, config.q)}" for s in streams),
        associations=tuple(_associations(result)),
        pairs=tuple(_pairs(result)),
    )


def _notes(result: Bias, streams: Sequence[str]) -> Iterator[str]:
    yield from (line.strip() for line in compared(result.strata))
    shuffled = [x for x in _lines(result.tables.associations, "shuffled") if x["associated"]]
    of_streams = (f"{sum(x['stream'] == s for x in shuffled):,} in {s}" for s in streams)
    yield f"associated when the attribute is shuffled: {', '.join(of_streams)}"


def _associations(result: Bias) -> Iterator[Association]:
    tested = [x for x in _lines(result.tables.associations, "trained") if x["q"] is not None]
    tested.sort(key=lambda x: (x["p"], -abs(x["log_odds"] or 0), x["latent"]))
    for line in tested:
        effect, low, high = (
            None if line[name] is None else line[name] / math.log(2)
            for name in ("log_odds", "log_odds_low", "log_odds_high")
        )
        yield Association(
            stream=line["stream"],
            latent=line["latent"],
            name=", ".join(line["names"][:NAMES]),
            effect=effect,
            low=low,
            high=high,
            q=line["q"],
            associated=line["associated"],
            images_with=line["images_both"],
            images_without=line["images_latent"] - line["images_both"],
        )


def _pairs(result: Bias) -> Iterator[MeetingPair]:
    for line in _lines(result.tables.pairs, "trained"):
        yield MeetingPair(
            stream=line["stream"],
            first=line["first_latent"],
            first_name=", ".join(line["first_names"][:NAMES]),
            second=line["second_latent"],
            second_name=", ".join(line["second_names"][:NAMES]),
            images_with=line["images_with"],
            images_without=line["images_without"],
            interaction=line["interaction"] / math.log(2),
            q=line["q"],
        )


def _lines(table: Any, control: str) -> list[Mapping[str, Any]]:
    return [line for line in table.to_pylist() if line["control"] == control]
