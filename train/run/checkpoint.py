"""Checkpoints: everything a run needs to continue as if it had never stopped.

A checkpoint is a folder `checkpoints/step-000001000` in the run's:

    config.json, model.safetensors   the model, which `sparc.train.load` reads
    learner.safetensors              the optimizer's moments, the latents' idle rows
    window.safetensors               sums over the steps since the last line of metrics.jsonl, of
                                     all processes
    state.json                       step, position of the reader, SHA-256 of the files above, of
                                     metrics.jsonl so far and of itself

It is written aside, synced and renamed, so it is there whole or not at all. This module must not
know how a step is made.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from sparc.common.documents import seal, unseal
from sparc.common.errors import RunError
from sparc.common.files.durable import PARTIAL, file_digest, remove_whatever, sync_folder
from sparc.common.files.folder import Folder
from sparc.common.progress import say
from sparc.train.config import ModelConfig
from sparc.train.data.order import Position
from sparc.train.model.files import CONFIG_FILE, WEIGHTS_FILE
from sparc.train.model.network import Sparc
from sparc.train.model.tensors import HEADER, read_tensors, write_tensors
from sparc.train.run.run_folder import (
    CHECKPOINTS,
    checkpoint_entries,
    checkpoint_name,
    saved_steps,
)

KEEP = 2
"""How many checkpoints are kept: the newest, and one to fall back on."""

_STATE = "state.json"
_LEARNER = "learner.safetensors"
_WINDOW = "window.safetensors"
_FILES = (CONFIG_FILE, WEIGHTS_FILE, _LEARNER, _WINDOW)
_HALF = re.compile(r"step-[0-9]{9,18}(\.removed)?\.partial")
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
        learner: `Learner.state()`.
        window: Sums of the metrics since the last line that was logged, over all processes.
        logged: What metrics.jsonl held.
    """

    step: int
    position: Position
    learner: Mapping[str, Tensor]
    window: Mapping[str, Tensor]
    logged: Logged


def save_checkpoint(run: Path, model: Sparc, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, and remove those before the last `KEEP`.

    Args:
        run: The run's folder.
        model: Weights to save.
        checkpoint: The rest.
    """
    target = _folder(run, checkpoint.step)
    aside = target.with_name(target.name + PARTIAL)
    remove_whatever(aside)
    aside.mkdir(parents=True)
    model.save(aside)
    write_tensors(Folder(aside), _LEARNER, checkpoint.learner)
    write_tensors(Folder(aside), _WINDOW, checkpoint.window)
    document = {
        **_FORMAT,
        "step": checkpoint.step,
        "epoch": checkpoint.position.epoch,
        "step_of_epoch": checkpoint.position.step,
        "logged": checkpoint.logged._asdict(),
        "files": {name: file_digest(aside / name) for name in _FILES},
    }
    Folder(aside).write(_STATE, seal(document))
    _remove(run, checkpoint.step)
    aside.rename(target)
    sync_folder(target.parent)
    _keep_the_newest(run)


def remove_partial_checkpoints(run: Path) -> None:
    """Remove checkpoints of a run that an interrupted process was writing or removing."""
    for name in checkpoint_entries(run):
        if _HALF.fullmatch(name):
            remove_whatever(run / CHECKPOINTS / name)


def good_steps(run: Path, model: ModelConfig) -> list[int]:
    """The steps that have an undamaged checkpoint, in order; says which are damaged.

    Args:
        run: The run's folder.
        model: What the run trains.

    Raises:
        UnsafeError: A file is not a regular one, or far longer than those of such a model.
    """
    good = []
    for step in saved_steps(run):
        problem = _problem(_folder(run, step), largest=_largest(model) + HEADER)
        if problem is None:
            good.append(step)
        else:
            say(f"checkpoint {_folder(run, step)} is damaged ({problem}): it is not used")
    return good


def load_checkpoint(run: Path, step: int, model: Sparc) -> Checkpoint:
    """Read a checkpoint that `good_steps` named.

    Args:
        run: The run's folder.
        step: Which checkpoint.
        model: Where its weights go.

    Raises:
        RunError: It is damaged.
    """
    folder = _folder(run, step)
    model.read_weights(Folder(folder), WEIGHTS_FILE)
    largest = _largest(model.config)
    try:
        document = unseal(Folder(folder).read(_STATE))
        logged = Logged(**document["logged"])
        counts = (document["step"], document["epoch"], document["step_of_epoch"], logged.size)
        if not all(type(count) is int and count >= 0 for count in counts):
            raise ValueError(f"{_STATE} does not count from zero")
        return Checkpoint(
            step=document["step"],
            position=Position(document["epoch"], document["step_of_epoch"]),
            learner=read_tensors(Folder(folder), _LEARNER, largest=largest),
            window=read_tensors(Folder(folder), _WINDOW, largest=largest),
            logged=logged,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"checkpoint {folder} is damaged: {error}") from error


def discard_checkpoints_after(run: Path, step: int) -> None:
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


def _folder(run: Path, step: int) -> Path:
    return Folder(run).inside(checkpoint_name(step))


def _keep_the_newest(run: Path) -> None:
    for step in saved_steps(run)[:-KEEP]:
        _remove(run, step)


def _remove(run: Path, step: int) -> None:
    """Remove a checkpoint, so that an interruption leaves none that only looks damaged."""
    folder = _folder(run, step)
    if folder.exists():
        going = folder.with_name(f"{folder.name}.removed{PARTIAL}")
        remove_whatever(going)
        folder.rename(going)
        remove_whatever(going)


def _problem(folder: Path, *, largest: int) -> str | None:
    """What is wrong with a checkpoint, of whose files none is longer; None if nothing is."""
    try:
        document = unseal(Folder(folder).read(_STATE))
        if {key: document[key] for key in _FORMAT} != _FORMAT:
            return f"{_STATE} is of another version"
        if _folder(folder.parent.parent, document["step"]) != folder:
            return f"it is of step {document['step']}"
        for name in _FILES:
            digest = file_digest(Folder(folder).inside(name), largest=largest)
            if digest != document["files"][name]:
                return f"{name} is not what was written"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{_STATE}: {error}"
    return None
