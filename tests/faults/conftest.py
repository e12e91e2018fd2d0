"""Faults for commands: killed at their Nth operation on a folder's files, or failing there.

`commands` runs the real commands as processes, disturbed or not; `contents` is what two folders
are compared by. What counts as an operation, and the kinds of faults, say `file_faults.c`.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import pytest

HERE = Path(__file__).parent
SECONDS = 120
"""After which a command counts as hanging."""


class Fault(NamedTuple):
    """What goes wrong.

    Attributes:
        kind: See `file_faults.c`.
        at: The operation at which it strikes, counted from 1.
    """

    kind: Literal["kill", "EIO", "ENOSPC", "EROFS"]
    at: int


class Done(NamedTuple):
    """A command that has ended.

    Attributes:
        status: Its exit status; below zero, the signal that killed it.
        said: What it wrote to standard error.
        shown: What it wrote to standard output.
        operations: How many operations it did on the files of the watched folder.
    """

    status: int
    said: str
    shown: str
    operations: int


class Commands:
    """Runs commands, disturbed or not.

    Args:
        library: `file_faults.c`, compiled.
        folder: For files of its own.
    """

    def __init__(self, library: Path, folder: Path) -> None:
        self._folder = folder
        self._server = subprocess.Popen(
            [sys.executable, HERE / "fork_server.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"},
        )

    def run(self, *command: object, watch: Path, fault: Fault | None = None) -> Done:
        """Run a command, such as `("train", "resume", folder)`.

        Args:
            command: The stage and its arguments.
            watch: The folder whose files are concerned.
            fault: What goes wrong; None: nothing.
        """
        counter = self._folder / "counter"
        counter.write_bytes(bytes(8))
        environment = {
            "FAULT_FOLDER": os.path.realpath(watch),
            "FAULT_COUNTER": str(counter),
            "FAULT_KIND": fault.kind if fault else "",
            "FAULT_AT": str(fault.at if fault else 0),
        }
        order = {
            "command": [str(word) for word in command],
            "environment": environment,
            "directory": str(self._folder),
            "stdout": str(self._folder / "stdout"),
            "stderr": str(self._folder / "stderr"),
            "seconds": SECONDS,
        }
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        status = int(self._server.stdout.readline().split()[0])
        return Done(
            status,
            (self._folder / "stderr").read_text(),
            (self._folder / "stdout").read_text(),
            int.from_bytes(counter.read_bytes(), sys.byteorder),
        )

    def close(self) -> None:
        """End the server."""
        self._server.communicate("")


@pytest.fixture(scope="session")
def commands() -> Iterator[Commands]:
    """Runs the commands."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler and Linux")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "file_faults.so"
        flags = ["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror"]
        source = HERE / "file_faults.c"
        subprocess.run([compiler, *flags, "-o", library, source, "-ldl"], check=True)
        running = Commands(library, Path(folder))
        yield running
        running.close()


@pytest.fixture(scope="session")
def make_fault() -> type[Fault]:
    return Fault


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """What lies in a folder: bytes by name, but for locks and wall-clock figures."""

    def read(folder: Path) -> dict[str, bytes]:
        files = (path for path in folder.rglob("*") if path.is_file())
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in files
            if path.name not in (".lock", "timings.jsonl")
        }

    return read
