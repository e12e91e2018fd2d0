"""The names of a report's headline figures.

A measure declares its kinds of figures, each a `Metric`, and names are made from them: a misspelt
one is an unknown Python name, not an empty cell. In `summary.json` a name is text, such as
`agreement_low/independent/trained/depth 3`; `REPORT.md` lists them.
"""

import dataclasses
import functools
import operator
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from sparc.analyze.codes.code_sets import Control

FigureMode = Literal["joint", "independent", "raw"]

End = Literal["", "_low", "_high"]
ENDS: tuple[End, ...] = ("", "_low", "_high")
"""A figure, and the ends of its 95% interval, in names of figures and of columns alike."""

Figures = dict["FigureName", float | None]
"""Figures by name; None where one is undefined."""


@dataclasses.dataclass(frozen=True)
class Metric:
    """A kind of figure, and what distinguishes two figures of this kind."""

    name: str

    by: tuple[Literal["mode", "control"], ...] = ("mode", "control")
    """Which of these a name has."""

    where: tuple[str, ...] = ()
    """Further parts of a name after mode and control, such as the stream."""

    title: str = ""
    """What pages call it, wherever they show it; mode and control are said beside it."""

    added: bool = False
    """Whether reports were finished before there was this metric: they may lack all its figures."""

    def of(
        self,
        *where: str,
        mode: "FigureMode | None" = None,
        control: "Control | None" = None,
        end: End = "",
    ) -> "FigureName":
        """Name a figure of this kind; the arguments are the fields of `FigureName`."""
        return FigureName(self, mode, control, where, end)

    def where_in(self, figures: Iterable[str]) -> list[tuple[str, ...]]:
        """What `where` is for the figures of this kind among some, given as text."""
        parts = 1 + len(self.by) + len(self.where)
        split = [name.split("/", parts - 1) for name in figures]
        mine = [p for p in split if p[0] == self.name and len(p) == parts]
        return [tuple(p[1 + len(self.by) :]) for p in mine]


@dataclasses.dataclass(frozen=True)
class FigureName:
    """The name of one figure.

    Raises:
        ValueError: A part is missing, or the metric has no such part.
    """

    metric: Metric

    mode: FigureMode | None = None
    """How streams selected; `raw` where features are measured instead of codes."""

    control: "Control | None" = None
    """Which control it is; `trained` is the trained model on the real rows."""

    where: tuple[str, ...] = ()
    """The parts that `Metric.where` says."""

    end: End = ""
    """The figure itself, or an end of its interval."""

    def __post_init__(self) -> None:
        given = {"mode": self.mode, "control": self.control}
        by = tuple(part for part, value in given.items() if value is not None)
        if by != self.metric.by or len(self.where) != len(self.metric.where):
            wanted = ", ".join((*self.metric.by, *self.metric.where)) or "nothing"
            raise ValueError(f"the name of a figure {self.metric.name!r} has {wanted}: {self}")

    def at(self, end: End) -> "FigureName":
        """The name of an end of its interval."""
        return dataclasses.replace(self, end=end)

    def __str__(self) -> str:
        parts = (self.mode, self.control, *self.where)
        return "/".join([self.metric.name + self.end, *(part for part in parts if part)])


def means(figures: Iterable[tuple[FigureName, float | None]]) -> Figures:
    """The mean of the figures of each name; None where none of them is defined.

    The interval of a mean over pairs or streams is the mean of theirs: the standard error of a mean
    is at most the mean of the standard errors.
    """
    groups: dict[FigureName, list[float]] = {}
    for name, value in figures:
        group = groups.setdefault(name, [])
        if value is not None:
            group.append(value)
    return {name: _mean(group) if group else None for name, group in groups.items()}


def _mean(values: list[float]) -> float:
    """One by one: `sum` corrects its rounding from Python 3.12 on, and its last digit differs."""
    return functools.reduce(operator.add, values, 0.0) / len(values)


def as_text(figures: Mapping[FigureName, float | None]) -> dict[str, float | None]:
    """Figures as `summary.json` names them."""
    return {str(name): value for name, value in figures.items()}
