"""Monosemanticity: how alike are the images on which a latent is active?"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from sparc.analyze.measure import TRAINED, Measure, Steps, Table

if TYPE_CHECKING:
    from sparc.analyze.codes.code_sets import CodeSet
    from sparc.analyze.context import Context
    from sparc.analyze.maths.reduction import Reducer


class Monosemanticity(Measure):
    """Mean cosine of their features, in the latent's own stream and in the others."""

    name = "monosemanticity"
    tables = (Table("monosemanticity_means"), Table("monosemanticity", TRAINED))
    steps = Steps("monosemanticity")

    def schemas(self) -> Mapping[str, pa.Schema]:
        from sparc.analyze.metrics.monosemanticity import MEANS_SCHEMA, SCHEMA

        return {"monosemanticity": SCHEMA, "monosemanticity_means": MEANS_SCHEMA}

    def measure(
        self, context: "Context", code_set: "CodeSet", reducer: "Reducer"
    ) -> Mapping[str, pa.Table]:
        from sparc.analyze.metrics import monosemanticity

        scores = monosemanticity.score_latents(
            context.parts(code_set), context.one_per_image, context.folds, reducer
        )
        return {
            "monosemanticity": monosemanticity.table(scores, code_set),
            "monosemanticity_means": monosemanticity.means(scores, code_set, context.folds.share),
        }
