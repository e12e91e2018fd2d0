import shlex
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import dataclasses, errno, os, signal, time
from typing import Annotated, Literal
import typer
from sparc.common.cli.app import command, new_app
from sparc.common.config import option
from sparc.common.defaults import set_defaults
from sparc.common.errors import SparcError
from sparc.common.progress import progress, say

# As in a terminal: the tests may run in the background, where a shell has Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    count: int = option(3, "How many.")
    kind: Literal["red", "green"] = option("red", "Which kind.")
    fast: bool = option(True, "Fast or not.", former="quick")
    names: tuple[str, ...] = option((), "Names.", flag="--name", former="labels")
    size: float = option(0.5, "How large.", default_by="kind")

    def __post_init__(self):
        set_defaults(self, {"size": 2.0} if self.kind == "red" else {})

app = new_app("A program.")

@command(app, Settings, "extract")
def show(what: Annotated[str, typer.Argument()], config: Settings) -> None:
    print(what, config.count, config.kind, config.fast, config.names)

@command(app)
def fail(how: Annotated[str, typer.Argument()]) -> None:
    if how == "sparc":
        raise SparcError("row 3 of \\x1b[31m is wrong")
    if how == "system":
        open("/no/such/file")
    if how == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if how == "term":
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    if how == "int":
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    if how == "inside a library":
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except BaseException as error:
            raise SparcError("initialization failed") from error
    raise RuntimeError("a bug")

@command(app, prepare=[lambda: print("prepared")])
def prepared() -> None:
    print("runs")

@command(app)
def many() -> None:
    for number in range(100_000):
        typer.echo(number)

@command(app)
def files() -> None:
    if os.open(os.devnull, os.O_RDONLY) < 3:
        raise SystemExit(9)
    typer.echo("x")

@command(app)
def bar() -> None:
    with progress(10, "counting", initial=4) as rows:
        rows.update(6)
        say("a line")

app()
"""


@pytest.fixture
def program(tmp_path: Path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(path), *arguments], capture_output=True, text=True, timeout=60
        )

    run.path = path  # type: ignore[attr-defined]
    return run


def test_options_are_the_fields_and_win_over_the_file(program, tmp_path) -> None:
    toml = tmp_path / "x.toml"
    toml.write_text('[extract]\ncount = 7\nfast = false\nnames = ["a"]\n')
    assert program("show", "x").stdout == "x 3 red True ()\n"
    assert program("show", "x", "--config", str(toml)).stdout == "x 7 red False ('a',)\n"
    typed = program(
        "show", "x", "--config", str(toml), "--count", "3", "--fast", "--name", "b", "--name", "c"
    )
    assert typed.stdout == "x 3 red True ('b', 'c')\n"


def test_a_process_is_prepared_for_a_command_that_runs_and_not_for_its_help(program) -> None:
    assert program("prepared").stdout == "prepared\nruns\n"
    assert "prepared\n" not in program("prepared", "--help").stdout


def test_a_former_name_works_and_no_help_shows_it(program) -> None:
    typed = program("show", "x", "--labels", "a", "--labels", "b", "--no-quick")
    assert typed.stdout == "x 3 red False ('a', 'b')\n"
    shown = program("show", "--help").stdout
    assert "--name" in shown
    assert "quick" not in shown
    assert "labels" not in shown
    twice = program("show", "x", "--labels", "a", "--name", "b")
    assert twice.returncode == 2
    assert twice.stderr == "error: names is given twice, once by its former name labels\n"


def test_help_shows_defaults(program) -> None:
    text = " ".join(program("show", "--help").stdout.split())
    assert "How many. [default: 3]" in text
    assert "How large. [default: 2.0 with kind red, else 0.5]" in text
    assert "--no-fast" in text


def test_a_place_that_is_an_empty_text_is_refused(program) -> None:
    assert program("show", "").stderr == "error: WHAT is empty: name a folder or URL\n"


def test_a_wrong_choice_is_refused(program) -> None:
    result = program("show", "x", "--kind", "blue")
    assert result.returncode == 2
    assert "green" in result.stderr


@pytest.mark.parametrize(
    ("how", "status", "line"),
    [
        ("sparc", 2, "error: row 3 of \\x1b[31m is wrong"),
        ("system", 2, "error: No such file or directory (/no/such/file)"),
        (
            "full",
            2,
            "error: No space left on device; make room and run the same command again to continue "
            "where it stopped",
        ),
        ("term", 143, "interrupted; run the same command again to continue where it stopped"),
        ("int", 130, "interrupted; run the same command again to continue where it stopped"),
        (
            "inside a library",
            143,
            "interrupted; run the same command again to continue where it stopped",
        ),
    ],
)
def test_errors_are_one_line(program, how, status, line) -> None:
    result = program("fail", how)
    assert (result.returncode, result.stderr.strip()) == (status, line)
    debug = program("fail", how, "--debug")
    assert debug.returncode != 0
    if how not in ("term", "int"):
        assert "Traceback" in debug.stderr


def test_a_bug_keeps_its_traceback(program) -> None:
    result = program("fail", "bug")
    assert result.returncode == 1
    assert "RuntimeError: a bug" in result.stderr


def test_a_reader_that_has_gone_away_is_no_error(program) -> None:
    """As in `sparc-extract inspect CACHE | head`."""
    with subprocess.Popen(
        [sys.executable, str(program.path), "many"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_a_program_runs_without_standard_streams_and_says_what_it_cannot_write(program) -> None:
    """What opens a file must not get the number of standard output, to which others write."""
    command = shlex.join([sys.executable, str(program.path)])
    script = f"{command} files >&- 2>&-; echo $?; {command} -h >&-; echo $?"
    script += f"; {command} -h >/dev/full; echo $?" if Path("/dev/full").exists() else "; echo 2"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["0", "0", "2"]
    assert done.stderr in ("error: No space left on device\n", "")


def test_progress_goes_to_standard_error(program) -> None:
    result = program("bar")
    assert result.stdout == ""
    assert result.stderr == "a line\n"  # the bar of a short job is for a terminal


def test_a_signal_to_a_process_that_is_ending_shows_no_traceback():
    """`torchrun` sends SIGTERM to the others when one of its processes has died."""
    code = """
import atexit, os, signal
from sparc.common.cli.one_line import one_line_errors
from sparc.common.errors import SparcError
atexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM))
with one_line_errors(debug=False):
    raise SparcError("the other one is gone")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (2, "error: the other one is gone\n")
