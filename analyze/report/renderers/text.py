"""A page of figures as plain text, for a terminal."""

import textwrap
from collections.abc import Iterator, Sequence

from sparc.analyze.report.page import NOT_MEASURED, Column, Line, Page, Section
from sparc.common.text import printable, shorten

LABEL_WIDTH = 56
COLUMN_WIDTH = 15
MARGIN_WIDTH = 7
PAGE_WIDTH = 96


def render(page: Page) -> str:
    """A page as text, at most `PAGE_WIDTH` wide; with more than two reports it is wider."""
    lines = [*_heading(page.columns), "", *_wrapped(page.explanation())]
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
        The figure, then a margin of `MARGIN_WIDTH`, blank without an interval; `NOT_MEASURED` has
        none.
    """
    shown = column.cell(line)
    if shown.text == NOT_MEASURED:
        return shown.text
    margin = shown.margin and f" {shown.margin}"
    return f"{shown.text}{margin:<{MARGIN_WIDTH}}"


def _heading(columns: Sequence[Column]) -> Iterator[str]:
    for column in columns:
        yield printable(column.place)
        for what, text in column.about:
            yield f"  {what:<7} {printable(text)}"
        yield from _wrapped(column.sizes, indent="  ")


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
