"""Lines for a figure in either mode, with the controls of that mode."""

from typing import Literal

from sparc.analyze.report.figure_names import Metric
from sparc.analyze.report.page import Line

MODES: "tuple[Literal['independent', 'joint'], ...]" = ("independent", "joint")
"""In the order of a page: what was learnt comes first."""


def independent_line(text: str, metric: Metric) -> Line:
    """A figure of independent codes; the text goes before the mode."""
    return Line(
        f"{text}independent",
        metric.of(mode="independent", control="trained"),
        (
            untrained_line(metric),
            Line("permuted rows (chance)", metric.of(mode="independent", control="permuted")),
        ),
    )


def joint_line(text: str, metric: Metric) -> Line:
    """A figure of joint codes; the text goes before the mode."""
    return Line(
        f"{text}joint",
        metric.of(mode="joint", control="trained"),
        (
            Line("untrained model", metric.of(mode="joint", control="untrained")),
            joint_leak_line(metric),
            Line("permuted rows (chance)", metric.of(mode="joint", control="permuted_after")),
        ),
    )


def untrained_line(metric: Metric, *where: str) -> Line:
    """The same figure of the untrained model, independent."""
    return Line("untrained model", metric.of(*where, mode="independent", control="untrained"))


def joint_leak_line(metric: Metric) -> Line:
    """What joint selection alone gives."""
    name = metric.of(mode="joint", control="permuted_before")
    return Line("permuted rows, selected jointly", name)
