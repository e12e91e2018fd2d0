"""Latents: how often each is active, how many are alive, and how many are active on a row."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from sparc.analyze.measure import TRAINED, Measure, Rows, Steps, Summary, Table
from sparc.analyze.report.control_lines import MODES
from sparc.analyze.report.figure_names import ENDS, Figures, Metric
from sparc.analyze.report.page import Line, Section

if TYPE_CHECKING:
    from sparc.analyze.codes.code_sets import CodeSet
    from sparc.analyze.context import Context
    from sparc.analyze.maths.reduction import Reducer

ALIVE = {
    "everywhere": Metric("alive_everywhere", title="alive in all streams"),
    "somewhere": Metric("alive_somewhere", title="alive in some streams"),
    "nowhere": Metric("alive_nowhere", title="alive in no stream"),
}
ALIVE_IMAGES = Metric("alive_images", by=())
ALIVE_UNSEEN_SHARE = Metric("alive_unseen_share", by=(), title="a dead latent is active on at most")
ACTIVE_PER_ROW = Metric("active_per_row", where=("stream",))


class Latents(Measure):
    """How often and how strongly each latent is active, and in how many streams it is alive."""

    name = "latents"
    tables = (Table("alive"), Table("latents", TRAINED))
    steps = Steps("counts")
    headline_table = "alive"
    metrics = (*ALIVE.values(), ALIVE_IMAGES, ALIVE_UNSEEN_SHARE)

    def schemas(self) -> Mapping[str, pa.Schema]:
        from sparc.analyze.metrics.latents import ALIVE_SCHEMA, SCHEMA

        return {"alive": ALIVE_SCHEMA, "latents": SCHEMA}

    def measure(
        self, context: "Context", code_set: "CodeSet", reducer: "Reducer"
    ) -> Mapping[str, pa.Table]:
        from sparc.analyze.metrics import latents

        counted = context.counted(code_set, reducer)
        return {
            "alive": latents.alive_table(counted.active, code_set),
            "latents": latents.table(counted.latents, code_set),
        }

    def figures(self, rows: Rows) -> Figures:
        streams = max(row["alive_streams"] for row in rows)
        result: Figures = {}
        for row in rows:
            number = row["alive_streams"]
            place = "nowhere" if number == 0 else "everywhere" if number == streams else "somewhere"
            name = ALIVE[place].of(mode=row["mode"], control=row["control"])
            result[name] = (result.get(name) or 0) + row["latents"]
            # The table of an earlier version lacks them.
            if "images" in row:
                result[ALIVE_IMAGES.of()] = row["images"]
                result[ALIVE_UNSEEN_SHARE.of()] = row["unseen_share"]
        return result


class Streams(Measure):
    """Dead latents and true L0 of each stream."""

    name = "streams"
    tables = (Table("streams"),)
    steps = Steps("counts")
    headline_table = "streams"
    metrics = (ACTIVE_PER_ROW,)

    def schemas(self) -> Mapping[str, pa.Schema]:
        from sparc.analyze.metrics.latents import STREAMS_SCHEMA

        return {"streams": STREAMS_SCHEMA}

    def measure(
        self, context: "Context", code_set: "CodeSet", reducer: "Reducer"
    ) -> Mapping[str, pa.Table]:
        from sparc.analyze.metrics import latents

        active = context.counted(code_set, reducer).active
        return {"streams": latents.streams_table(active, code_set)}

    def figures(self, rows: Rows) -> Figures:
        return {
            ACTIVE_PER_ROW.of(
                row["stream"], mode=row["mode"], control=row["control"], end=end
            ): row[f"active_per_row{end}"]
            for row in rows
            for end in ENDS
        }

    def section(self, streams: Sequence[str], summaries: Sequence[Summary]) -> Section:
        return Section(
            "LATENTS: how many are alive, that is, active on any row?",
            "A dead latent was not active on any of these images. With 95% confidence it is active "
            "on at most the stated share of images of the kind.",
            tuple(_alive_lines()),
        )


def _alive_lines() -> Iterator[Line]:
    counted_on = (
        Line("images that these are counted on", ALIVE_IMAGES.of(), style="count"),
        Line(
            ALIVE_UNSEEN_SHARE.title,
            ALIVE_UNSEEN_SHARE.of(),
            style="percent",
        ),
    )
    for mode in MODES:
        for place, metric in ALIVE.items():
            yield Line(
                f"{metric.title}, {mode}",
                metric.of(mode=mode, control="trained"),
                counted_on if (mode, place) == ("joint", "nowhere") else (),
                style="count",
            )
