"""Retrieval: does a row of one stream find its own image or caption in another?"""

from collections.abc import Mapping
from itertools import permutations
from typing import TYPE_CHECKING

import pyarrow as pa

from sparc.analyze.measure import Measure, Steps, Table

if TYPE_CHECKING:
    from sparc.analyze.codes.code_sets import CodeSet
    from sparc.analyze.context import Context
    from sparc.analyze.maths.reduction import Reducer


class Retrieval(Measure):
    """Ranks on codes, on cross-reconstructions among features, and on raw features."""

    name = "retrieval"
    tables = (Table("retrieval"),)
    steps = Steps("retrieval", raw=True)

    def schemas(self) -> Mapping[str, pa.Schema]:
        from sparc.analyze.metrics.retrieval import SCHEMA

        return {"retrieval": SCHEMA}

    def measure(
        self, context: "Context", code_set: "CodeSet", reducer: "Reducer"
    ) -> Mapping[str, pa.Table]:
        from sparc.analyze.metrics import retrieval

        sample = context.sample
        codes = context.codes_at(code_set, sample.rows, reducer)
        matrices = {stream: codes.matrix(stream, context.latents) for stream in codes.streams}
        pairs = list(permutations(codes.streams, 2))
        tables = [
            retrieval.table(
                "codes",
                code_set.mode,
                code_set.control,
                pairs,
                sample,
                context.modalities,
                lambda source, _: matrices[source],
                lambda target: matrices[target],
            )
        ]
        # Decoding is compared with the features of the same rows, which permuting takes apart.
        if not code_set.permuted and pairs:
            features = context.features_at(sample.rows, reducer)
            tables.append(
                retrieval.table(
                    "cross_reconstruction",
                    code_set.mode,
                    code_set.control,
                    pairs,
                    sample,
                    context.modalities,
                    lambda source, target: context.decoded(code_set, codes, source, target),
                    lambda target: features[target],
                )
            )
        return {"retrieval": pa.concat_tables(tables)}

    def measure_raw(self, context: "Context", reducer: "Reducer") -> Mapping[str, pa.Table]:
        from sparc.analyze.metrics import retrieval

        dims = context.dims
        pairs = [(a, b) for a, b in permutations(dims, 2) if dims[a] == dims[b]]
        if not pairs:
            return {"retrieval": retrieval.SCHEMA.empty_table()}
        features = context.features_at(context.sample.rows, reducer)
        table = retrieval.table(
            "raw",
            None,
            "none",
            pairs,
            context.sample,
            context.modalities,
            lambda source, _: features[source],
            lambda target: features[target],
        )
        return {"retrieval": table}
