"""Overlap: do two streams use the same latents on a row, with similar values?"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from sparc.analyze.measure import TRAINED, Measure, Rows, Steps, Summary, Table
from sparc.analyze.measures.selection import selection_lines
from sparc.analyze.report.control_lines import independent_line, joint_line
from sparc.analyze.report.figure_names import ENDS, FigureName, Figures, Metric, means
from sparc.analyze.report.page import Section

if TYPE_CHECKING:
    from sparc.analyze.codes.code_sets import CodeSet
    from sparc.analyze.context import Context
    from sparc.analyze.maths.reduction import Reducer


ROW_JACCARD = Metric("row_jaccard", title="Jaccard of latents")
ROW_COSINE = Metric("row_cosine", title="cosine of codes")


class Overlap(Measure):
    """Of each latent: Jaccard of active rows, overlap of the strongest, correlation of values.

    Of each row: Jaccard of active latents and cosine of codes.
    """

    name = "overlap"
    tables = (Table("overlap", TRAINED), Table("overlap_means"), Table("row_overlap"))
    steps = Steps("counts")
    headline_table = "row_overlap"
    metrics = (ROW_JACCARD, ROW_COSINE)
    compares_streams = True

    def schemas(self) -> Mapping[str, pa.Schema]:
        from sparc.analyze.metrics.overlap import MEANS_SCHEMA, ROWS_SCHEMA, SCHEMA

        return {"overlap": SCHEMA, "overlap_means": MEANS_SCHEMA, "row_overlap": ROWS_SCHEMA}

    def measure(
        self, context: "Context", code_set: "CodeSet", reducer: "Reducer"
    ) -> Mapping[str, pa.Table]:
        from sparc.analyze.metrics import overlap

        counted = context.counted(code_set, reducer)
        streams = counted.latents.streams
        means_of_latents = overlap.means(
            counted.pairs,
            streams,
            counted.longer,
            code_set,
            length=context.config.top_rows,
            folds=context.folds,
            fold_codes=counted.fold_codes,
        )
        return {
            "overlap": overlap.table(counted.pairs, streams, counted.latents.top, code_set),
            "overlap_means": means_of_latents,
            "row_overlap": overlap.row_table(
                counted.pairs,
                streams,
                code_set,
                folds=context.folds,
                fold_codes=counted.fold_codes,
            ),
        }

    def figures(self, rows: Rows) -> Figures:
        def over_pairs() -> Iterator[tuple[FigureName, float | None]]:
            for row in rows:
                for column, metric in (("jaccard", ROW_JACCARD), ("cosine", ROW_COSINE)):
                    for end in ENDS:
                        name = metric.of(mode=row["mode"], control=row["control"], end=end)
                        yield name, row[f"{column}{end}"]

        return means(over_pairs())

    def section(self, streams: Sequence[str], summaries: Sequence[Summary]) -> Section:
        return Section(
            "CONSISTENCY: do streams use the same latents for a row?",
            "Jaccard of the latents that are active in two streams on a row, and cosine of the two "
            "codes: 1 is equal. Mean over pairs of streams. Share of the selection: of the "
            "latents that the streams select jointly, how many a stream also selects "
            "independently (with a fixed k: the share of its own latents that are in the joint "
            "set); a stream with a large share decides for the others. Without it: how many of "
            "them the other streams still select.",
            (
                independent_line(ROW_JACCARD),
                independent_line(ROW_COSINE),
                joint_line(ROW_COSINE),
                *selection_lines(streams),
            ),
        )
