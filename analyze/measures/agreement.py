"""Agreement: does a latent stand for the same classes in every stream?"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from sparc.analyze.measure import UNPERMUTED, Measure, Needs, Rows, Steps, Summary, Table
from sparc.analyze.report.control_lines import UNTRAINED
from sparc.analyze.report.figure_names import ENDS, FigureMode, Figures, Metric
from sparc.analyze.report.page import Line, Section

if TYPE_CHECKING:
    from sparc.analyze.codes.code_sets import CodeSet, Control
    from sparc.analyze.context import Context
    from sparc.analyze.maths.reduction import Reducer

VALUE = Metric("agreement", where=("depth",), title="agreement")
MISPAIRED = Metric("agreement_mispaired", where=("depth",), title="mispaired latents")
EXCESS = Metric("agreement_excess", where=("depth",), title="excess of agreement")

_OF_ALIVE = tuple(
    Metric(f"agreement_alive{kind}", where=("depth",)) for kind in ("", "_mispaired", "_excess")
)


class Agreement(Measure):
    """Jaccard of the classes of a latent's rows in two streams.

    It is not measured on permuted rows, which are no null for it: they give every latent the
    overall mix of classes, and latents without meaning then agree. Its null is in its table:
    latents that are paired at random.
    """

    name = "agreement"
    tables = (Table("agreement", UNPERMUTED),)
    steps = Steps("counts")
    compares_streams = True
    needs = Needs(labels=True)
    headline_table = "agreement"
    metrics = (VALUE, MISPAIRED, EXCESS, *_OF_ALIVE)

    def schemas(self) -> Mapping[str, pa.Schema]:
        from sparc.analyze.metrics.agreement.table import SCHEMA

        return {"agreement": SCHEMA}

    def measure(
        self, context: "Context", code_set: "CodeSet", reducer: "Reducer"
    ) -> Mapping[str, pa.Table]:
        from sparc.analyze.metrics.agreement.table import table

        counted = context.counted(code_set, reducer)
        assert counted.classes is not None
        result = table(
            counted.classes,
            counted.labelled,
            context.known_labels,
            code_set,
            top=context.config.top_rows,
            images=context.images,
            sample=counted.fold_codes,
            seed=context.config.seed,
        )
        return {"agreement": result}

    def figures(self, rows: Rows) -> Figures:
        result: Figures = {}
        for row in rows:
            if row["first"] is None and row["restriction"] == "all_rows":
                of_all = row["averaged_over"] == "all"
                value, mispaired, excess = (VALUE, MISPAIRED, EXCESS) if of_all else _OF_ALIVE
                depth, of = f"depth {row['depth']}", {k: row[k] for k in ("mode", "control")}
                result[mispaired.of(depth, **of)] = row["mispaired"]
                for end in ENDS:
                    result[value.of(depth, end=end, **of)] = row[f"value{end}"]
                    result[excess.of(depth, end=end, **of)] = row[f"excess{end}"]
        return result

    def section(self, streams: Sequence[str], summaries: Sequence[Summary]) -> Section:
        by_report = [depths(summary) for summary in summaries]
        every = {depth for of_report in by_report for depth in of_report if depth > 0}
        finest = {of_report[-1] for of_report in by_report if of_report}
        return Section(
            "AGREEMENT: do the classes of a latent's rows match between the streams?",
            "0: not at all, 1: fully. Mean over all latents, dead ones as 0. Any two latents agree "
            "in part, most of all where classes are few. Excess: how much of the way from there to "
            "1 is gone; 0 where a latent is no more alike in two streams than two latents are. "
            "Depth: of the classes, 1 is the coarsest.",
            (
                *(
                    line
                    for depth in sorted(every, reverse=True)
                    for line in _lines(depth, "independent")
                ),
                *(
                    line
                    for depth in sorted(finest, reverse=True)
                    for line in _lines(depth, "joint")
                ),
            ),
        )


def depths(summary: Summary) -> list[int]:
    """At which depths of the classes a report has agreement, ascending."""
    return sorted({int(depth.removeprefix("depth ")) for (depth,) in VALUE.where_in(summary)})


def _lines(depth: int, mode: FigureMode) -> Iterator[Line]:
    def line(text: str, metric: Metric, *controls: Line, control: "Control" = "trained") -> Line:
        return Line(text, metric.of(f"depth {depth}", mode=mode, control=control), controls)

    yield line(
        f"{EXCESS.title}, depth {depth}, {mode}",
        EXCESS,
        line(UNTRAINED, EXCESS, control="untrained"),
    )
    yield line(
        f"{VALUE.title}, depth {depth}, {mode}",
        VALUE,
        line(MISPAIRED.title, MISPAIRED),
        line(UNTRAINED, VALUE, control="untrained"),
    )
