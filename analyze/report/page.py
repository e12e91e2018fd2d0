"""The page of a summary as data: which figures it shows, in which order, under which words.

What a figure looks like and what explains it is here, too. Widths, markup and escaping are up to a
renderer: `sparc.analyze.report.renderers.registry` says how to add one.
`sparc.analyze.report.summary_page` makes a page.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from sparc.analyze.report.figure_names import FigureName
from sparc.analyze.report.notes import Note

Style = Literal["decimal", "one decimal", "count", "percent"]
"""How a figure is written: with three decimals, with one, as a whole number, or as a percentage."""

FORMATS: Mapping[Style, str] = {
    "decimal": ".3f",
    "one decimal": ",.1f",
    "count": ",.0f",
    "percent": ".2%",
}

NOT_MEASURED = "not measured"
"""Stands for a figure that a report does not have."""

READING = (
    "independent: each stream of a row selects its own latents. joint: all streams select the same "
    "latents, by the sum of their logits, so that they agree by construction and leak what they "
    "select to each other. Indented lines are controls: only what exceeds them was learnt. "
    "untrained model: the same before its first step; permuted rows, mispaired latents: chance. "
    "±: half of a 95% interval, over other images of the same kind. -: undefined."
)
"""How the figures of a summary are read."""


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a page: what it says, and the figure that it shows of each report."""

    text: str

    figure: FigureName
    """Shown with its interval, where the reports have one."""

    controls: tuple["Line", ...] = ()
    """What the figure is to be compared with."""

    style: Style = "decimal"

    def levels(self, level: int = 0) -> Iterator[tuple[int, "Line"]]:
        """The line itself, then those of its controls, a level deeper."""
        yield level, self
        for control in self.controls:
            yield from control.levels(level + 1)


@dataclasses.dataclass(frozen=True)
class Section:
    """Lines that answer one question."""

    title: str

    reading: str
    """How its figures are to be read."""

    lines: tuple[Line, ...]

    tables: tuple[str, ...] = ()
    """The tables that its measure makes."""

    made_by_run: bool = False
    """Whether `sparc-analyze run` makes them: another command adds those of a question."""

    def levels(self) -> Iterator[tuple[int, Line]]:
        """All lines; controls follow their line, a level deeper."""
        for line in self.lines:
            yield from line.levels()


class Shown(NamedTuple):
    """A figure on a page, and the ends of its interval.

    Attributes:
        value: None where it is undefined.
        low: None where it has no interval.
        high: Likewise.
    """

    value: float | None
    low: float | None
    high: float | None


class Cell(NamedTuple):
    """A figure as text.

    Attributes:
        text: The figure; a dash where it is undefined, `NOT_MEASURED` where the report lacks it.
        margin: ± and the distance to the farther end of its interval; empty without one.
    """

    text: str
    margin: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.margin}".rstrip()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """What a page says of one report."""

    name: str
    """Short, and unique on the page."""

    place: str
    """The report's folder or URL."""

    about: tuple[tuple[str, str], ...]
    """What it is about, by short names."""

    sizes: str
    """Its rows, latents and streams, in words."""

    tables: tuple[str, ...]
    """The tables that it has."""

    notes: tuple[Note, ...]
    """What was left out or approximated in it."""

    figures: Mapping[str, float | None]
    """Its figures, by the text of their names."""

    def figure(self, name: FigureName) -> Shown | None:
        """A figure; None where it was not measured."""
        if str(name) not in self.figures:
            return None
        ends = (self.figures.get(str(name.at(end))) for end in ("_low", "_high"))
        return Shown(self.figures[str(name)], *ends)

    def cell(self, line: Line) -> Cell:
        """The figure of a line as text."""
        shown = self.figure(line.figure)
        if shown is None:
            return Cell(NOT_MEASURED)
        if shown.value is None:
            return Cell("-")
        style = FORMATS[line.style]
        distances = [abs(end - shown.value) for end in (shown.low, shown.high) if end is not None]
        margin = f"±{max(distances):{style}}" if distances else ""
        return Cell(f"{shown.value:{style}}", margin)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Page:
    """The figures of some reports, side by side."""

    columns: tuple[Column, ...]

    reading: str
    """How all of its figures are to be read."""

    sections: tuple[Section, ...]

    def shown(self, section: Section) -> list[tuple[int, Line]]:
        """The lines of a section, with their levels, that any report has the figure of."""
        return [
            (level, line)
            for level, line in section.levels()
            if any(column.figure(line.figure) is not None for column in self.columns)
        ]

    def explanation(self) -> str:
        """How the figures are read; `NOT_MEASURED` is explained where the page shows it."""
        lacking = any(
            column.figure(line.figure) is None
            for section in self.sections
            for _, line in self.shown(section)
            for column in self.columns
        )
        explained = (
            f" {NOT_MEASURED}: that report has no such figure; its notes say what was left out, "
            "and the same `sparc-analyze run` again adds what is newer than it."
        )
        return self.reading + (explained if lacking else "")

    def why_unmeasured(self, section: Section) -> list[str]:
        """Why the reports lack the tables of a section: their notes say it, or they are older."""
        texts = []
        for column in self.columns:
            notes = [n.text for n in column.notes if set(n.tables) & set(section.tables)]
            if not notes and section.made_by_run and not set(column.tables) & set(section.tables):
                notes = [
                    f"{column.place} was made before there was this table; the same `sparc-analyze "
                    "run` again adds it"
                ]
            texts += notes
        return list(dict.fromkeys(texts))
