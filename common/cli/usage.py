"""What typer refuses, in one line with the way out, as all other errors."""

import functools
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from sparc.common.text import printable

_MEANT = re.compile(r"\.? \(?(?:Possible options|Did you mean(?: one of)?):? ([^?)]*)[?)].*$")
"""How versions of typer end a message about what is misspelt."""

_ADVISED = re.compile(r"did you mean|there are|is not one of")
"""What a message says that needs no further advice."""


@contextmanager
def one_line_usage() -> Iterator[None]:
    """Hold while typer reads what was typed: what it refuses is shown in one line."""
    try:
        yield
    except Exception as error:
        # Not of those that show something else, such as the help.
        if getattr(type(error), "show", None) is typer.BadParameter.show:
            error.show = functools.partial(_show, error)  # type: ignore[attr-defined]
        raise


def _show(error: Any, file: Any = None) -> None:
    line = _line(error.format_message(), error.ctx)
    (file or sys.stderr).write(f"error: {printable(line)}\n")


def _line(message: str, context: Any) -> str:
    message = " ".join(message.split()).rstrip(".")
    message = message[:1].lower() + message[1:]
    message = _MEANT.sub(r"; did you mean \1?", message).replace("Value error, ", "")
    if context is None or _ADVISED.search(message):
        return message
    command = context.command_path
    if message.startswith(("missing", "got unexpected")):
        places = context.command.collect_usage_pieces(context)
        typed = [piece.strip("{}") for piece in places if piece != "[OPTIONS]"]
        return f"{message}; type `{' '.join([command, *typed])}`, or `{command} -h` for its options"
    return f"{message}; `{command} -h` says more"
