"""Selection: which streams decide the joint selection, and what remains without one of them?"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from sparc.analyze.measure import UNPERMUTED, Measure, Rows, Steps, Table
from sparc.analyze.report.figure_names import ENDS, Figures, Metric
from sparc.analyze.report.page import Line

if TYPE_CHECKING:
    from sparc.analyze.codes.code_sets import CodeSet
    from sparc.analyze.context import Context
    from sparc.analyze.maths.reduction import Reducer

SHARE = Metric("selection", by=("control",), where=("stream",))
KEPT = Metric("left_out_kept", by=("control",), where=("stream",))


def selection_lines(streams: Iterable[str]) -> Iterator[Line]:
    """Which streams decide the joint selection, line by line."""
    for stream in streams:
        yield Line(
            f"share of the selection: {stream}",
            SHARE.of(stream, control="trained"),
            (Line(f"still selected without {stream}", KEPT.of(stream, control="trained")),),
        )


class Selection(Measure):
    """The share of the joint selection that each stream would have selected on its own."""

    name = "selection"
    tables = (Table("selection", UNPERMUTED),)
    steps = Steps("selection", each="control")
    headline_table = "selection"
    metrics = (SHARE,)

    def schemas(self) -> Mapping[str, pa.Schema]:
        from sparc.analyze.metrics.selection import SCHEMA

        return {"selection": SCHEMA}

    def measure(
        self, context: "Context", code_set: "CodeSet", reducer: "Reducer"
    ) -> Mapping[str, pa.Table]:
        from sparc.analyze.metrics import selection

        counts = selection.count_all_choices(
            context.parts(code_set._replace(mode="joint")),
            context.parts(code_set._replace(mode="independent")),
            context.folds,
            reducer,
        )
        return {"selection": selection.table(counts, code_set.control, context.folds)}

    def figures(self, rows: Rows) -> Figures:
        return {
            SHARE.of(row["stream"], control=row["control"], end=end): row[f"share{end}"]
            for row in rows
            for end in ENDS
        }


class LeftOut(Measure):
    """What is still selected, and rebuilt, without one of the streams."""

    name = "left_out"
    tables = (
        Table("left_out_selection", UNPERMUTED),
        Table("left_out_reconstruction", UNPERMUTED),
    )
    steps = Steps("left-out", each="control")
    headline_table = "left_out_selection"
    metrics = (KEPT,)

    def schemas(self) -> Mapping[str, pa.Schema]:
        from sparc.analyze.metrics.left_out import RECONSTRUCTION_SCHEMA, SELECTION_SCHEMA

        return {
            "left_out_selection": SELECTION_SCHEMA,
            "left_out_reconstruction": RECONSTRUCTION_SCHEMA,
        }

    def measure(
        self, context: "Context", code_set: "CodeSet", reducer: "Reducer"
    ) -> Mapping[str, pa.Table]:
        from sparc.analyze.metrics import left_out
        from sparc.analyze.rows.folds import assign_folds
        from sparc.analyze.rows.images import Images

        of_row = context.sample.images
        images = Images(of_row, np.ones(of_row[-1] + 1, np.bool_))
        tables = left_out.tables(
            context.model(code_set),
            context.features_at(context.sample.rows, reducer),
            code_set.control,
            assign_folds(images, context.config.seed),
            batch_size=context.config.batch_size,
        )
        return {
            "left_out_selection": tables.selection,
            "left_out_reconstruction": tables.reconstruction,
        }

    def figures(self, rows: Rows) -> Figures:
        return {
            KEPT.of(row["left_out"], control=row["control"], end=end): row[f"kept{end}"]
            for row in rows
            if row["stream"] is None
            for end in ENDS
        }
