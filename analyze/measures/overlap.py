"""Overlap: do two streams use a latent on the same rows, with similar values?"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from sparc.analyze.measure import TRAINED, Measure, Steps, Table

if TYPE_CHECKING:
    from sparc.analyze.codes.code_sets import CodeSet
    from sparc.analyze.context import Context
    from sparc.analyze.maths.reduction import Reducer


class Overlap(Measure):
    """Jaccard of active rows, overlap of the strongest rows, and correlation of values."""

    name = "overlap"
    tables = (Table("overlap", TRAINED), Table("overlap_means"))
    steps = Steps("counts")
    compares_streams = True

    def schemas(self) -> Mapping[str, pa.Schema]:
        from sparc.analyze.metrics.overlap import MEANS_SCHEMA, SCHEMA

        return {"overlap": SCHEMA, "overlap_means": MEANS_SCHEMA}

    def measure(
        self, context: "Context", code_set: "CodeSet", reducer: "Reducer"
    ) -> Mapping[str, pa.Table]:
        from sparc.analyze.metrics import overlap

        counted = context.counted(code_set, reducer)
        streams = counted.latents.streams
        means = overlap.means(
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
            "overlap_means": means,
        }
