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

NMSE_SELF = Metric("nmse_self", title="self-reconstruction, NMSE")
NMSE_CROSS = Metric("nmse_cross", title="cross-reconstruction, NMSE")
EXPLAINED_SELF = Metric("explained_variance_self", title="self-reconstruction, explained variance")
EXPLAINED_CROSS = Metric(
    "explained_variance_cross", title="cross-reconstruction, explained variance"
)
EXPLAINED_OF_STREAM = Metric(
    "explained_variance_self", where=("stream",), title=EXPLAINED_SELF.title
)
EXPLAINED_OF_TARGET = Metric(
    "explained_variance_cross",
    where=("stream",),
    title=EXPLAINED_CROSS.title,
    added=True,
)


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
            "0 is what the mean gives. Cross: from the code of another stream, self: from its own. "
            "Mean over streams or pairs of them; a stream that is badly rebuilt from its own code "
            "makes all cross ones worse. Of one target: independent.",
            (
                independent_line(NMSE_CROSS),
                joint_line(NMSE_CROSS),
                *_modes(EXPLAINED_CROSS),
                *_modes(NMSE_SELF),
                *(
                    Line(
                        f"{EXPLAINED_OF_STREAM.title}: {stream}",
                        EXPLAINED_OF_STREAM.of(stream, mode="independent", control="trained"),
                        (untrained_line(EXPLAINED_OF_STREAM, stream),),
                    )
                    for stream in streams
                ),
                *(
                    Line(
                        f"{EXPLAINED_OF_TARGET.title}: {stream}",
                        EXPLAINED_OF_TARGET.of(stream, mode="independent", control="trained"),
                        (untrained_line(EXPLAINED_OF_TARGET, stream),),
                    )
                    for stream in streams
                    if len(streams) > 1
                ),
            ),
        )


def _modes(metric: Metric) -> Iterator[Line]:
    for mode in MODES:
        yield Line(f"{metric.title}, {mode}", metric.of(mode=mode, control="trained"))
