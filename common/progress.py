"""Progress on the terminal: one bar for every stage, quiet lines without a terminal."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from tqdm import tqdm

from sparc.common.text import printable, printable_lines

SECONDS_BETWEEN_LINES = 10.0
"""How often a bar is written where standard error is a file, a pipe or a notebook; what takes less
time than this writes none."""


class _Bar(tqdm):  # type: ignore[misc]
    """A bar whose figures are written when the bar is, and not with every change, in a file."""

    def set_postfix_str(self, s: str = "", refresh: bool = True) -> None:
        super().set_postfix_str(s, refresh=refresh and not self.disable and self.fp.isatty())


class _Lines:
    """A file, pipe or notebook in which each state of a bar is a line, not what covers the last."""

    def write(self, text: str) -> None:
        if shown := text.strip("\r\n "):
            sys.stderr.write(f"{shown}\n")

    def flush(self) -> None:
        sys.stderr.flush()

    def isatty(self) -> bool:
        return False


@contextmanager
def progress(
    total: int, description: str, *, unit: str = "rows", initial: int = 0, quiet: bool = False
) -> Iterator[Any]:
    """A progress bar with rate and time left, on standard error.

    Args:
        total: How many units the whole job has.
        description: What is being done, a word or two.
        unit: What is counted.
        initial: Units that an earlier, interrupted command had already done.
        quiet: Show nothing, as in all but the first of several processes.

    Yields:
        The `tqdm` bar: call `.update(n)`, and `.set_postfix_str(text)` for figures beside it.
    """
    on_terminal = sys.stderr.isatty()
    with _Bar(
        total=total,
        initial=initial,
        desc=printable(description),
        unit=f" {unit}",
        unit_scale=total >= 100_000,
        dynamic_ncols=on_terminal,
        ncols=None if on_terminal else 100,
        ascii=None if on_terminal else True,
        mininterval=0.2 if on_terminal else SECONDS_BETWEEN_LINES,
        delay=0 if on_terminal else SECONDS_BETWEEN_LINES,
        file=sys.stderr if on_terminal else _Lines(),
        disable=quiet,
    ) as bar:
        yield bar


def say(line: str) -> None:
    """Write a line for the person at the terminal, without breaking a progress bar."""
    with no_bar():
        sys.stderr.write(f"{printable_lines(line)}\n")


def no_bar() -> AbstractContextManager[None]:
    """Context in which no progress bar takes the terminal's last line, so that it can be used."""
    if not sys.stderr.isatty():  # bars are lines of their own there, and seldom
        return nullcontext()
    context: AbstractContextManager[None] = tqdm.external_write_mode(file=sys.stderr)
    return context
