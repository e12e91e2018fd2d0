"""Scores of maps against a cache's masks, added to a report and as plain text."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from sparc.analyze.codes.subject import Subject, choose_streams, open_subject
from sparc.analyze.localize.config import LocalizeConfig
from sparc.analyze.localize.localizer import Localizer
from sparc.analyze.localize.scoring.cache_scores import score_cache
from sparc.analyze.localize.scoring.measures import MapScores
from sparc.analyze.report.figures import figures
from sparc.analyze.report.folder import Report
from sparc.analyze.report.sources import stream_with_other_features
from sparc.analyze.report.writer import add_table
from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import ConfigError, ReportError
from sparc.common.files.folder import Folder
from sparc.common.text import amount, shorten

TABLE = "localization"


def score_localization(run: str, config: LocalizeConfig) -> pa.Table:
    """Score maps against the masks of a cache, and add the scores to its report if one is given.

    Raises:
        ConfigError: A text or latent is given.
        LocalizeError: The cache has no masks.
        DatasetError: The dataset, or one of its images, is missing or cannot be opened.
        ReportError: The report is about another model or cache.
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
    table = score_cache(Localizer.from_subject(subject, config), cache, config)
    if report is not None:
        add_table(report, TABLE, table, figures, report.about("localize", config))
    return table


def show(table: pa.Table) -> str:
    """The means over all classes as text, stream by stream."""
    rows = [row for row in table.to_pylist() if row["class_id"] is None]
    several = any(row["images"] == "several" for row in rows)
    lines = [
        "maps of a class's name against its masks"
        + (", in images of several classes" if several else ""),
        f"  {'':<28}{'pointing':>10}{'best IoU':>10}{'Otsu IoU':>10}{'precision':>11}",
    ]
    for row in rows:
        if row["images"] == ("several" if several else "all"):
            name = f"{row['stream']}, {row['map'].replace('_', ' ')}"
            values = "".join(
                f"{row[field]:>{width}.3f}"
                for field, width in zip(MapScores._fields, (10, 10, 10, 11), strict=True)
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


def _report_on(subject: Subject, cache: ActivationCache, location: str) -> Report:
    report = Report(Folder(location).location)
    for what, recorded, wanted in (
        ("model", report.info.model_sha256, subject.digest),
        ("rows of the cache", report.info.manifest_digest, cache.info.manifest_digest),
    ):
        if recorded != wanted:
            raise ReportError(
                f"{location} is a report on something else ({what}: {recorded} there, {wanted} "
                f"now): write one with `sparc-analyze run {subject.location} {cache.folder} REPORT`"
            )
    if stream := stream_with_other_features(report, cache):
        raise ReportError(
            f"{location} is a report on other features of stream {stream} than {cache.folder} "
            f"holds now: measure them with `sparc-analyze run {subject.location} {cache.folder} "
            f"{location} --overwrite`"
        )
    return report
