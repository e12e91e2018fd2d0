"""Monosemanticity: how alike are the images on which a latent is active?"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from sparc.analyze.measure import TRAINED, Measure, Row, Rows, Steps, Summary, Table
from sparc.analyze.measures.meaning.purity import PURITY
from sparc.analyze.report.control_lines import independent_line
from sparc.analyze.report.figure_names import ENDS, End, FigureName, Figures, Metric, means
from sparc.analyze.report.page import Section

if TYPE_CHECKING:
    from sparc.analyze.codes.code_sets import CodeSet
    from sparc.analyze.context import Context
    from sparc.analyze.maths.reduction import Reducer

OWN = Metric("monosemanticity_own", title="monosemanticity, own features")
CROSS = Metric("monosemanticity_cross", title="monosemanticity, another's features")


class Monosemanticity(Measure):
    """Mean cosine of their features, in the latent's own stream and in the others."""

    name = "monosemanticity"
    tables = (Table("monosemanticity_means"), Table("monosemanticity", TRAINED))
    steps = Steps("monosemanticity")
    headline_table = "monosemanticity_means"
    metrics = (OWN, CROSS)

    def schemas(self) -> Mapping[str, pa.Schema]:
        from sparc.analyze.metrics.meaning.monosemanticity import MEANS_SCHEMA, SCHEMA

        return {"monosemanticity": SCHEMA, "monosemanticity_means": MEANS_SCHEMA}

    def measure(
        self, context: "Context", code_set: "CodeSet", reducer: "Reducer"
    ) -> Mapping[str, pa.Table]:
        from sparc.analyze.metrics.meaning import monosemanticity

        scores = monosemanticity.score_latents(
            context.parts(code_set), context.one_per_image, context.folds, reducer
        )
        return {
            "monosemanticity": monosemanticity.table(scores, code_set),
            "monosemanticity_means": monosemanticity.means(scores, code_set, context.folds.share),
        }

    def figures(self, rows: Rows) -> Figures:
        def name(row: Row, end: End) -> FigureName:
            metric = OWN if row["stream"] == row["reference"] else CROSS
            return metric.of(mode=row["mode"], control=row["control"], end=end)

        return means((name(row, end), row[f"value{end}"]) for row in rows for end in ENDS)

    def section(self, streams: Sequence[str], summaries: Sequence[Summary]) -> Section:
        return Section(
            "MEANING: does a latent stand for one thing?",
            "Monosemanticity: mean cosine of the features of the images on which it is active; 1 "
            "where they are all alike. Purity: share of its rows that carry its most frequent "
            "class. Mean over latents and streams.",
            (
                independent_line(OWN),
                independent_line(CROSS),
                independent_line(PURITY),
            ),
        )
