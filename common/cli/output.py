"""What commands say, and what they ask."""

import sys
from shutil import get_terminal_size

import typer

from sparc.common.progress import no_bar
from sparc.common.text import folded, printable, printable_lines


def display(text: str) -> None:
    """Write what a command was asked for to standard output, a line break where it has one.

    Whatever else moves a cursor or colours a terminal is escaped: the text may quote what anybody
    wrote into an artefact or a dataset. On a terminal, lines longer than that is wide go on below.
    """
    shown = printable_lines(text)
    with no_bar():
        typer.echo(folded(shown, get_terminal_size().columns) if sys.stdout.isatty() else shown)


def confirm(question: str) -> None:
    """Ask before something is removed, where somebody can answer: on a terminal.

    Raises:
        typer.Abort: The answer is no.
    """
    if sys.stdin.isatty() and sys.stderr.isatty():
        typer.confirm(printable(question), abort=True, err=True)
