"""Latents: how often each is active, how many are alive, and how many are active on a row."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from sparc.analyze.measure import TRAINED, Measure, Steps, Table

if TYPE_CHECKING:
    from sparc.analyze.codes.code_sets import CodeSet
    from sparc.analyze.context import Context
    from sparc.analyze.maths.reduction import Reducer


class Latents(Measure):
    """How often and how strongly each latent is active, and in how many streams it is alive."""

    name = "latents"
    tables = (Table("alive"), Table("latents", TRAINED))
    steps = Steps("counts")

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


class Streams(Measure):
    """Dead latents and true L0 of each stream."""

    name = "streams"
    tables = (Table("streams"),)
    steps = Steps("counts")

    def schemas(self) -> Mapping[str, pa.Schema]:
        from sparc.analyze.metrics.latents import STREAMS_SCHEMA

        return {"streams": STREAMS_SCHEMA}

    def measure(
        self, context: "Context", code_set: "CodeSet", reducer: "Reducer"
    ) -> Mapping[str, pa.Table]:
        from sparc.analyze.metrics import latents

        active = context.counted(code_set, reducer).active
        return {"streams": latents.streams_table(active, code_set)}
