"""The page that sums up reports, made of the sections of the measures."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from sparc.analyze.measures.latents import ALIVE_IMAGES
from sparc.analyze.measures.registry import MEASURES
from sparc.analyze.report.figures import checked_figures
from sparc.analyze.report.folder import Report
from sparc.analyze.report.page import READING, Column, Line, Page
from sparc.common.text import amount

FEW_IMAGES = 200
"""Below this number most latents are active on too few images for any comparison."""


def summary_page(reports: Sequence[Report]) -> Page:
    """The summary of some reports, side by side.

    Raises:
        ReportError: A report is damaged or of another version, or lacks a figure that it must have.
    """
    columns = make_columns(reports)
    streams = list(dict.fromkeys(s for report in reports for s in report.info.streams))
    summaries = [column.figures for column in columns]
    sections = []
    for measure in MEASURES:
        section = measure.section(streams, summaries)
        if section is not None:
            require_declared(line for _, line in section.levels())
            tables = tuple(table.name for table in measure.tables)
            by_run = measure.steps is not None
            sections.append(dataclasses.replace(section, tables=tables, made_by_run=by_run))
    return Page(columns=columns, reading=READING, sections=tuple(sections))


def small_samples(reports: Sequence[Report]) -> Iterator[str]:
    """What to keep in mind where a report is about few images: a line for each such report."""
    for report in reports:
        images = report.summary.get(str(ALIVE_IMAGES.of()))
        if images is not None and images < FEW_IMAGES:
            yield (
                f"SMALL: {report.folder} is about {amount(int(images), 'image')}; most latents are "
                "active on too few of them to say what they stand for, and intervals are wide"
            )


def make_columns(reports: Sequence[Report]) -> tuple[Column, ...]:
    """What a page says of several reports.

    Raises:
        ReportError: A report is damaged or of another version, or lacks a figure that it must have.
    """
    return tuple(map(_column, reports, _names(reports)))


def require_declared(lines: Iterable[Line]) -> None:
    """Check that every line shows a metric that a measure declares.

    Raises:
        ValueError: No measure declares one of them.
    """
    declared = {metric for measure in MEASURES for metric in measure.metrics}
    for line in lines:
        if line.figure.metric not in declared:
            raise ValueError(f"no measure declares the metric of {line.figure} ({line.text!r})")


def _column(report: Report, name: str) -> Column:
    info = report.info
    sizes = f"{amount(info.rows, 'row')}, {amount(info.latents, 'latent')}, k {info.k}"
    return Column(
        name=name,
        place=str(report.folder),
        about=(("run", info.run), ("cache", info.cache)),
        sizes=f"{sizes}, trained with {info.selection} selection; "
        f"streams {', '.join(info.streams)}",
        tables=report.tables,
        notes=info.notes,
        figures=checked_figures(report),
    )


def _names(reports: Sequence[Report]) -> list[str]:
    """The ends of the reports' paths, as long as it takes to distinguish them."""
    paths = [str(report.folder).rstrip("/").split("/") for report in reports]
    different = len(set(map(tuple, paths)))
    for length in range(1, 1 + max(map(len, paths))):
        names = ["/".join(path[-length:]) for path in paths]
        if len(set(names)) == different:
            break
    return names
