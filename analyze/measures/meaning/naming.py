"""Naming: which words name a latent?"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from sparc.analyze.measure import TRAINED, Measure, Needs, Steps, Table

if TYPE_CHECKING:
    from sparc.analyze.codes.code_sets import CodeSet
    from sparc.analyze.context import Context
    from sparc.analyze.maths.reduction import Reducer


class Naming(Measure):
    """The words that the captions of a latent's strongest images have more often than others."""

    name = "naming"
    tables = (Table("naming", TRAINED),)
    steps = Steps("counts")
    needs = Needs(captions=True)

    def schemas(self) -> Mapping[str, pa.Schema]:
        from sparc.analyze.metrics.meaning.naming import SCHEMA

        return {"naming": SCHEMA}

    def measure(
        self, context: "Context", code_set: "CodeSet", reducer: "Reducer"
    ) -> Mapping[str, pa.Table]:
        from sparc.analyze.metrics.meaning import naming

        counts = context.counted(code_set, reducer).latents
        table = naming.table(
            counts.streams,
            counts.top,
            counts.active.shape[1],
            context.words,
            context.images,
            context.images.count_rows(context.store.valid),
            code_set,
            names=context.config.names,
        )
        return {"naming": table}
