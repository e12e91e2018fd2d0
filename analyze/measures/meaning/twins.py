"""Twins: how alike are the latents of a stream, and how many of them are distinct?"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sparc.analyze.measure import TRAINED, Measure, Rows, Steps, Summary, Table
from sparc.analyze.report.control_lines import MODES
from sparc.analyze.report.figure_names import ENDS, FigureName, Figures, Metric, means
from sparc.analyze.report.page import Line, Section

if TYPE_CHECKING:
    from sparc.analyze.codes.code_sets import CodeSet
    from sparc.analyze.context import Context
    from sparc.analyze.maths.reduction import Reducer

JACCARD = Metric("twin_jaccard")
JACCARD_SHIFTED = Metric("twin_jaccard_shifted")
DISTINCT = Metric("distinct_latents")
DISTINCT_SHIFTED = Metric("distinct_latents_shifted")
EFFECTIVE = Metric("effective_latents")

_COLUMNS = {
    "jaccard": JACCARD,
    "jaccard_shifted": JACCARD_SHIFTED,
    "distinct": DISTINCT,
    "distinct_shifted": DISTINCT_SHIFTED,
    "effective": EFFECTIVE,
}
OF_STREAM = {column: Metric(metric.name, where=("stream",)) for column, metric in _COLUMNS.items()}
"""By column, the same of a single stream."""


class Twins(Measure):
    """The Jaccard of each latent's images with those of the nearest other latent of its stream."""

    name = "twins"
    tables = (Table("twins", TRAINED), Table("twin_means", TRAINED))
    steps = Steps("cofiring")
    headline_table = "twin_means"
    metrics = (*_COLUMNS.values(), *OF_STREAM.values())

    def schemas(self) -> Mapping[str, pa.Schema]:
        from sparc.analyze.metrics.meaning.twins import MEANS_SCHEMA, SCHEMA

        return {"twins": SCHEMA, "twin_means": MEANS_SCHEMA}

    def measure(
        self, context: "Context", code_set: "CodeSet", reducer: "Reducer"
    ) -> Mapping[str, pa.Table]:
        from sparc.analyze.metrics.meaning import twins

        cofired, folds = context.cofired(code_set, reducer), context.folds
        in_folds = np.intersect1d(folds.rows, context.one_per_image, assume_unique=True)
        codes = context.codes_at(code_set, in_folds, reducer)
        return {
            "twins": twins.table(cofired.twins, cofired.shifted, code_set),
            "twin_means": twins.means(cofired.twins, cofired.shifted, code_set, codes, folds),
        }

    def figures(self, rows: Rows) -> Figures:
        def all_figures() -> Iterator[tuple[FigureName, float | None]]:
            for row in rows:
                of: Any = {key: row[key] for key in ("mode", "control")}
                for column, metric in _COLUMNS.items():
                    for end in (end for end in ENDS if f"{column}{end}" in row):
                        value, stream = row[f"{column}{end}"], row["stream"]
                        # The streams of joint codes have a line of their own: active in any.
                        if stream is None or row["mode"] == "independent":
                            yield metric.of(**of, end=end), value
                        if stream is not None:
                            yield OF_STREAM[column].of(stream, **of, end=end), value

        return means(all_figures())

    def section(self, streams: Sequence[str], summaries: Sequence[Summary]) -> Section:
        return Section(
            "TWINS: how alike are latents?",
            "Jaccard of the images of a latent with those of the nearest other latent of the same "
            "stream: 1 is a duplicate. Distinct latents are alive and have a Jaccard below 1/2 "
            "with every other one. Effective number: as many latents, all used equally often, "
            "have the same entropy. Mean over streams; joint: active in any stream.",
            tuple(line for mode in MODES for line in _lines(mode)),
        )


def _lines(mode: Any) -> Iterator[Line]:
    of: Any = {"mode": mode, "control": "trained"}
    chance = "images of the latent itself shifted (chance)"
    yield Line(
        f"nearest twin's Jaccard, {mode}",
        JACCARD.of(**of),
        (Line(chance, JACCARD_SHIFTED.of(**of)),),
    )
    yield Line(
        f"distinct latents, {mode}",
        DISTINCT.of(**of),
        (Line(chance, DISTINCT_SHIFTED.of(**of), style="count"),),
        style="count",
    )
    yield Line(f"effective number of latents, {mode}", EFFECTIVE.of(**of), style="count")
