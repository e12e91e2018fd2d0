"""Checkpoints: everything a run needs to continue as if it had never stopped.

A checkpoint is a folder `checkpoints/step-000001000` in the run's:

    config.json, model.safetensors   the model, which `sparc.train.load` reads
    learner.safetensors              the optimizer's moments, the latents' idle rows
    window.safetensors               sums over the steps since the last line of metrics.jsonl, of
                                     all processes and of each
    state.json                       step, position of the reader, SHA-256 of the files above, of
                                     metrics.jsonl so far and of itself

It is there whole or not at all: on a local disk it is written aside, synced and renamed; behind a
URL it counts once it has `state.json`, which is written last. This module must not know how a step
is made.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from sparc.common.documents import seal, unseal
from sparc.common.errors import RunError
from sparc.common.files.folder import Folder
from sparc.common.files.whole import remove_half_written, remove_whole, writing_whole
from sparc.common.progress import say
from sparc.train.config import ModelConfig
from sparc.train.data.order import Position
from sparc.train.model.files import CONFIG_FILE, WEIGHTS_FILE
from sparc.train.model.network import Sparc
from sparc.train.model.tensors import HEADER, read_tensors, write_tensors
from sparc.train.model.tensors_in_turn import TensorsInTurn, write_in_turn
from sparc.train.run.run_folder import (
    CHECKPOINTS,
    STATE_FILE,
    checkpoint_name,
    saved_steps,
)

KEEP = 2
"""How many checkpoints are kept: the newest, and one to fall back on."""

_LEARNER = "learner.safetensors"
_WINDOW = "window.safetensors"
_FILES = (CONFIG_FILE, WEIGHTS_FILE, _LEARNER, _WINDOW)
_NAME = re.compile(r"step-[0-9]{9,18}")
_FORMAT = {"format": "sparc-checkpoint", "version": 1}


class Logged(NamedTuple):
    """What metrics.jsonl held when a checkpoint was written; later lines are cut off on resuming.

    Attributes:
        size: In bytes.
        sha256: Of these bytes.
    """

    size: int
    sha256: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state of a run between two steps, besides the model's weights.

    Attributes:
        step: Steps made so far.
        position: Which batch comes next.
        learner: The learner's state.
        window: Sums of the metrics since the last line that was logged, over all processes, and of
            several those of each.
        logged: What metrics.jsonl held.
    """

    step: int
    position: Position
    learner: TensorsInTurn
    window: Mapping[str, Tensor]
    logged: Logged


def save_checkpoint(run: Folder, model: Sparc, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, and remove those before the last `KEEP`.

    Args:
        run: The run's folder.
        model: Weights to save.
        checkpoint: The rest.
    """
    with writing_whole(run, checkpoint_name(checkpoint.step), STATE_FILE) as folder:
        model.save(folder.inside())
        write_in_turn(folder, _LEARNER, checkpoint.learner)
        write_tensors(folder, _WINDOW, checkpoint.window)
        document = {
            **_FORMAT,
            "step": checkpoint.step,
            "epoch": checkpoint.position.epoch,
            "step_of_epoch": checkpoint.position.step,
            "logged": checkpoint.logged._asdict(),
            "files": {name: folder.digest(name) for name in _FILES},
        }
        folder.write(STATE_FILE, seal(document))
    _keep_the_newest(run)


def remove_partial_checkpoints(run: Folder) -> None:
    """Remove checkpoints of a run that an interrupted process was writing or removing."""
    remove_half_written(run, CHECKPOINTS, STATE_FILE, _NAME)


def good_steps(run: Folder, model: ModelConfig) -> list[int]:
    """The steps that have an undamaged checkpoint, in order; says which are damaged.

    Args:
        run: The run's folder.
        model: What the run trains.

    Raises:
        UnsafeError: A file is not a regular one, or far longer than those of such a model.
    """
    good = []
    for step in saved_steps(run):
        problem = _problem(_folder(run, step), step, largest=_largest(model) + HEADER)
        if problem is None:
            good.append(step)
        else:
            say(f"checkpoint {_folder(run, step)} is damaged ({problem}): it is not used")
    return good


def load_checkpoint(run: Folder, step: int, model: Sparc) -> Checkpoint:
    """Read a checkpoint that `good_steps` named.

    Args:
        run: The run's folder.
        step: Which checkpoint.
        model: Where its weights go.

    Raises:
        RunError: It is damaged.
    """
    folder = _folder(run, step)
    model.read_weights(folder, WEIGHTS_FILE)
    largest = _largest(model.config)
    try:
        document = unseal(folder.read(STATE_FILE))
        logged = Logged(**document["logged"])
        counts = (document["step"], document["epoch"], document["step_of_epoch"], logged.size)
        if not all(type(count) is int and count >= 0 for count in counts):
            raise ValueError(f"{STATE_FILE} does not count from zero")
        return Checkpoint(
            step=document["step"],
            position=Position(document["epoch"], document["step_of_epoch"]),
            learner=TensorsInTurn.of(read_tensors(folder, _LEARNER, largest=largest)),
            window=read_tensors(folder, _WINDOW, largest=largest),
            logged=logged,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"checkpoint {folder} is damaged: {error}") from error


def discard_checkpoints_after(run: Folder, step: int) -> None:
    """Leave only the checkpoints that a run has when it has just reached `step`."""
    for saved in saved_steps(run):
        if saved > step:
            _remove(run, saved)
    _keep_the_newest(run)


def _largest(model: ModelConfig) -> int:
    """An upper bound for the bytes of all tensors in a checkpoint's longest file.

    These are two moments per parameter, and a count of eight bytes per latent.
    """
    return 32 * model.parameters


def _folder(run: Folder, step: int) -> Folder:
    return run.below(checkpoint_name(step))


def _keep_the_newest(run: Folder) -> None:
    for step in saved_steps(run)[:-KEEP]:
        _remove(run, step)


def _remove(run: Folder, step: int) -> None:
    remove_whole(run, checkpoint_name(step), STATE_FILE)


def _problem(folder: Folder, step: int, *, largest: int) -> str | None:
    """What is wrong with a checkpoint, of whose files none is longer; None if nothing is."""
    try:
        document = unseal(folder.read(STATE_FILE))
        if {key: document[key] for key in _FORMAT} != _FORMAT:
            return f"{STATE_FILE} is of another version"
        if document["step"] != step:
            return f"it is of step {document['step']}"
        for name in _FILES:
            if folder.digest(name, largest=largest) != document["files"][name]:
                return f"{name} is not what was written"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{STATE_FILE}: {error}"
    return None
