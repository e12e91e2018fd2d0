"""A page of figures as plain text, for a terminal."""

import textwrap
from collections.abc import Iterator, Sequence

from sparc.analyze.report.page import Column, Line, Page, Section, Style
from sparc.common.text import printable, shorten

LABEL_WIDTH = 52
COLUMN_WIDTH = 15
MARGIN_WIDTH = 7
PAGE_WIDTH = 96

NOT_MEASURED = "not measured"

_FORMATS: dict[Style, str] = {
    "decimal": ".3f",
    "one decimal": ",.1f",
    "count": ",.0f",
    "percent": ".2%",
}


def render(page: Page) -> str:
    """A page as text, at most `PAGE_WIDTH` wide; with more than two reports it is wider."""
    lines = [*_heading(page.columns), "", *_wrapped(_reading(page))]
    if len(page.columns) > 1:
        names = [shorten(column.name, COLUMN_WIDTH - 2) for column in page.columns]
        lines += ["", _row("", names)]
    for section in page.sections:
        lines += _section(page, section)
    for column in page.columns:
        for note in column.notes:
            lines += ["", *_wrapped(f"Note on {printable(column.place)}: {printable(note.text)}.")]
    return "\n".join(lines)


def cell(column: Column, line: Line) -> str:
    """A figure and the distance to the farther end of its interval.

    Returns:
        The figure, then a margin of `MARGIN_WIDTH`, blank without an interval. A dash stands for a
        figure that is undefined, `NOT_MEASURED` for one that the report does not have.
    """
    shown = column.figure(line.figure)
    if shown is None:
        return NOT_MEASURED
    if shown.value is None:
        return "-" + " " * MARGIN_WIDTH
    style = _FORMATS[line.style]
    distances = [abs(end - shown.value) for end in (shown.low, shown.high) if end is not None]
    margin = f" ±{max(distances):{style}}" if distances else ""
    return f"{shown.value:{style}}{margin:<{MARGIN_WIDTH}}"


def _heading(columns: Sequence[Column]) -> Iterator[str]:
    for column in columns:
        yield printable(column.place)
        for what, text in column.about:
            yield f"  {what:<7} {printable(text)}"
        yield from _wrapped(column.sizes, indent="  ")


def _reading(page: Page) -> str:
    """How the figures are read; `NOT_MEASURED` is explained where a page shows it."""
    lacking = any(
        column.figure(line.figure) is None
        for section in page.sections
        for _, line in page.shown(section)
        for column in page.columns
    )
    explained = (
        f" {NOT_MEASURED}: that report has no such figure; its notes say what was left out, and "
        "the same `sparc-analyze run` again adds what is newer than it."
    )
    return page.reading + (explained if lacking else "")


def _section(page: Page, section: Section) -> Iterator[str]:
    if shown := page.shown(section):
        yield from ("", section.title, *_wrapped(section.reading, indent="  "))
        for level, line in shown:
            text = f"{'  ' * level}{line.text}"
            yield _row(text, [cell(column, line) for column in page.columns])
    elif reasons := page.why_unmeasured(section):
        yield from ("", section.title)
        for reason in reasons:
            yield from _wrapped(f"{NOT_MEASURED}: {printable(reason)}", indent="  ")


def _row(text: str, cells: Sequence[str]) -> str:
    shown = "".join(f"{cell:>{COLUMN_WIDTH}}" for cell in cells)
    return f"  {text:<{LABEL_WIDTH}}{shown}".rstrip()


def _wrapped(text: str, *, indent: str = "") -> list[str]:
    return textwrap.wrap(text, PAGE_WIDTH, initial_indent=indent, subsequent_indent=indent)
