"""A saved model's two files, `config.json` and `model.safetensors`: written, read and checked.

Knows the configuration of a model and must not know the model: weights are tensors by name.
"""

import json
from collections.abc import Mapping

from torch import Tensor

from sparc.common.config import from_mapping, to_mapping
from sparc.common.errors import ConfigError, RunError
from sparc.common.files.folder import Folder
from sparc.common.parsing import parse_object
from sparc.common.text import size
from sparc.train.config import ModelConfig
from sparc.train.derive.history import HISTORY_FIELDS, History
from sparc.train.model.tensors import is_written_here, read_tensors, write_tensors

CONFIG_FILE = "config.json"
"""Holds a table `model` with the fields of `ModelConfig`, in a saved model and in a run alike."""
WEIGHTS_FILE = "model.safetensors"

_BYTES = 4
"""Of a parameter in memory and, mostly, in the file: they are float32."""
_FEWEST_BYTES = 2
"""Of a parameter in the file, where a model that is to be small was written in float16."""


def read_config(folder: Folder) -> ModelConfig:
    """The model's configuration, from the table `model` of a folder's `config.json`.

    Raises:
        RunError: The file is missing, damaged or describes something else.
    """
    where = f"{folder}/{CONFIG_FILE}"
    try:
        table = parse_object(folder.read(CONFIG_FILE))["model"]
        if not isinstance(table, dict):
            raise TypeError("model is not a table")
        return from_mapping(ModelConfig, table, source=f"{where}: model")
    except FileNotFoundError as error:
        raise RunError(f"{where} is not there") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{where} does not describe a SPARC model: {error!r}") from error
    except ConfigError as error:
        raise RunError(str(error)) from error


def write_config(folder: Folder, config: ModelConfig, history: History | None = None) -> None:
    """Write a saved model's `config.json`, which `read_config` and `read_history` read."""
    document = {"model": to_mapping(config), **to_mapping(history or History())}
    folder.write(CONFIG_FILE, (json.dumps(document, indent=2) + "\n").encode())


def read_history(folder: Folder) -> History:
    """What was done to a saved model after its training, from its `config.json`.

    Raises:
        RunError: It is not readable.
    """
    where = f"{folder}/{CONFIG_FILE}"
    try:
        return History.read(parse_object(folder.read(CONFIG_FILE)), source=where)
    except (OSError, ValueError) as error:
        raise RunError(f"{where} does not say how the model was changed: {error!r}") from error
    except ConfigError as error:
        raise RunError(str(error)) from error


def read_weights(
    folder: Folder, name: str, config: ModelConfig, like: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Read a model's weights from safetensors, in the type that they were written in.

    Args:
        folder: Where they lie.
        name: The file's name.
        config: The model that they belong to.
        like: Its weights by name, of which only the names and shapes are looked at.

    Raises:
        RunError: The file is missing or damaged, or its tensors are those of another model.
    """
    where = f"{folder}/{name}"
    largest = config.parameters * _BYTES
    weights = read_tensors(folder, name, largest=largest, about=to_mapping(config))
    if weights.keys() != like.keys():
        key = sorted(weights.keys() ^ like.keys())[0]
        problem = "has no" if key in like else "holds an unknown"
        raise RunError(f"{where} {problem} tensor {key}: it was made by another model")
    for key, tensor in like.items():
        if weights[key].shape != tensor.shape:
            shapes = f"{tuple(weights[key].shape)}, not {tuple(tensor.shape)}"
            raise RunError(f"{where}: tensor {key} has shape {shapes}")
    return weights


def write_weights(
    folder: Folder, name: str, config: ModelConfig, weights: Mapping[str, Tensor]
) -> None:
    """Write a model's weights as safetensors, whole or not at all; arguments as `read_weights`."""
    write_tensors(folder, name, weights, about=to_mapping(config))


def require_weights(folder: Folder, config: ModelConfig) -> None:
    """Refuse weights too short for the configuration, before memory is allocated for them.

    Raises:
        RunError: `model.safetensors` is missing, or shorter than such a model's weights.
    """
    where = f"{folder}/{WEIGHTS_FILE}"
    try:
        length = folder.size_of(WEIGHTS_FILE)
    except FileNotFoundError as error:
        raise RunError(f"{where} is not there") from error
    if config.parameters * _FEWEST_BYTES > length:
        raise RunError(
            f"{where} has {size(length)}: it is cut off, or {CONFIG_FILE} describes another model"
        )


def is_saved_model(folder: Folder) -> bool:
    """Whether a folder has the `config.json` of a saved model, which is no run's."""
    try:
        return parse_object(folder.read(CONFIG_FILE)).keys() - HISTORY_FIELDS == {"model"}
    except (FileNotFoundError, ValueError):
        return False


def refuse_other_files(folder: Folder) -> None:
    """Refuse to overwrite anything but a saved model: many programs have files of these names.

    Raises:
        RunError: The folder holds a `config.json` or weights of something else, or a run.
    """
    if not folder.exists(CONFIG_FILE):
        if folder.exists(WEIGHTS_FILE) and not is_written_here(folder, WEIGHTS_FILE):
            raise RunError(
                f"{folder} holds a {WEIGHTS_FILE} that SPARC did not write: save to another folder"
            )
        return
    if not is_saved_model(folder):
        raise RunError(
            f"{folder} holds a {CONFIG_FILE} that is not of a saved model: save to another folder"
        )
