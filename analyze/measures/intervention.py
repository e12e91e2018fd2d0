"""Intervention: does retrieval rest on the latents that the streams share?"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sparc.analyze.measure import TRAINED, Measure, Rows, Steps, Summary, Table
from sparc.analyze.report.figure_names import ENDS, FigureName, Figures, Metric, means
from sparc.analyze.report.page import Line, Section

if TYPE_CHECKING:
    from sparc.analyze.codes.code_sets import CodeSet
    from sparc.analyze.context import Context
    from sparc.analyze.maths.reduction import Reducer

R_AT_1 = Metric("kept_r_at_1", where=("kept",), title="retrieval, R@1", added=True)
R_AT_10 = Metric("kept_r_at_10", where=("kept",), title="retrieval, R@10", added=True)
LATENTS = Metric("kept_latents", where=("kept",), added=True)


class Intervention(Measure):
    """Retrieval by codes with the shared latents alone, without them, and with random ones."""

    name = "intervention"
    tables = (Table("intervention", TRAINED),)
    steps = Steps("intervention", each="control")
    compares_streams = True
    headline_table = "intervention"
    metrics = (R_AT_1, R_AT_10, LATENTS)

    def schemas(self) -> Mapping[str, pa.Schema]:
        from sparc.analyze.metrics.intervention import SCHEMA

        return {"intervention": SCHEMA}

    def measure(
        self, context: "Context", code_set: "CodeSet", reducer: "Reducer"
    ) -> Mapping[str, pa.Table]:
        from sparc.analyze.metrics import intervention

        independent, sample = code_set._replace(mode="independent"), context.sample
        codes = context.codes_at(independent, sample.rows, reducer)
        pairs = list(permutations(codes.streams, 2))
        if not pairs:
            return {"intervention": intervention.SCHEMA.empty_table()}
        matrices = {stream: codes.matrix(stream, context.latents) for stream in codes.streams}
        seed = context.config.seed
        table = intervention.table(
            independent.mode,
            independent.control,
            pairs,
            sample,
            context.modalities,
            matrices,
            choices=intervention.choose_by_halves(sample, matrices, seed=seed),
            seed=seed,
        )
        return {"intervention": table}

    def figures(self, rows: Rows) -> Figures:
        def over_pairs() -> Iterator[tuple[FigureName, float | None]]:
            for row in rows:
                of: Any = {key: row[key] for key in ("mode", "control")}
                for column, metric in (("r_at_1", R_AT_1), ("r_at_10", R_AT_10)):
                    for end in ENDS:
                        yield metric.of(row["kept"], **of, end=end), row[f"{column}{end}"]
                yield LATENTS.of(row["kept"], **of), row["latents"]

        return means(over_pairs())

    def section(self, streams: Sequence[str], summaries: Sequence[Summary]) -> Section:
        of: Any = {"mode": "independent", "control": "trained"}

        def lines(metric: Metric) -> Iterator[Line]:
            yield Line(f"{metric.title}, all latents", metric.of("all", **of))
            for which, kept, random in (
                ("only", "shared", "random"),
                ("without", "not_shared", "not_random"),
            ):
                text = f"{metric.title}, {which}"
                control = Line(f"{text} as many at random", metric.of(random, **of))
                yield Line(f"{text} shared latents", metric.of(kept, **of), (control,))

        return Section(
            "INTERVENTION: does retrieval rest on the latents that streams share?",
            "A latent is shared if the rows on which it is active in two streams overlap more than "
            "those of 95% of mispaired latents, on other images than the queries'. Retrieval by "
            "codes, independent, with some latents only; random ones are of like frequency. Mean "
            "over pairs of streams.",
            (
                *lines(R_AT_1),
                *lines(R_AT_10),
                Line("shared latents", LATENTS.of("shared", **of), style="count"),
            ),
        )
