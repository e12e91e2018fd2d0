"""Purity: which class do the rows of a latent mostly carry?"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from sparc.analyze.measure import TRAINED, Measure, Needs, Rows, Steps, Table
from sparc.analyze.report.figure_names import ENDS, Figures, Metric, means

if TYPE_CHECKING:
    from sparc.analyze.codes.code_sets import CodeSet
    from sparc.analyze.context import Context
    from sparc.analyze.maths.reduction import Reducer

PURITY = Metric("purity", title="purity, finest classes")


class Purity(Measure):
    """The share of a latent's rows that carry its most frequent class, beside its base rate."""

    name = "purity"
    tables = (Table("purity_means"), Table("purity", TRAINED))
    steps = Steps("purity")
    needs = Needs(labels=True)
    headline_table = "purity_means"
    metrics = (PURITY,)

    def schemas(self) -> Mapping[str, pa.Schema]:
        from sparc.analyze.metrics.meaning.purity import MEANS_SCHEMA, SCHEMA

        return {"purity": SCHEMA, "purity_means": MEANS_SCHEMA}

    def measure(
        self, context: "Context", code_set: "CodeSet", reducer: "Reducer"
    ) -> Mapping[str, pa.Table]:
        from sparc.analyze.metrics.meaning import purity, row_counts
        from sparc.analyze.rows import top_rows
        from sparc.analyze.rows.labelled import read_labelled_rows

        parts, labels, folds = context.parts(code_set), context.known_labels, context.folds
        top = context.config.top_rows
        rows = read_labelled_rows(parts, labels, folds, reducer, length=top_rows.with_spare(top))
        shape = parts.latents, labels.matrix.shape[0]
        counts = row_counts.count_all_rows(parts, labels, reducer)
        tables = purity.tables(
            lambda depth: counts.at_depth(labels, depth),
            {
                stream: purity.active_rows(
                    lists, rows.fold_codes, stream, folds, top=top, shape=shape
                )
                for stream, lists in rows.lists.items()
            },
            labels,
            context.store.valid,
            code_set,
            folds.share,
        )
        return {"purity": tables.purity, "purity_means": tables.means}

    def figures(self, rows: Rows) -> Figures:
        deepest = max(row["depth"] for row in rows)
        return means(
            (
                PURITY.of(mode=row["mode"], control=row["control"], end=end),
                row[f"purity{end}"],
            )
            for row in rows
            if row["depth"] == deepest and row["restriction"] == "all_rows"
            for end in ENDS
        )
