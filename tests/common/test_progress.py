"""What progress writes on terminals, and where nobody looks at one."""

import fcntl
import io
import os
import pty
import struct
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from sparc.common import progress
from sparc.common.cli.output import display


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def no_continuous_integration(monkeypatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")


@contextmanager
def narrow_terminal() -> Iterator[Callable[[], str]]:
    """Let a pseudo-terminal of 50 columns be standard output and standard error.

    Yields:
        What was written to it since the last call.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 50, 0, 0))
    with open(slave, "w") as terminal, pytest.MonkeyPatch.context() as patch:
        patch.delenv("COLUMNS", raising=False)
        for name in ("stdout", "__stdout__", "stderr"):
            patch.setattr(f"sys.{name}", terminal)

        def seen() -> str:
            terminal.write("\0")  # it may arrive in parts
            terminal.flush()
            shown = b""
            while not shown.endswith(b"\0"):
                shown += os.read(master, 1 << 16)
            return shown[:-1].decode().replace("\r\n", "\n")

        yield seen
    os.close(master)


def written(monkeypatch, stream: io.StringIO) -> str:
    monkeypatch.setattr("sys.stderr", stream)
    with progress.progress(3, "tables") as bar:
        for figure in range(3):
            bar.set_postfix_str(f"step {figure}")
            bar.update(1)
    return stream.getvalue()


def test_a_short_job_writes_a_bar_to_a_terminal_and_nothing_to_a_file(monkeypatch) -> None:
    assert "step 2" in written(monkeypatch, Terminal())
    assert written(monkeypatch, io.StringIO()) == ""


def test_a_long_job_writes_a_line_from_time_to_time(monkeypatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 1e-9)
    lines = written(monkeypatch, io.StringIO())
    assert "3 of 3 rows" in lines
    assert lines.count("in all") == 1  # the last line says how long it took


def test_in_a_file_messages_and_bars_are_lines_of_their_own(monkeypatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 1e-9)
    monkeypatch.setattr("sys.stderr", log := io.StringIO())
    with progress.progress(3, "tables") as bar:
        bar.update(1)
        progress.say("worker a was lost")
        bar.update(2)
        with progress.progress(2, "within") as inner:
            inner.update(2)
    progress.say("done")
    before, lost, *after, done = log.getvalue().split("\n")[:-1]
    assert before.startswith("tables: 33%, 1 of 3 rows, ")
    assert before.endswith(" left")
    assert all(line.startswith(("tables:", "within:")) for line in (before, *after))
    assert (lost, done) == ("worker a was lost", "done")
    assert not {"\r", "\x1b"} & {*log.getvalue()}


def test_lines_of_a_command_stand_alone_beside_a_bar(monkeypatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("sys.stdout", terminal)
    with progress.progress(3, "reading") as bar:
        bar.update(1)
        display("rows 40")
    before, _, _ = terminal.getvalue().partition("rows 40\n")
    *_, bar_shown, blanks, rest = before.split("\r")
    assert "reading" in bar_shown
    assert blanks.strip() == rest == ""


@pytest.mark.parametrize(("name", "value"), [("CI", "1"), ("TERM", "dumb")])
def test_a_terminal_that_nobody_looks_at_gets_lines(monkeypatch, name, value) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 1e-9)
    assert "\r" not in (lines := written(monkeypatch, Terminal()))
    assert "3 of 3 rows" in lines


def test_a_bar_in_a_narrow_terminal_does_not_wrap() -> None:
    with narrow_terminal() as seen:
        with progress.progress(300_000, "bringing rows into order") as bar:
            bar.set_postfix_str("loss 0.1234, NMSE 0.1234, dead 12")
            bar.update(300_000)
        states = seen().replace("\n", "\r").split("\r")
    assert max(map(len, states)) <= 50
    assert any(
        state.startswith("bringing rows into order: 100% 00:00, loss 0.1") for state in states
    )


def test_in_a_narrow_terminal_rows_of_a_table_stay_rows() -> None:
    with narrow_terminal() as seen:
        display("  latent  overlap  mispaired  names")
        display("      42     0.73       0.02  watermelon, melon, pear")
        display(" " * 60 + "sparc  baseline")
        display("an address/" + "x" * 60)
        assert seen() == (
            "  latent  overlap  mispaired  names\n"
            "      42     0.73       0.02\n"
            "          watermelon, melon, pear\n"
            "            sparc  baseline\n"
            f"an\n    address/{'x' * 60}\n"
        )
