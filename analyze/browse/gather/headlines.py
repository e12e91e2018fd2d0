"""The figures of a report's summary, with their controls: its own words and values."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from sparc.analyze.browse.contents.index import ControlFigure, Headline
from sparc.analyze.measures.latents import ALIVE_IMAGES
from sparc.analyze.report.folder import Report
from sparc.analyze.report.page import Column, Line, Section, Shown
from sparc.analyze.report.summary_page import summary_page

BETTER: Mapping[str, Literal["higher", "lower"]] = {
    **dict.fromkeys(("agreement", "agreement_excess", "codes_r_at_1", "codes_r_at_10"), "higher"),
    **dict.fromkeys(("explained_variance_cross", "explained_variance_self"), "higher"),
    **dict.fromkeys(("cross_reconstruction_r_at_1", "codes_map"), "higher"),
    **dict.fromkeys(("reconstruction_self_map", "reconstruction_cross_map"), "higher"),
    **dict.fromkeys(("monosemanticity_own", "monosemanticity_cross", "purity"), "higher"),
    **dict.fromkeys(("localization_pointing", "localization_auc"), "higher"),
    **dict.fromkeys(("nmse_cross", "nmse_self", "probe_log_loss", "codes_median_rank"), "lower"),
    "twin_jaccard": "lower",
}
"""In which direction a metric is better, where it is in one; of joint figures, in none."""


def headlines(report: Report) -> tuple[Headline, ...]:
    """All figures that a summary shows, and why others were not measured.

    Raises:
        ReportError: The report is damaged or of another version.
    """
    page, streams = summary_page([report]), report.info.streams
    (column,) = page.columns
    result: list[Headline] = []
    for section in page.sections:
        lines = section.lines
        of_section = [h for line in lines for h in _headlines(section, line, column, streams)]
        reasons = [] if of_section else page.why_unmeasured(section)
        result += of_section + [_missing(section, reason) for reason in reasons]
    return tuple(result)


def _headlines(
    section: Section, line: Line, column: Column, streams: Sequence[str]
) -> Iterator[Headline]:
    """A line with its controls; what is indented below it and measured otherwise is of its own."""
    shown = column.figure(line.figure)
    below = [control for _, control in line.levels()][1:]
    controls = [control for control in below if _is_control(control, line)]
    if shown is not None:
        yield _headline(section, line, shown, tuple(_figures(controls, column)), streams)
    for other in below:
        figure = column.figure(other.figure)
        if other not in controls and figure is not None:
            yield _headline(section, other, figure, (), streams)


def _is_control(below: Line, line: Line) -> bool:
    """Whether it is the same figure otherwise paired or of other rows, to be drawn on its scale."""
    return below.figure.metric.name.startswith(line.figure.metric.name)


def _figures(controls: Sequence[Line], column: Column) -> Iterator[ControlFigure]:
    for control in controls:
        if (shown := column.figure(control.figure)) is not None:
            yield ControlFigure(
                name=control.text, value=shown.value, low=shown.low, high=shown.high
            )


def _headline(
    section: Section,
    line: Line,
    shown: Shown,
    controls: tuple[ControlFigure, ...],
    streams: Sequence[str],
) -> Headline:
    name = line.figure
    values = [*shown, *(value for c in controls for value in (c.value, c.low, c.high))]
    count = "images" if name.metric is ALIVE_IMAGES else "latents"
    return Headline(
        section=_title(section),
        text=line.text,
        explanation=section.reading,
        mode=name.mode if name.mode in ("independent", "joint") else "",
        given=name.mode == "joint",
        stream=next((part for part in name.where if part in streams), None),
        value=shown.value,
        low=shown.low,
        high=shown.high,
        controls=controls,
        range=_range(line, [value for value in values if value is not None]),
        better=None if name.mode == "joint" else BETTER.get(name.metric.name),
        unit=count if line.style == "count" else "",
        style=line.style,
    )


def _missing(section: Section, reason: str) -> Headline:
    title = _title(section)
    return Headline(section=title, text=title.lower(), explanation=section.reading, missing=reason)


def _title(section: Section) -> str:
    return section.title.partition(":")[0]


def _range(line: Line, values: Sequence[float]) -> tuple[float, float] | None:
    """The scale of a figure that lies between 0 and 1, as do its controls."""
    if line.style != "decimal" or not all(0 <= value <= 1 for value in values):
        return None
    return (0.0, 1.0)
