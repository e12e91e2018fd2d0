"""All that a site shows of a report, gathered once."""

import dataclasses
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparc.analyze.browse.contents.index import AboutReport, Column, Headline, Mode, Stream
from sparc.analyze.browse.gather.about import Run, about_report, streams
from sparc.analyze.browse.gather.activity import MODES, Activity, read_activity
from sparc.analyze.browse.gather.choice import Choice, Chooser
from sparc.analyze.browse.gather.columns import interest, list_columns
from sparc.analyze.browse.gather.details import DetailMaker, shown_rows
from sparc.analyze.browse.gather.headlines import headlines
from sparc.analyze.browse.gather.neighbours import Nearest, nearest_directions
from sparc.analyze.browse.gather.rows import NAME, ShownRows
from sparc.analyze.browse.gather.tables import Tables
from sparc.analyze.concepts.gather import Evidence
from sparc.analyze.concepts.table import build
from sparc.analyze.maths.reduction import open_reducer
from sparc.analyze.report.folder import Report
from sparc.common.errors import ReportError
from sparc.common.progress import progress
from sparc.common.text import shorten


@dataclasses.dataclass(frozen=True)
class Gathered:
    """What was gathered of a report.

    Attributes:
        evidence: The report with its cache.
        run: Its run, or why it is not at hand.
        tables: The report's tables.
        activity: What its codes say.
        concepts: The table of `concepts`: latents that are active in any stream, independently,
            on the first row of an image.
    """

    evidence: Evidence
    run: Run | str
    tables: Tables
    activity: Activity
    concepts: pa.Table

    @cached_property
    def about(self) -> AboutReport:
        """What the report is about."""
        recipe = None if isinstance(self.run, str) else self.run.recipe
        return about_report(self.evidence, recipe)

    @cached_property
    def streams(self) -> tuple[Stream, ...]:
        """Its streams."""
        return streams(self.evidence)

    @cached_property
    def headlines(self) -> tuple[Headline, ...]:
        """The figures of its summary."""
        return headlines(self.evidence.report)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the list of latents."""
        return list_columns(self.concepts, self.tables, self.activity)

    @cached_property
    def interest(self) -> npt.NDArray[np.float64]:
        """How much there is to see of each latent, (L,)."""
        return interest(self.concepts, self.tables)

    @cached_property
    def by_interest(self) -> list[int]:
        """All latents, the most interesting ones first."""
        order: list[int] = np.argsort(-self.interest, kind="stable").tolist()
        return order

    @cached_property
    def alive(self) -> list[int]:
        """The latents that have a page: those active in any stream, in either mode.

        Raises:
            ReportError: None is.
        """
        active = [self.tables.of_latents[place].rows > 0 for place in self.tables.of_latents]
        alive = np.flatnonzero(np.any(active, axis=0)).tolist()
        if not alive:
            raise ReportError(
                f"{self.evidence.report.folder}: no latent is active on any row, so there is "
                "nothing to browse: train on more rows or for more steps"
            )
        return alive

    @cached_property
    def chooser(self) -> Chooser:
        """Chooses the rows that are shown."""
        return Chooser(self.tables, self.activity, self.evidence.images.of_row)

    def choices(self) -> Iterator[tuple[int, Choice]]:
        """The rows that are shown of each latent that has a page."""
        return ((latent, self.chooser.choose(latent)) for latent in self.alive)

    @cached_property
    def shown(self) -> ShownRows:
        """The rows that are shown of any latent."""
        rows = shown_rows(choice for _, choice in self.choices())
        return ShownRows(self.evidence, self.tables.classes, rows)

    @cached_property
    def neighbours(self) -> Mapping[str, Nearest]:
        """By stream, the nearest decoder rows; empty where the run is not at hand."""
        if isinstance(self.run, str):
            return {}
        of_latents = self.tables.of_latents
        alive = {s: of_latents["independent", s].rows > 0 for s in self.evidence.streams}
        return nearest_directions(self.run.subject.model, alive)

    @cached_property
    def details(self) -> DetailMaker:
        """Makes the pages of latents."""
        by_latent: Mapping[int, Mapping[str, Any]] = {
            line["latent"]: line
            for line in self.concepts.select(
                ["latent", "shared", "only", "lacking", "thin"]
            ).to_pylist()
        }
        return DetailMaker(
            self.evidence, by_latent, self.tables, self.activity, self.neighbours, self.shown
        )

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What was left out or approximated in the report, and of it here."""
        notes = [note.text for note in self.evidence.report.info.notes]
        if isinstance(self.run, str):
            notes.append(f"the nearest decoder rows are not shown: {self.run}")
        return tuple(notes)

    @cached_property
    def class_latents(self) -> tuple[tuple[str, ...], list[list[int]]]:
        """The classes that latents go with, and those latents.

        A latent goes with the most frequent class of its rows in a stream, where that is more
        frequent there than on all rows.
        """
        by_class: dict[str, set[int]] = {}
        for (mode, _), purity in self.tables.purity.items():
            if mode == "independent":
                for latent, of_latent in purity.items():
                    if of_latent.share > of_latent.base:
                        by_class.setdefault(of_latent.name, set()).add(latent)
        names = tuple(sorted(by_class))
        return names, [sorted(by_class[name]) for name in names]


def gather(report: Report, *, run: Run | str, cache: str = "", workers: int = 0) -> Gathered:
    """Gather all of a report, in one pass over its parts beside that of `concepts`.

    Args:
        report: A finished report.
        run: Its run, or why it is not at hand.
        cache: Where its cache is if it has moved.
        workers: Threads; 0: one per core.

    Raises:
        SparcError: The cache is not there or another one, or something is damaged.
    """
    evidence = Evidence(report, cache)
    names = evidence.cache.classes()["name"].to_pylist() if evidence.labels is not None else []
    tables = Tables(report, [shorten(name, NAME) for name in names])
    largest: dict[Mode, dict[str, npt.NDArray[np.float64]]] = {
        mode: {stream: tables.of_latents[mode, stream].largest for stream in evidence.streams}
        for mode in MODES
    }
    carried = None if evidence.labels is None else evidence.labels.matrix
    rows = report.info.rows
    with open_reducer("threads", workers) as reducer, progress(rows, "reading codes") as bar:
        activity = read_activity(
            report, evidence.cache, evidence.images, carried, largest, reducer, bar.update
        )
    return Gathered(evidence, run, tables, activity, build(evidence, evidence.streams))
