"""Classes: how well do single latents, codes and reconstructions tell them?"""

from collections.abc import Mapping
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import pyarrow as pa

from sparc.analyze.measure import Measure, Needs, Steps, Table

if TYPE_CHECKING:
    from sparc.analyze.codes.code_sets import CodeSet
    from sparc.analyze.context import Context
    from sparc.analyze.maths.reduction import Reducer


class Probe(Measure):
    """The single latent that tells each class best."""

    name = "probe"
    tables = (Table("probe"),)
    steps = Steps("classes")
    needs = Needs(labels=True)

    def schemas(self) -> Mapping[str, pa.Schema]:
        from sparc.analyze.metrics.probe import SCHEMA

        return {"probe": SCHEMA}

    def measure(
        self, context: "Context", code_set: "CodeSet", reducer: "Reducer"
    ) -> Mapping[str, pa.Table]:
        from sparc.analyze.metrics import probe

        rows = context.labelled_sample(context.config.probe_rows)
        labels = context.known_labels.with_ancestors(rows)
        codes = context.codes_at(code_set, rows, reducer)
        tables = [
            probe.table(
                codes.matrix(stream, context.latents),
                labels,
                context.known_labels.class_ids,
                code_set,
                stream,
                context.config.seed,
            )
            for stream in codes.streams
        ]
        return {"probe": pa.concat_tables(tables)}


class Classification(Measure):
    """Mean average precision of a linear probe on features, codes and reconstructions."""

    name = "classification"
    tables = (Table("classification"),)
    steps = Steps("classes", raw=True)
    needs = Needs(labels=True)

    def schemas(self) -> Mapping[str, pa.Schema]:
        from sparc.analyze.metrics.classification import SCHEMA

        return {"classification": SCHEMA}

    def measure(
        self, context: "Context", code_set: "CodeSet", reducer: "Reducer"
    ) -> Mapping[str, pa.Table]:
        from sparc.analyze.metrics import classification

        rows, images = context.classified
        codes = context.codes_at(code_set, rows, reducer)
        row = partial(
            classification.row, mode=code_set.mode, control=code_set.control, images=images
        )
        lines = []
        for stream in codes.streams:
            matrix = codes.matrix(stream, context.latents)
            lines.append(row("codes", source=stream, target=stream, inputs=matrix))
        # Of unrelated rows a reconstruction says no more than its code.
        if not code_set.permuted:
            for source, target in product(codes.streams, repeat=2):
                decoded = context.decoded(code_set, codes, source, target)
                line = row("reconstruction", source=source, target=target, inputs=decoded)
                lines.append(line)
        return {"classification": pa.concat_tables(lines)}

    def measure_raw(self, context: "Context", reducer: "Reducer") -> Mapping[str, pa.Table]:
        from sparc.analyze.metrics import classification

        rows, images = context.classified
        features = context.features_at(rows, reducer)
        lines = [
            classification.row("raw", None, "none", stream, stream, features[stream], images)
            for stream in context.streams
        ]
        return {"classification": pa.concat_tables(lines)}
