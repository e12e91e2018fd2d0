"""What progress writes where nobody looks at a terminal."""

import io

from sparc.common import progress
from sparc.common.cli.output import display


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


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
    assert "3/3" in lines


def test_in_a_file_messages_and_bars_are_lines_of_their_own(monkeypatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 1e-9)
    monkeypatch.setattr("sys.stderr", log := io.StringIO())
    with progress.progress(3, "tables") as bar:
        bar.update(1)
        progress.say("worker a was lost")
        bar.update(2)
    progress.say("done")
    before, lost, *after, done = log.getvalue().split("\n")[:-1]
    assert "1/3" in before
    assert all(line.startswith("tables:") for line in (before, *after))
    assert (lost, done) == ("worker a was lost", "done")
    assert "\r" not in log.getvalue()


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
