"""Localization: does the map of a class's name point at its objects?"""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from sparc.analyze.measure import Measure, Rows, Summary, Table
from sparc.analyze.report.figure_names import ENDS, Figures, Metric
from sparc.analyze.report.page import Line, Section

_WHERE = ("map", "images", "stream")
POINTING = Metric("localization_pointing", by=(), where=_WHERE, title="map of the name")
AUC = Metric("localization_auc", by=(), where=_WHERE, title="present against absent names, AUC")
_OTHERS = tuple(
    Metric(f"localization_{column}", by=(), where=_WHERE)
    for column in ("iou_best", "iou_otsu", "average_precision")
)

RANDOM_LATENT = "a latent active in the image"
CENTRE = "the image's centre"
"""What pages call its baselines."""


class Localization(Measure):
    """Scores of maps against masks, which `sparc-analyze localize` adds to a finished report."""

    name = "localization"
    tables = (Table("localization"),)
    added_by = "sparc-analyze localize"
    headline_table = "localization"
    metrics = (POINTING, *_OTHERS, AUC)

    def schemas(self) -> Mapping[str, pa.Schema]:
        from sparc.analyze.localize.scoring.cache_scores import SCHEMA

        return {"localization": SCHEMA}

    def figures(self, rows: Rows) -> Figures:
        means = [row for row in rows if row["class_id"] is None]
        result: Figures = {
            metric.of(row["map"], row["images"], row["stream"]): row[
                metric.name.removeprefix("localization_")
            ]
            for row in means
            for metric in (POINTING, *_OTHERS)
        }
        return result | {
            AUC.of("text", row["images"], row["stream"], end=end): row.get(f"auc{end}")
            for row in means
            if row["map"] == "text"
            for end in ENDS
        }

    def section(self, streams: Sequence[str], summaries: Sequence[Summary]) -> Section:
        return Section(
            "LOCALIZATION: does the map of a class's name point at its objects?",
            "Share of the objects whose map is strongest inside them, in images of several "
            "classes.",
            tuple(map(_line, streams)),
        )


def _line(stream: str) -> Line:
    return Line(
        f"{stream}: {POINTING.title}",
        POINTING.of("text", "several", stream),
        (
            Line("similarity of raw features", POINTING.of("raw_similarity", "several", stream)),
            Line(RANDOM_LATENT, POINTING.of("random_latent", "several", stream)),
            Line(CENTRE, POINTING.of("centre", "several", stream)),
            Line(AUC.title, AUC.of("text", "several", stream)),
        ),
    )
