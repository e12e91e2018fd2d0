"""Classes: how well do single latents, codes and reconstructions predict them?"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sparc.analyze.measure import Measure, Needs, Rows, Steps, Summary, Table
from sparc.analyze.report.control_lines import independent_line, untrained_line
from sparc.analyze.report.figure_names import ENDS, FigureName, Figures, Metric, means
from sparc.analyze.report.page import Line, Section

if TYPE_CHECKING:
    from sparc.analyze.codes.code_sets import CodeSet
    from sparc.analyze.context import Context
    from sparc.analyze.maths.reduction import Reducer

LOG_LOSS = Metric("probe_log_loss", title="log loss of single latents")
RAW_MAP = Metric("raw_map")
CODES_MAP = Metric("codes_map", title="mAP on codes")
SELF_MAP = Metric("reconstruction_self_map")
CROSS_MAP = Metric("reconstruction_cross_map")


class Probe(Measure):
    """The single latent that predicts each class best."""

    name = "probe"
    tables = (Table("probe"),)
    steps = Steps("classes")
    needs = Needs(labels=True)
    headline_table = "probe"
    metrics = (LOG_LOSS,)

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

    def figures(self, rows: Rows) -> Figures:
        return means(
            (LOG_LOSS.of(mode=row["mode"], control=row["control"]), row["log_loss"]) for row in rows
        )


class Classification(Measure):
    """Mean average precision of a linear probe on features, codes and reconstructions."""

    name = "classification"
    tables = (Table("classification"),)
    steps = Steps("classes", raw=True)
    needs = Needs(labels=True)
    headline_table = "classification"
    metrics = (RAW_MAP, CODES_MAP, SELF_MAP, CROSS_MAP)

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
        # A reconstruction of unrelated rows says no more than its code.
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
            classification.row("raw", None, "trained", stream, stream, features[stream], images)
            for stream in context.streams
        ]
        return {"classification": pa.concat_tables(lines)}

    def figures(self, rows: Rows) -> Figures:
        def over_streams() -> Iterator[tuple[FigureName, float | None]]:
            for row in rows:
                own = row["source"] == row["target"]
                metric = {
                    "raw": RAW_MAP,
                    "codes": CODES_MAP,
                    "reconstruction": SELF_MAP if own else CROSS_MAP,
                }[row["space"]]
                of: Any = {"mode": row["mode"] or "raw", "control": row["control"]}
                for end in ENDS:
                    yield metric.of(**of, end=end), row[f"mean_average_precision{end}"]

        return means(over_streams())

    def section(self, streams: Sequence[str], summaries: Sequence[Summary]) -> Section:
        independent: Any = {"mode": "independent", "control": "trained"}
        return Section(
            "CLASSES: do codes predict them?",
            "mAP: mean average precision of a linear probe, over classes and streams. Log loss of "
            "the best single latent of a class, in nats: 0 is perfect, 0.693 is chance.",
            (
                Line("mAP on raw features", RAW_MAP.of(mode="raw", control="trained")),
                independent_line(CODES_MAP),
                Line("mAP on reconstructions", SELF_MAP.of(**independent)),
                Line(
                    "mAP on cross-reconstructions",
                    CROSS_MAP.of(**independent),
                    (untrained_line(CROSS_MAP),),
                ),
                Line(f"{CODES_MAP.title}, joint", CODES_MAP.of(mode="joint", control="trained")),
                independent_line(LOG_LOSS),
                Line(
                    f"{LOG_LOSS.title}, joint",
                    LOG_LOSS.of(mode="joint", control="trained"),
                ),
            ),
        )
