"""From the tables of a report to its headline figures."""

from collections.abc import Mapping

import pyarrow as pa

from sparc.analyze.measure import Measure
from sparc.analyze.measures.registry import MEASURES
from sparc.analyze.report.figure_names import Figures, as_text
from sparc.analyze.report.folder import SUMMARY_FILE, Report
from sparc.analyze.report.tables import file_of, read_table
from sparc.common.errors import ReportError
from sparc.common.files.folder import Folder


def headline_tables() -> list[str]:
    """The tables that headline figures are made from, in the order of the figures."""
    return [m.headline_table for m in MEASURES if m.headline_table is not None]


def figures(folder: Folder) -> dict[str, float | None]:
    """The headline figures of a report, as `summary.json` names them.

    Args:
        folder: A report's folder, whose tables have been written.

    Raises:
        ReportError: A table is of another version.
    """

    def read(name: str) -> pa.Table:
        file = file_of(name)
        with folder.open(file) as opened:
            return read_table(opened, f"{folder}/{file}")

    present = [name for name in headline_tables() if folder.exists(file_of(name))]
    return as_text(_figures({name: read(name) for name in present}, folder))


def checked_figures(report: Report) -> Mapping[str, float | None]:
    """The figures of a finished report's summary, once it has all that the tables give.

    A figure that it lacks was then not measured; one that is null is undefined. Of a
    metric that is newer than the report (`Metric.added`) it may lack all figures.

    Raises:
        ReportError: A figure is missing, or the report is damaged or of another version.
    """
    tables = {name: report.table(name) for name in headline_tables() if name in report.tables}
    given = _figures(tables, report.folder)
    missing = [name for name in given if str(name) not in report.summary]
    known = {name.metric for name in given if str(name) in report.summary}
    for name in missing:
        if name.metric in known or not name.metric.added:
            raise ReportError(
                f"{report.folder}/{SUMMARY_FILE} has no figure '{name}', which the report's tables "
                f"give: run the same `sparc-analyze run` again, which adds it"
            )
    return report.summary


def _figures(tables: Mapping[str, pa.Table], folder: Folder) -> Figures:
    result: Figures = {}
    for measure in MEASURES:
        table = tables.get(measure.headline_table or "")
        if table is not None:
            result |= _declared(measure, _figures_of(measure, table, folder))
    return result


def _figures_of(measure: Measure, table: pa.Table, folder: Folder) -> Figures:
    try:
        return measure.figures(table.to_pylist())
    except KeyError as error:
        raise ReportError(
            f"{folder}/{measure.headline_table}.parquet has no column {error}: it is of another "
            "version of SPARC; use that, or remove the report and run the same `sparc-analyze run` "
            "again"
        ) from error


def _declared(measure: Measure, figures: Figures) -> Figures:
    """Check that a measure declares the metrics of its figures."""
    for name in figures:
        if name.metric not in measure.metrics:
            raise TypeError(f"the measure {measure.name!r} does not declare the metric of {name}")
    return figures
