"""What a metric must provide so that a report measures, sums up and shows it: `Measure`.

A new metric is one file in `sparc.analyze.measures` and one line in its registry, whose docstring
says how. This module knows no metric. Neither it nor a measure's file imports PyTorch, Zarr or Dask
before something is measured, since the summary of a report needs none of them.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pyarrow as pa

from sparc.analyze.report.figure_names import Figures, Metric
from sparc.analyze.report.notes import Note
from sparc.analyze.report.page import Section

if TYPE_CHECKING:
    from sparc.analyze.codes.code_sets import CodeSet, Control
    from sparc.analyze.codes.permutation import Permutation
    from sparc.analyze.codes.subject import Subject
    from sparc.analyze.config import AnalyzeConfig
    from sparc.analyze.context import Context
    from sparc.analyze.maths.reduction import Reducer
    from sparc.analyze.rows.labels import Labels

Row = Mapping[str, Any]
Rows = Sequence[Row]
"""Rows of a table, by column."""

Summary = Mapping[str, float | None]
"""The figures of a report by the text of their names, as in `summary.json`."""

TRAINED: "tuple[Control, ...]" = ("trained",)
"""The trained model on the real rows: no control."""

UNPERMUTED: "tuple[Control, ...]" = ("trained", "untrained")
"""Codes whose rows stand in their own places."""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table that a measure adds rows to."""

    name: str
    """Its file is `name.parquet`."""

    controls: "tuple[Control, ...] | None" = None
    """The controls whose codes have rows in it; None: all of them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Needs:
    """What a cache must have; without it the measure is left out, with a note."""

    labels: bool = False
    """Some analysed row carries a class."""

    captions: bool = False
    """Some row has a caption."""


@dataclasses.dataclass(frozen=True)
class Steps:
    """The steps that a measure takes; an interrupted report continues at the first missing one."""

    name: str
    """The beginning of its steps' names. Measures with the same name take their steps one after the
    other and share what `Context` counts for them."""

    each: Literal["code_set", "control"] = "code_set"
    """A step for each set of codes, or one for both modes of a control."""

    raw: bool = False
    """Whether there is a further step for raw features."""


class Step(NamedTuple):
    """One step of a measure.

    Attributes:
        name: The same for measures that share a pass over the codes.
        measure: Which measure.
        code_set: Of which codes; of both modes of its control for a measure with one step for each
            control; None for raw features.
        tables: The names of the tables that it adds a piece to.
    """

    name: str
    measure: "Measure"
    code_set: "CodeSet | None"
    tables: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scope:
    """What a report is about, before anything is measured: notes depend on it."""

    subject: "Subject"
    """The model."""

    streams: tuple[str, ...]
    """The analysed streams."""

    rows: int
    """The number of analysed rows."""

    labels: "Labels | None"
    """The labels of the cache's rows; None where no analysed row has any."""

    permutation: "Permutation"
    """The order of images of the permuted controls."""

    parts: int
    """How many rows show the image of the row before as another sample, as places of it do."""

    config: "AnalyzeConfig"
    """The settings."""


class Measure(ABC):
    """A metric as a report sees it. What is optional has a default."""

    name: str
    """Unique among the measures."""

    tables: tuple[Table, ...]
    """What it adds rows to. No other measure adds to them."""

    steps: Steps | None = None
    """When it is measured; None: another command adds its table to a finished report."""

    added_by: str = ""
    """That command, such as `sparc-analyze localize`."""

    needs: Needs = Needs()
    """What the cache must have."""

    compares_streams: bool = False
    """Whether it compares streams only: a note says that it compares nothing where there is one."""

    headline_table: str | None = None
    """Which of its tables the headline figures are made from, if there are any."""

    metrics: tuple[Metric, ...] = ()
    """The kinds of its headline figures."""

    @abstractmethod
    def schemas(self) -> Mapping[str, pa.Schema]:
        """The columns of each of its tables, which `REPORT.md` explains."""

    def measure(
        self, context: "Context", code_set: "CodeSet", reducer: "Reducer"
    ) -> Mapping[str, pa.Table]:
        """Measure a set of codes, or both modes of its control: see `Steps.each`.

        Args:
            context: What all measures share.
            code_set: The codes.
            reducer: Runs reductions over parts.

        Returns:
            By table, the rows that it adds; tables that the step does not ask for are ignored.
        """
        raise NotImplementedError(f"{self.name} is not measured by `sparc-analyze run`")

    def measure_raw(self, context: "Context", reducer: "Reducer") -> Mapping[str, pa.Table]:
        """Measure raw features: see `Steps.raw`; otherwise as `measure`."""
        raise NotImplementedError(f"{self.name} does not measure raw features")

    def notes(self, scope: Scope) -> Sequence[Note]:  # noqa: ARG002
        """What a reader of its tables must know of this report, such as an approximation.

        Unmet `needs`, and a single stream, are noted for it.
        """
        return ()

    def figures(self, rows: Rows) -> Figures:  # noqa: ARG002
        """The headline figures, from the rows of `headline_table`."""
        return {}

    def section(self, streams: Sequence[str], summaries: Sequence[Summary]) -> Section | None:  # noqa: ARG002
        """What the page of a summary shows of it.

        Args:
            streams: The streams that any of the reports has analysed.
            summaries: The figures of each report.

        Returns:
            None where it is shown in no section, or in that of another measure.
        """
        return None
