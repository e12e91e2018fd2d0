"""What commands say, and what they ask."""

import sys

import typer

from sparc.common.progress import no_bar
from sparc.common.text import printable, printable_lines


def display(text: str) -> None:
    """Write what a command was asked for to standard output, a line break where it has one.

    Whatever else moves a cursor or colours a terminal is escaped: the text may quote what anybody
    wrote into an artefact or a dataset.
    """
    with no_bar():
        typer.echo(printable_lines(text))


def confirm(question: str) -> None:
    """Ask before something is removed, where somebody can answer: on a terminal.

    Raises:
        typer.Abort: The answer is no.
    """
    if sys.stdin.isatty() and sys.stderr.isatty():
        typer.confirm(printable(question), abort=True, err=True)
