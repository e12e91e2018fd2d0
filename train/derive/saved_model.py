"""Folders of saved models, for commands that make one: recognized before, written whole."""

from sparc.common.files.folder import Folder
from sparc.train.derive.history import History
from sparc.train.model.files import CONFIG_FILE, WEIGHTS_FILE, refuse_other_files, write_config
from sparc.train.model.network import Sparc
from sparc.train.run.run_folder import refuse_other_content


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
