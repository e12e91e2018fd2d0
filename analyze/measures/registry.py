"""The measures of a report, in the order of its summary.

How to add one, in one new file beside this one or in a subfolder, and one line below:

1. Derive a class from `sparc.analyze.measure.Measure`. Give it a `name`, its `tables` (with
   `TRAINED` where only the trained model has rows) and what it `needs`.
2. `schemas` gives the columns of each table. Give the table a line in the list of files at the top
   of `REPORT.md` and a section that explains its columns and formula, and a page in `docs/tables`.
3. `measure` gives the rows of one set of codes. The codes come from `Context`: part by part with
   `context.parts(code_set)` and the reducer, or for sampled rows with `context.codes_at`. Import
   the module that computes inside the method; a small metric may compute in the method itself.
4. `notes` says what a reader must know of a particular report, such as an approximation. Why a
   table is missing where its `needs` are not met is noted without it.
5. For the summary: declare the `metrics`, say which table they are made from (`headline_table`),
   make the `figures` from its rows, and a `section` of the page that shows them. `REPORT.md` lists
   the figures under `summary.json`.
6. Add an instance to `MEASURES`. Finished reports get the table when the same `sparc-analyze run`
   runs again.
"""

from sparc.analyze.measure import Measure
from sparc.analyze.measures.agreement import Agreement
from sparc.analyze.measures.classes import Classification, Probe
from sparc.analyze.measures.intervention import Intervention
from sparc.analyze.measures.latents import Latents, Streams
from sparc.analyze.measures.localization import Localization
from sparc.analyze.measures.meaning.cofiring import Cofiring
from sparc.analyze.measures.meaning.monosemanticity import Monosemanticity
from sparc.analyze.measures.meaning.naming import Naming
from sparc.analyze.measures.meaning.purity import Purity
from sparc.analyze.measures.meaning.twins import Twins
from sparc.analyze.measures.overlap import Overlap
from sparc.analyze.measures.reconstruction import Reconstruction
from sparc.analyze.measures.retrieval import Retrieval
from sparc.analyze.measures.selection import LeftOut, Selection

MEASURES: list[Measure] = [
    Agreement(),
    Overlap(),
    Twins(),
    Reconstruction(),
    Retrieval(),
    Intervention(),
    Latents(),
    Probe(),
    Classification(),
    Selection(),
    LeftOut(),
    Monosemanticity(),
    Purity(),
    Streams(),
    Localization(),
    Naming(),
    Cofiring(),
]


def table_names() -> list[str]:
    """Every table that a report may hold, in alphabetical order."""
    return sorted(table.name for measure in MEASURES for table in measure.tables)


def adding_command(table: str) -> str:
    """The command that adds a table to a finished report; empty: `sparc-analyze run` makes it."""
    return next((m.added_by for m in MEASURES for t in m.tables if t.name == table), "")
