"""Removing a run whose place another one is to take."""

from sparc.common.errors import RunError
from sparc.common.files.artefacts import remove_content
from sparc.common.files.folder import Folder
from sparc.common.files.lock import exclusive
from sparc.train.model.files import CONFIG_FILE, WEIGHTS_FILE
from sparc.train.model.tensors import is_written_here
from sparc.train.run.run_folder import (
    CHECKPOINTS,
    INITIAL_FILE,
    METRICS_FILE,
    SERVICE_FOLDERS,
    TIMINGS_FILE,
    RunRecord,
    refuse_other_content,
)

_CONTENT = (
    WEIGHTS_FILE,
    CHECKPOINTS,
    METRICS_FILE,
    TIMINGS_FILE,
    *SERVICE_FOLDERS,
    INITIAL_FILE,
    CONFIG_FILE,
)
"""The record goes last: a removal that was interrupted leaves what is still a run."""


def recognize_run(folder: Folder) -> None:
    """Refuse a folder that is neither a run, of any settings, nor the start of one.

    Raises:
        RunError: It holds something else.
    """
    if folder.exists(CONFIG_FILE):
        RunRecord.read(folder)
    else:
        refuse_other_content(folder, "run", (CONFIG_FILE, INITIAL_FILE))
        if folder.exists(INITIAL_FILE) and not is_written_here(folder, INITIAL_FILE):
            raise RunError(
                f"{folder} holds an {INITIAL_FILE} that SPARC did not write: choose another"
            )


def remove_run(folder: Folder) -> None:
    """Remove the run that a folder holds, finished or not; nothing happens where there is none.

    Raises:
        RunError: The folder holds something else, or something else besides; then all stays.
        LockedError: Another process writes to it.
    """
    if folder.exists():
        with exclusive(folder, recognize_run):
            remove_content(folder, "run", _CONTENT, RunError)
