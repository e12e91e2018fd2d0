"""Commands that read what somebody has tampered with, in bounded time and memory."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

SECONDS = 60
"""After which a command counts as hanging: they take one or two, on a machine that is not busy."""

MEMORY = 3 << 30
"""Bytes that a command may take, of which importing everything has taken one or two."""

ADDRESSES = 40 << 30
"""Bytes of address space that it may ask for: so that no test takes the machine down."""


class Done(NamedTuple):
    """A command that has ended."""

    command: tuple[str, ...]
    status: int
    shown: str
    said: str
    memory: int


Run = Callable[..., Done]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs a command, such as `("train", "inspect", folder)`, in bounded time and memory."""
    folder = tmp_path_factory.mktemp("server")
    server = subprocess.Popen(
        [sys.executable, Path(__file__).parents[1] / "faults/fork_server.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )
    assert server.stdin is not None
    assert server.stdout is not None

    def carry_out(*words: object) -> Done:
        command = tuple(map(str, words))
        order = {
            "command": command,
            "environment": {},
            "directory": str(folder),
            "stdout": str(folder / "stdout"),
            "stderr": str(folder / "stderr"),
            "seconds": SECONDS,
            "memory": ADDRESSES,
        }
        server.stdin.write(json.dumps(order) + "\n")
        server.stdin.flush()
        status, memory = map(int, server.stdout.readline().split())
        shown, said = (
            (folder / name).read_text(encoding="utf-8", errors="backslashreplace")
            for name in ("stdout", "stderr")
        )
        return Done(command, status, shown, said, memory << 10)

    yield carry_out
    server.communicate("")


@pytest.fixture(scope="session")
def must_be_harmless() -> Callable[[Done], None]:
    """Hold a command to have ended in good order, whatever it was given."""

    def check(done: Done) -> None:
        where = f"{' '.join(done.command)}\n{done.said[-3000:]}"
        assert done.status in (0, 2), f"status {done.status}: {where}"
        assert done.memory < MEMORY, f"{done.memory:,} bytes: {where}"
        assert "Traceback" not in done.said, where
        # A progress bar that is no terminal's begins its lines with a carriage return.
        raw = re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", done.shown + done.said.replace("\r", ""))
        assert raw is None, f"{raw!r}: {where}"

    return check
