"""Retrieval: does a row of one stream find its own image or caption in another?"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sparc.analyze.measure import Measure, Rows, Steps, Summary, Table
from sparc.analyze.report.control_lines import independent_line, joint_leak_line, untrained_line
from sparc.analyze.report.figure_names import ENDS, FigureName, Figures, Metric, means
from sparc.analyze.report.page import Line, Section

if TYPE_CHECKING:
    from sparc.analyze.codes.code_sets import CodeSet
    from sparc.analyze.context import Context
    from sparc.analyze.maths.reduction import Reducer

_SPACES = {
    "codes": "",
    "cross_reconstruction": " of cross-reconstructions among features",
    "raw": " on raw features",
}
"""What a title says of each space; what is ranked are codes where it says nothing."""

R_AT_1 = {
    space: Metric(f"{space}_r_at_1", title=f"retrieval, R@1{where}")
    for space, where in _SPACES.items()
}
R_AT_10 = {
    space: Metric(f"{space}_r_at_10", title=f"retrieval, R@10{where}")
    for space, where in _SPACES.items()
}
MEDIAN_RANK = {space: Metric(f"{space}_median_rank") for space in _SPACES}


class Retrieval(Measure):
    """Ranks on codes, on cross-reconstructions among features, and on raw features."""

    name = "retrieval"
    tables = (Table("retrieval"),)
    steps = Steps("retrieval", raw=True)
    compares_streams = True
    headline_table = "retrieval"
    metrics = (*R_AT_1.values(), *R_AT_10.values(), *MEDIAN_RANK.values())

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
        # Decoded codes are compared with the features of their own rows, not of unrelated ones.
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
            "trained",
            pairs,
            context.sample,
            context.modalities,
            lambda source, _: features[source],
            lambda target: features[target],
        )
        return {"retrieval": table}

    def figures(self, rows: Rows) -> Figures:
        def over_pairs() -> Iterator[tuple[FigureName, float | None]]:
            for row in rows:
                space, of = row["space"], {"mode": row["mode"] or "raw", "control": row["control"]}
                for column, metric in (("r_at_1", R_AT_1), ("r_at_10", R_AT_10)):
                    for end in ENDS:
                        yield metric[space].of(**of, end=end), row[f"{column}{end}"]
                yield MEDIAN_RANK[space].of(**of), row["median_rank"]

        return means(over_pairs())

    def section(self, streams: Sequence[str], summaries: Sequence[Summary]) -> Section:
        codes, rebuilt = R_AT_1["codes"], R_AT_1["cross_reconstruction"]
        ten = R_AT_10["codes"]
        independent: Any = {"mode": "independent", "control": "trained"}
        return Section(
            "RETRIEVAL: does a row of one stream find its own image or caption in another?",
            "R@n: share of the queries that rank it among the first n, by codes where nothing else "
            "is said. Mean over pairs of streams.",
            (
                independent_line(codes),
                Line(f"{ten.title}, independent", ten.of(**independent)),
                Line(
                    "retrieval, median rank, independent",
                    MEDIAN_RANK["codes"].of(**independent),
                    style="one decimal",
                ),
                Line(
                    rebuilt.title,
                    rebuilt.of(**independent),
                    (untrained_line(rebuilt),),
                ),
                Line(
                    f"{R_AT_1['raw'].title}, where widths match",
                    R_AT_1["raw"].of(mode="raw", control="trained"),
                ),
                Line(
                    f"{codes.title}, joint: a leak",
                    codes.of(mode="joint", control="trained"),
                    (joint_leak_line(codes),),
                ),
            ),
        )
