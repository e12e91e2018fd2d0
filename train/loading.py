"""Models that were trained or saved, from wherever they lie: a run, a saved model or the hub.

Also the untrained model of a run: its weights before the first step.
"""

import os
from collections.abc import Mapping

from torch import Tensor

from sparc.common.errors import RunError
from sparc.common.files.artefacts import instead
from sparc.common.files.folder import Folder
from sparc.common.files.shipped import located
from sparc.train.model.files import CONFIG_FILE, WEIGHTS_FILE, read_config, require_weights
from sparc.train.model.hub import download, is_repository_id
from sparc.train.model.initialize import initial_model
from sparc.train.model.network import Sparc
from sparc.train.run.run_folder import (
    INITIAL_FILE,
    SWEEP_FILE,
    RunRecord,
    is_run,
    load_initial,
    require_finished,
)


def load(location: str | os.PathLike[str]) -> Sparc:
    """Load a trained model, on the CPU and ready for use.

    It is in evaluation mode and its weights are frozen, so that codes are plain numbers and need no
    `torch.no_grad()`; `model.requires_grad_()` thaws them.

    Args:
        location: The folder of a run or of a saved model (a path or fsspec URL), or the id
            `owner/name` of a repository on the Hugging Face Hub; or `demo`, a small model of three
            streams that ships with the package.

    Raises:
        RunError: Nothing is there, or what is there is no SPARC model, is damaged, or is a run that
            has not finished.
    """
    location = located(location, "run")
    folder = Folder(location)
    if not folder.exists(CONFIG_FILE):
        if folder.exists(SWEEP_FILE):
            raise RunError(f"{location} is a sweep: give one of the runs in it")
        if folder.exists() or not is_repository_id(location):
            raise RunError(f"{location} holds no SPARC model: {instead('run', folder)}")
        folder = download(location, (CONFIG_FILE, WEIGHTS_FILE))
    elif is_run(folder):
        require_finished(folder)
    config = read_config(folder)
    require_weights(folder, config)
    model = Sparc(config)
    model.read_weights(folder, WEIGHTS_FILE)
    return model.eval().requires_grad_(False)


def load_model(run: str | os.PathLike[str]) -> Sparc:
    """The trained model of a run, on the CPU, in evaluation mode and frozen.

    Raises:
        RunError: There is no such run, it is damaged, or it has not finished.
    """
    require_finished(Folder(run))
    return load(run)


def load_untrained(run: str | os.PathLike[str]) -> Sparc:
    """The model of a run before its first step, in evaluation mode and frozen as by `load`.

    The weights follow from configuration and seed; only the pre-biases, which come from the data,
    are stored, and weights that are another model's.

    Raises:
        RunError: There is no such run, or it is damaged.
    """
    folder = Folder(run)
    record = RunRecord.read(folder)
    return untrained_model(record, load_initial(folder)).eval().requires_grad_(False)


def untrained_model(record: RunRecord, initial: Mapping[str, Tensor] | None) -> Sparc:
    """The model of step 0.

    Args:
        record: The run.
        initial: Its initial pre-biases by stream, (dim,), zero where there are none; and weights
            that are another model's, by their names in `Sparc.state_dict`.

    Raises:
        RunError: They are those of another model.
    """
    initial = initial or {}
    means = {name: x for name, x in initial.items() if name in record.model.names}
    model = initial_model(record.model, seed=record.train.seed, means=means)
    weights = {name: x for name, x in initial.items() if name not in means}
    state = model.state_dict()
    for name, tensor in weights.items():
        if name not in state or state[name].shape != tensor.shape:
            raise RunError(f"{INITIAL_FILE} holds a {name} that is no weight of the run's model")
        state[name].copy_(tensor)
    return model
