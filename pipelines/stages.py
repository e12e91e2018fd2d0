"""Running the three commands one after another, each as a process of its own.

A stage is a command that a person could type, and it is printed as such. What a pipeline has
finished is written down beside its products, so that running it again passes over it; a stage that
was interrupted is run again, and the command itself goes on where it stopped. This module must not
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
        shows_result: Whether what it writes to standard output is for the reader of this pipeline.
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

    A stage is passed over if the same command has finished before, its product is still there and
    no stage before it had to run.

    Args:
        location: The pipeline's folder; it is made if need be.
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
            if finished:  # not so any more, however this one ends
                finished.clear()
                _record(folder, stages[: number - 1])
            say(f"{heading}\n    $ {stage.command}")
            _run(stage, heading)
            _record(folder, stages[:number])


def _record(folder: Folder, finished: Sequence[Stage]) -> None:
    """Write down which stages have finished."""
    commands = [stage.command for stage in finished]
    folder.write(RECORD_FILE, (json.dumps({"finished": commands}, indent=2) + "\n").encode())


def _recognize(folder: Folder) -> None:
    """Refuse a folder whose record is another program's; a damaged one is written again."""
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

    The process has a session of its own: an interruption reaches it once, from here, and it is
    given the time to leave its folder in order. A second interruption ends it at once.
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
            "run the same command again to go on from there"
        )


def _end_with_the_pipeline() -> None:
    """In the new process: be terminated if the pipeline is killed, where Linux can do that.

    Otherwise the stage would go on unseen, and hold its folder against the next attempt.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
