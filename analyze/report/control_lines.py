"""Lines for a figure in either mode, with the controls of that mode."""

from typing import Literal

from sparc.analyze.report.figure_names import Metric
from sparc.analyze.report.page import Line

UNTRAINED = "untrained model"
PERMUTED = "permuted rows"
"""What pages call controls, wherever they show them."""

MODES: "tuple[Literal['independent', 'joint'], ...]" = ("independent", "joint")
"""In the order of a page: what was learnt comes first."""


def independent_line(metric: Metric) -> Line:
    """A figure of independent codes, by its title."""
    return Line(
        f"{metric.title}, independent",
        metric.of(mode="independent", control="trained"),
        (
            untrained_line(metric),
            Line(PERMUTED, metric.of(mode="independent", control="permuted")),
        ),
    )


def joint_line(metric: Metric) -> Line:
    """A figure of joint codes, by its title."""
    return Line(
        f"{metric.title}, joint",
        metric.of(mode="joint", control="trained"),
        (
            Line(UNTRAINED, metric.of(mode="joint", control="untrained")),
            joint_leak_line(metric),
            Line(PERMUTED, metric.of(mode="joint", control="permuted_after")),
        ),
    )


def untrained_line(metric: Metric, *where: str) -> Line:
    """The same figure of the untrained model, independent."""
    return Line(UNTRAINED, metric.of(*where, mode="independent", control="untrained"))


def joint_leak_line(metric: Metric) -> Line:
    """What joint selection alone gives."""
    name = metric.of(mode="joint", control="permuted_before")
    return Line(f"{PERMUTED}, selected jointly", name)
