"""Cofiring: which latents are active on the same images?"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from sparc.analyze.measure import TRAINED, Measure, Steps, Table

if TYPE_CHECKING:
    from sparc.analyze.codes.code_sets import CodeSet
    from sparc.analyze.context import Context
    from sparc.analyze.maths.reduction import Reducer


class Cofiring(Measure):
    """Pairs of latents that are active on the same images more often than by chance."""

    name = "cofiring"
    tables = (Table("cofiring", TRAINED),)
    steps = Steps("cofiring")

    def schemas(self) -> Mapping[str, pa.Schema]:
        from sparc.analyze.metrics.meaning.cofiring import SCHEMA

        return {"cofiring": SCHEMA}

    def measure(
        self, context: "Context", code_set: "CodeSet", reducer: "Reducer"
    ) -> Mapping[str, pa.Table]:
        from sparc.analyze.metrics.meaning import cofiring

        pairs = context.cofired(code_set, reducer).pairs
        return {"cofiring": cofiring.table(pairs, code_set)}
