"""The command `sparc-train save`: from a run or model to a saved model of all or some streams."""

import dataclasses
import os

from sparc.common.files.artefacts import refuse_inside_artefact
from sparc.common.files.folder import Folder
from sparc.common.files.lock import exclusive
from sparc.common.progress import say
from sparc.common.versions import software_versions
from sparc.train.derive.derive import Location
from sparc.train.derive.history import History
from sparc.train.derive.saved_model import (
    recognize_saved_model,
    refuse_other_model,
    write_saved_model,
)
from sparc.train.derive.source import open_source
from sparc.train.loading import load
from sparc.train.model.files import CONFIG_FILE, read_history
from sparc.train.model.network import Sparc
from sparc.train.model.streams import take_streams
from sparc.train.save.config import SaveConfig
from sparc.train.save.record import SaveRecord


def save_run(run: Location, out: Location, config: SaveConfig | None = None) -> Sparc:
    """Save the model of a run, or some of its streams, in a folder of its own.

    Independent codes of the saved streams stay as they are, bit for bit. Joint ones change where
    streams are left out. The same call after an interruption finishes what it began.

    Args:
        run: A finished run's folder, a saved model's folder or URL, or a hub repository.
        out: The folder of the saved model; it must not hold anything.
        config: Which streams, and their names.

    Returns:
        The saved model, on the CPU, in evaluation mode and frozen.

    Raises:
        RunError: There is no such model, or `out` holds something else.
        SparcError: The model has no such stream, or two would have one name.
    """
    config = config or SaveConfig()
    source, target = open_source(os.fspath(run)), Folder(out)
    refuse_inside_artefact(target)
    model = take_streams(source.model, config.streams, config.new_names)
    record = SaveRecord(
        source=source.location,
        source_sha256=source.digest(),
        streams=tuple(
            dataclasses.replace(stream, name=config.new_names.get(stream.name, stream.name))
            for stream in source.streams()
            if stream.name in (config.streams or source.model.config.names)
        ),
        settings=config,
        versions=software_versions(),
    )
    with exclusive(target, recognize_saved_model):
        if target.exists(CONFIG_FILE):
            refuse_other_model(
                target, read_history(target).saved, record, ("source_sha256", "streams", "settings")
            )
            say(f"{target} is finished: {source.location}, saved")
        else:
            write_saved_model(target, model, History(saved=(record,)))
            say(f"{target}: {', '.join(model.config.names)} of {source.location} saved")
    return load(target.location)
