"""Running the three commands one after another, each as a process of its own.

A stage is a command that a person could type, and it is printed as such. A record of the finished
stages lies beside their products, so that a second run skips them; an interrupted stage is run
again, and the command itself continues where it stopped. This module must not
know what the commands do.
"""

import ctypes
import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from sparc.common.errors import SparcError
from sparc.common.files.folder import Folder
from sparc.common.files.lock import exclusive
from sparc.common.parsing import parse_object
from sparc.common.progress import say

RECORD_FILE = "pipeline.json"

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1

Program = Literal["extract", "train", "analyze"]


class Stage(NamedTuple):
    """A command to run.

    Attributes:
        title: What it does, in a few words.
        program: Which of the programs: `extract` stands for `sparc-extract`.
        arguments: Its arguments.
        product: The folder that it makes.
        shows_result: Whether its standard output is shown.
    """

    title: str
    program: Program
    arguments: tuple[str, ...]
    product: Path
    shows_result: bool = True

    @property
    def command(self) -> str:
        """The command as it is typed in a shell."""
        return shlex.join([f"sparc-{self.program}", *self.arguments])


def run_stages(location: Path, stages: Sequence[Stage]) -> None:
    """Run the stages that are not finished yet, in order.

    A stage is skipped if the same command has finished before, its product still exists, and no
    stage before it had to run.

    Args:
        location: The pipeline's folder, created if need be.
        stages: The whole pipeline.

    Raises:
        SparcError: A stage failed, or another process runs a pipeline here.
    """
    folder = Folder(location)
    with exclusive(folder, _recognize):
        finished = _finished(folder)
        for number, stage in enumerate(stages, 1):
            heading = f"[{number}/{len(stages)}] {stage.title}"
            if finished[:1] == [stage.command] and stage.product.exists():
                finished.pop(0)
                say(f"{heading}: done before")
                continue
            if finished:  # out of date, however this stage ends
                finished.clear()
                _record(folder, stages[: number - 1])
            say(f"{heading}\n    $ {stage.command}")
            _run(stage, heading)
            _record(folder, stages[:number])


def _record(folder: Folder, finished: Sequence[Stage]) -> None:
    """Record which stages have finished."""
    commands = [stage.command for stage in finished]
    folder.write(RECORD_FILE, (json.dumps({"finished": commands}, indent=2) + "\n").encode())


def _recognize(folder: Folder) -> None:
    """Refuse a folder whose record is another program's; a damaged record is replaced."""
    try:
        document = parse_object(folder.read(RECORD_FILE))
    except (FileNotFoundError, ValueError):
        return
    if document.keys() != {"finished"}:
        raise SparcError(f"{folder} holds a {RECORD_FILE} of something else: choose another folder")


def _finished(folder: Folder) -> list[str]:
    """The commands that have finished here, in order."""
    if not folder.exists(RECORD_FILE):
        return []
    try:
        return [str(command) for command in parse_object(folder.read(RECORD_FILE))["finished"]]
    except (ValueError, KeyError, TypeError):
        return []


def _run(stage: Stage, heading: str) -> None:
    """Run a stage to its end.

    The process has its own session, so that an interruption reaches it once, from here, and it has
    the time to leave its folder in order. A second interruption kills it.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", f"sparc.{stage.program}.cli", *stage.arguments],
        stdout=None if stage.shows_result else subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_end_with_the_pipeline,
    )
    try:
        status = process.wait()
    except KeyboardInterrupt:
        process.terminate()
        try:
            process.wait()
        finally:
            process.kill()
        raise
    if status:
        raise SparcError(
            f"stage {heading} failed with status {status}, see above; what is finished is kept: "
            "run the same command again to continue"
        )


def _end_with_the_pipeline() -> None:
    """In the new process: be terminated when the pipeline is killed, which only Linux can do.

    Otherwise the stage would continue in the background and keep its folder locked.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
