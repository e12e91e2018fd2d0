"""Reconstruction: does the code of one stream rebuild the features of another?"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from sparc.analyze.measure import Measure, Steps, Table

if TYPE_CHECKING:
    from sparc.analyze.codes.code_sets import CodeSet
    from sparc.analyze.context import Context
    from sparc.analyze.maths.reduction import Reducer


class Reconstruction(Measure):
    """NMSE and explained variance of every stream's code against every stream's features."""

    name = "reconstruction"
    tables = (Table("reconstruction"),)
    steps = Steps("reconstruction")

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
