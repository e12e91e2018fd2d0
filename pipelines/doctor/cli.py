"""The command line `sparc-doctor`: what this machine has, and what is missing."""

from typing import Annotated

import typer

from sparc.common.cli.app import IN_ALL, VERSION, Program, command
from sparc.common.cli.output import display

app = Program(context_settings=IN_ALL, pretty_exceptions_enable=False, rich_markup_mode=None)


@command(app)
def doctor(version: Annotated[bool, VERSION] = False) -> None:  # noqa: ARG001 - it shows itself
    """Say what this machine and installation have for SPARC, and how to get what is missing.

    Exit status 1 if a package is missing or too old that commands need.
    """
    from sparc.pipelines.doctor.report import findings, lines

    found = findings()
    for line in lines(found):
        display(line)
    if any(finding.is_fault for finding in found):
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
