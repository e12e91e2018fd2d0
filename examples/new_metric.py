"""A metric of your own becomes a table of reports, with every control, beside the others.

    python examples/new_metric.py

How many latents does a stream use in effect? The exponential of the entropy of their use: as many
equally used latents would have it. In SPARC's own code this class is a file in `analyze/measures`
and a line in its registry, whose docstring says what else a measure may do.
"""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

import sparc
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.context import Context
from sparc.analyze.maths.reduction import Reducer
from sparc.analyze.measure import Measure, Steps, Table
from sparc.analyze.measures.registry import MEASURES


class EffectiveLatents(Measure):
    """How evenly a stream uses its latents."""

    name = "effective_latents"
    tables = (Table("effective_latents"),)
    steps = Steps("effective-latents")

    def schemas(self) -> Mapping[str, pa.Schema]:
        texts = [(name, pa.string()) for name in ("mode", "control", "stream")]
        return {"effective_latents": pa.schema([*texts, ("latents", pa.float64())])}

    def measure(
        self, context: Context, code_set: CodeSet, reducer: Reducer
    ) -> Mapping[str, pa.Table]:
        rows = []
        counts = context.counted(code_set, reducer).latents
        for stream, active in zip(counts.streams, counts.active, strict=True):
            share = active[active > 0] / active.sum()
            number = float(np.exp(-(share * np.log(share)).sum()))
            rows.append({**code_set._asdict(), "stream": stream, "latents": number})
        return {
            "effective_latents": pa.Table.from_pylist(rows, self.schemas()["effective_latents"])
        }


MEASURES.append(EffectiveLatents())

# A finished report gets the tables that it lacks when the same command runs again.
folder = Path(tempfile.mkdtemp()) / "report"
shutil.copytree(sparc.Report("demo").folder.local, folder)
report = sparc.analyze("demo", "demo", folder)
table = report.table("effective_latents").to_pandas()
print("latents used in effect, of 512:")
print(table.pivot_table("latents", ["mode", "control"], "stream").round(0).to_string())
