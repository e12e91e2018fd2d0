"""Folders of saved models, for commands that make one: recognized before, written whole."""

from collections.abc import Sequence
from typing import TypeVar

from sparc.common.errors import RunError
from sparc.common.files.folder import Folder
from sparc.train.derive.history import History
from sparc.train.model.files import CONFIG_FILE, WEIGHTS_FILE, refuse_other_files, write_config
from sparc.train.model.network import Sparc
from sparc.train.run.run_folder import refuse_other_content

Record = TypeVar("Record")


def recognize_saved_model(folder: Folder) -> None:
    """Refuse a folder with anything but a saved model, or what an interruption left of one.

    Raises:
        RunError: It holds something else.
    """
    if not folder.exists(CONFIG_FILE):
        refuse_other_content(folder, "saved model", (WEIGHTS_FILE, CONFIG_FILE))
    refuse_other_files(folder)


def write_saved_model(folder: Folder, model: Sparc, history: History) -> None:
    """Write a saved model; its `config.json` comes last and makes it one."""
    model.write_weights(folder, WEIGHTS_FILE)
    write_config(folder, model.config, history)


def refuse_other_model(
    folder: Folder, existing: Sequence[Record], wanted: Record, names: Sequence[str]
) -> None:
    """Refuse a saved model that was made from something else.

    Args:
        folder: The saved model.
        existing: Its records of how it was made, the last one last.
        wanted: What its last record should be.
        names: The fields in which they must agree.

    Raises:
        RunError: It has no such record, or another one.
    """
    if not existing or any(getattr(existing[-1], n) != getattr(wanted, n) for n in names):
        raise RunError(f"{folder} holds another model, which stays: choose another folder")
