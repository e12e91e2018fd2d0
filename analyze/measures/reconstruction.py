"""Reconstruction: does the code of one stream rebuild the features of another?"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from sparc.analyze.measure import Measure, Rows, Steps, Summary, Table
from sparc.analyze.report.control_lines import MODES, independent_line, joint_line, untrained_line
from sparc.analyze.report.figure_names import ENDS, FigureName, Figures, Metric, means
from sparc.analyze.report.page import Line, Section

if TYPE_CHECKING:
    from sparc.analyze.codes.code_sets import CodeSet
    from sparc.analyze.context import Context
    from sparc.analyze.maths.reduction import Reducer

NMSE_SELF = Metric("nmse_self")
NMSE_CROSS = Metric("nmse_cross")
EXPLAINED_SELF = Metric("explained_variance_self")
EXPLAINED_CROSS = Metric("explained_variance_cross")
EXPLAINED_OF_STREAM = Metric("explained_variance_self", where=("stream",))
EXPLAINED_OF_TARGET = Metric("explained_variance_cross", where=("stream",), added=True)


class Reconstruction(Measure):
    """NMSE and explained variance of every stream's code against every stream's features."""

    name = "reconstruction"
    tables = (Table("reconstruction"),)
    steps = Steps("reconstruction")
    headline_table = "reconstruction"
    metrics = (
        NMSE_SELF,
        NMSE_CROSS,
        EXPLAINED_SELF,
        EXPLAINED_CROSS,
        EXPLAINED_OF_STREAM,
        EXPLAINED_OF_TARGET,
    )

    def schemas(self) -> Mapping[str, pa.Schema]:
        from sparc.analyze.metrics.reconstruction import SCHEMA

        return {"reconstruction": SCHEMA}

    def measure(
        self, context: "Context", code_set: "CodeSet", reducer: "Reducer"
    ) -> Mapping[str, pa.Table]:
        from sparc.analyze.metrics import reconstruction

        parts, model = context.parts(code_set), context.model(code_set)
        sums = reconstruction.sum_all_errors(parts, model, context.folds, reducer)
        return {"reconstruction": reconstruction.table(sums, code_set, context.folds.share)}

    def figures(self, rows: Rows) -> Figures:
        def over_streams() -> Iterator[tuple[FigureName, float | None]]:
            for row in rows:
                own, of = row["source"] == row["target"], {k: row[k] for k in ("mode", "control")}
                for column, metric in (
                    ("nmse", NMSE_SELF if own else NMSE_CROSS),
                    ("explained_variance", EXPLAINED_SELF if own else EXPLAINED_CROSS),
                ):
                    for end in ENDS:
                        yield metric.of(**of, end=end), row[f"{column}{end}"]

        def by_target() -> Iterator[tuple[FigureName, float | None]]:
            for row in rows:
                own = row["source"] == row["target"]
                metric = EXPLAINED_OF_STREAM if own else EXPLAINED_OF_TARGET
                for end in ENDS:
                    name = metric.of(
                        row["target"], mode=row["mode"], control=row["control"], end=end
                    )
                    yield name, row[f"explained_variance{end}"]

        return {**means(over_streams()), **means(by_target())}

    def section(self, streams: Sequence[str], summaries: Sequence[Summary]) -> Section:
        return Section(
            "TRANSLATION: does the code of one stream rebuild the features of another?",
            "NMSE: 0 is perfect, 1 is what a zero vector gives. Explained variance: 1 is perfect, "
            "0 is what the mean gives. Mean over pairs of streams; one stream that is badly "
            "rebuilt from its own code makes them all worse.",
            (
                independent_line("NMSE, ", NMSE_CROSS),
                joint_line("NMSE, ", NMSE_CROSS),
                *_modes("explained variance, ", EXPLAINED_CROSS),
                *_modes("NMSE of a stream's own features, ", NMSE_SELF),
                *(
                    Line(
                        f"explained variance of its own, independent: {stream}",
                        EXPLAINED_OF_STREAM.of(stream, mode="independent", control="trained"),
                        (untrained_line(EXPLAINED_OF_STREAM, stream),),
                    )
                    for stream in streams
                ),
                *(
                    Line(
                        f"explained variance from the others, independent: {stream}",
                        EXPLAINED_OF_TARGET.of(stream, mode="independent", control="trained"),
                        (untrained_line(EXPLAINED_OF_TARGET, stream),),
                    )
                    for stream in streams
                    if len(streams) > 1
                ),
            ),
        )


def _modes(text: str, metric: Metric) -> Iterator[Line]:
    for mode in MODES:
        yield Line(f"{text}{mode}", metric.of(mode=mode, control="trained"))
