"""Progress: one bar for every stage, lines of a log where nobody looks at a terminal."""

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from tqdm import tqdm
from tqdm.utils import disp_trim

from sparc.common.text import printable, printable_lines

SECONDS_BETWEEN_LINES = 10.0
"""How often a line is written where standard error is no terminal; what takes less time than this
writes none."""

_GOING = (
    "{desc}: {percentage:.0f}%, {n_fmt} of {total_fmt}{unit}, {rate_noinv_fmt}, {remaining} left"
)
_ENDED = "{desc}: {n_fmt} of {total_fmt}{unit}, {rate_noinv_fmt}, {elapsed} in all"
_NARROW = "{desc}: {percentage:.0f}% {remaining}"

_LEAST_WIDTH = 80
"""Columns of a terminal in which a bar has room beside its figures."""


def on_terminal() -> bool:
    """Whether somebody looks at standard error while it is written, so that lines may change.

    Not so in a file, a pipe or a notebook, in a terminal that cannot go back in a line, as of an
    editor (`TERM=dumb`), and in continuous integration, which keeps all that was written (`CI`).
    """
    is_log = os.environ.get("TERM") == "dumb" or os.environ.get("CI", "") not in ("", "0", "false")
    return sys.stderr.isatty() and not is_log


class _Bar(tqdm):  # type: ignore[misc]
    """A bar whose figures are written when the bar is, and not with every change, in a log."""

    _is_closing = False

    def close(self) -> None:
        self._is_closing = True
        super().close()

    def display(self, msg: str | None = None, pos: int | None = None) -> Any:
        # In a log, the last state is written once: when the bar is closed.
        if self._is_closing or self.fp.isatty() or self.n < (self.total or 0):
            return super().display(msg, pos)
        return None

    def set_postfix_str(self, s: str = "", refresh: bool = True) -> None:
        super().set_postfix_str(s, refresh=refresh and not self.disable and self.fp.isatty())

    def __str__(self) -> str:
        # Before 4.69 tqdm cuts a line only where it draws a bar.
        line: str = super().__str__()
        return disp_trim(line, self.ncols) if self.fp.isatty() and self.ncols else line

    @property
    def format_dict(self) -> Any:
        figures = super().format_dict
        if not self.fp.isatty():
            is_ended = self.n >= (self.total or 0)
            figures["bar_format"] = (_ENDED if is_ended else _GOING) + "{postfix}"
        elif (figures["ncols"] or _LEAST_WIDTH) < _LEAST_WIDTH:
            figures["bar_format"] = _NARROW + "{postfix}"
        return figures


class _Log:
    """A file, pipe or notebook in which each state of a bar is a line, not what covers the last."""

    def write(self, text: str) -> None:
        # A bar within another one goes down a line and up again.
        if shown := text.replace("\x1b[A", "").strip("\r\n "):
            sys.stderr.write(f"{shown}\n")

    def flush(self) -> None:
        sys.stderr.flush()

    def isatty(self) -> bool:
        return False


@contextmanager
def progress(
    total: int, description: str, *, unit: str = "rows", initial: int = 0, quiet: bool = False
) -> Iterator[Any]:
    """A progress bar with rate and time left, on standard error; in a log, a line now and then.

    Args:
        total: How many units the whole job has.
        description: What is being done, a word or two.
        unit: What is counted.
        initial: Units that an earlier, interrupted command had already done.
        quiet: Show nothing, as in all but the first of several processes.

    Yields:
        The `tqdm` bar: call `.update(n)`, and `.set_postfix_str(text)` for figures beside it.
    """
    is_bar = on_terminal()
    with _Bar(
        total=total,
        initial=initial,
        desc=printable(description),
        unit=f" {unit}",
        unit_scale=total >= 100_000,
        dynamic_ncols=is_bar,
        mininterval=0.2 if is_bar else SECONDS_BETWEEN_LINES,
        delay=0 if is_bar else SECONDS_BETWEEN_LINES,
        file=sys.stderr if is_bar else _Log(),
        disable=quiet,
    ) as bar:
        yield bar


def say(line: str) -> None:
    """Write a line for the person at the terminal, without breaking a progress bar."""
    with no_bar():
        sys.stderr.write(f"{printable_lines(line)}\n")


def no_bar() -> AbstractContextManager[None]:
    """Context in which no progress bar takes the terminal's last line, so that it can be used."""
    if not on_terminal():  # bars are lines of their own there, and seldom
        return nullcontext()
    context: AbstractContextManager[None] = tqdm.external_write_mode(file=sys.stderr)
    return context
