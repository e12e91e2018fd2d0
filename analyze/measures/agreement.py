"""Agreement: does a latent stand for the same classes in every stream?"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from sparc.analyze.measure import UNPERMUTED, Measure, Needs, Steps, Table

if TYPE_CHECKING:
    from sparc.analyze.codes.code_sets import CodeSet
    from sparc.analyze.context import Context
    from sparc.analyze.maths.reduction import Reducer


class Agreement(Measure):
    """Jaccard of the classes of a latent's rows in two streams.

    It is not measured on permuted rows, which are no null for it: they give every latent the
    overall mix of classes, and latents without meaning then agree. Its null is in its table:
    latents that are paired at random.
    """

    name = "agreement"
    tables = (Table("agreement", UNPERMUTED),)
    steps = Steps("counts")
    needs = Needs(labels=True)

    def schemas(self) -> Mapping[str, pa.Schema]:
        from sparc.analyze.metrics.agreement import SCHEMA

        return {"agreement": SCHEMA}

    def measure(
        self, context: "Context", code_set: "CodeSet", reducer: "Reducer"
    ) -> Mapping[str, pa.Table]:
        from sparc.analyze.metrics import agreement

        counted = context.counted(code_set, reducer)
        assert counted.classes is not None
        table = agreement.table(
            counted.classes,
            counted.labelled,
            context.known_labels,
            code_set,
            top=context.config.top_rows,
            folds=context.folds,
            fold_codes=counted.fold_codes,
            seed=context.config.seed,
        )
        return {"agreement": table}
