"""Errors, interruptions and warnings in one line each."""

import atexit
import errno
import os
import select
import signal
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from sparc.common.errors import SparcError, Terminated
from sparc.common.text import printable, printable_lines

_format_warning = warnings.formatwarning


class one_line_errors:  # noqa: N801 - reads as a statement, like contextlib.suppress
    """Context manager: a `SparcError` becomes one line and exit status 2.

    An interruption becomes one line that says how to continue, with the customary status: 130 for
    Ctrl-C, 143 for SIGTERM. With `debug` every exception keeps its traceback.
    """

    def __init__(self, *, debug: bool) -> None:
        self.debug = debug
        self._interruption: KeyboardInterrupt | None = None

    def __enter__(self) -> None:
        warnings.formatwarning = _printable_warning
        # Pillow warns of damaged metadata, which say nothing about an image's pixels.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        signal.signal(signal.SIGTERM, self._interrupt)
        # A shell has background commands ignore Ctrl-C: that is left as it is.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._interrupt)

    def _interrupt(self, number: int, _frame: types.FrameType | None) -> NoReturn:
        self._interruption = Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
        raise self._interruption

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        # All is said: `torchrun` signals processes that are about to end.
        for number in (signal.SIGINT, signal.SIGTERM):
            atexit.register(signal.signal, number, signal.SIG_IGN)
        if self.debug or error is None:
            return
        # A library that is interrupted in its midst may make an error of its own out of that.
        interruption = error if isinstance(error, KeyboardInterrupt) else self._interruption
        if interruption is not None:
            status = 143 if isinstance(interruption, Terminated) else 130
            line = "interrupted; run the same command again to continue where it stopped"
            _leave(line, status=status)
        if isinstance(error, SparcError):
            _leave(f"error: {printable(str(error))}", status=2)
        if isinstance(error, MemoryError) or _is_memory(error):
            _leave("error: this machine has not enough memory for that", status=2)
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            return  # of `… | head`, say: typer ends without a word
        if isinstance(error, OSError) and error.errno is not None:
            where = f" ({error.filename})" if error.filename else ""
            advice = (
                "; make room and run the same command again to continue where it stopped"
                if error.errno in (errno.ENOSPC, errno.EDQUOT)
                else ""
            )
            _leave(f"error: {printable(f'{error.strerror}{where}')}{advice}", status=2)


@contextmanager
def standard_streams() -> Iterator[None]:
    """Hold while a program runs, which may have been started without any (`>&-`).

    What opens a file would otherwise open it as standard output, say. What cannot be written, such
    as a help to a full disk, is one line here, too, and nothing where the reader has gone away.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, open(number, "w" if number else "r"))  # noqa: SIM115 - as Python's
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        if error.errno is None or "--debug" in sys.argv:
            raise
        if error.errno != errno.EPIPE:
            with suppress(OSError):
                sys.stderr.write(f"error: {printable(error.strerror or str(error))}\n")
        # Python writes what is left when it ends, and would say that it cannot.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise SystemExit(1 if error.errno == errno.EPIPE else 2) from None


def _printable_warning(*arguments: Any, **options: Any) -> str:
    """A library's warning, which may quote an artefact, without what moves a cursor."""
    return printable_lines(_format_warning(*arguments, **options))


def _is_memory(error: BaseException) -> bool:
    """Whether PyTorch says, in words only, that it was given no memory."""
    return isinstance(error, RuntimeError) and (
        "not enough memory" in str(error) or "out of memory" in str(error)
    )


def _reader_is_gone() -> bool:
    """Whether it is standard output that nobody reads any more."""
    polled = select.poll()
    polled.register(sys.stdout, 0)  # errors and hang-ups are reported without being asked for
    return bool(polled.poll(0))


def _leave(line: str, *, status: int) -> NoReturn:
    sys.stderr.write(f"{line}\n")
    raise SystemExit(status)
