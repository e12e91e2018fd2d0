"""From a trained model and a cache to a changed model, for commands such as `sparc-train align`.

What comes out is what went in: a run folder of a run, a saved model's folder of a saved model or of
one of the hub. The changed one says in its `config.json` what it was made from.
"""

import os
import shlex
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from torch import Tensor

from sparc.common.cache.reader import ActivationCache
from sparc.common.config import declared, first_difference
from sparc.common.errors import RunError
from sparc.common.files.artefacts import refuse_inside_artefact
from sparc.common.files.folder import Folder
from sparc.common.files.lock import exclusive
from sparc.common.progress import say
from sparc.common.streams.info import StreamInfo
from sparc.common.versions import software_versions
from sparc.train.derive.history import History
from sparc.train.derive.record import ChangeRecord
from sparc.train.derive.source import Source, open_source
from sparc.train.loading import load
from sparc.train.model.files import CONFIG_FILE, WEIGHTS_FILE, read_history, write_config
from sparc.train.model.network import Sparc
from sparc.train.model.tensors import is_written_here
from sparc.train.run.log import read_lines
from sparc.train.run.run_folder import (
    INITIAL_FILE,
    RunRecord,
    absolute_location,
    is_run,
    refuse_other_content,
    save_initial,
)
from sparc.train.validation import require_streams

Location = str | os.PathLike[str]

Record = TypeVar("Record", bound=ChangeRecord)


class Change(ABC, Generic[Record]):
    """A change of a finished model: what `derive` needs to know of it."""

    kind: type[Record]
    """Its record, which `sparc.train.derive.history` knows."""
    past: str
    """What it has done to a model, such as `aligned`."""
    gerund: str
    """What it does, such as `aligning`."""
    logs: tuple[str, ...] = ()
    """Files of figures that it writes into the folder of the changed model."""

    def begin(
        self, model: Sparc, cache: ActivationCache, trained_on: Sequence[StreamInfo]
    ) -> Sparc:
        """The model that `apply` is to change, as a rule the given one.

        Args:
            model: The finished model.
            cache: The cache.
            trained_on: The model's streams as the caches it learned from describe them, where that
                is known.

        Raises:
            RunError: It is no model for this change.
            CacheError: It is no cache for this model.
        """
        names = model.config.names
        if len(names) == 1:
            raise RunError(
                f"the model has one stream, {names[0]}: {self.gerund} needs at least two"
            )
        require_streams(cache, model.config.streams, trained_on)
        return model

    def initial(self) -> Mapping[str, Tensor]:
        """After `apply`: pre-biases of step 0 of streams that the model did not have before."""
        return {}

    @abstractmethod
    def record(self, about: dict[str, Any]) -> Record:
        """The record of the change before it is made.

        Args:
            about: The fields of `ChangeRecord` but `settings`.
        """

    @abstractmethod
    def apply(self, model: Sparc, cache: ActivationCache, record: Record) -> Record:
        """Change the model in place, which lies on the CPU before and after.

        Returns:
            The record with what is known now.

        Raises:
            CacheError: The cache has too few rows for it.
        """

    @abstractmethod
    def summary(self, record: Record) -> str:
        """What was done, in a line."""


def derive(change: Change[Any], run: Location, cache: Location, out: Location) -> Sparc:
    """Change a trained model, and write what results.

    The same call after an interruption finishes what it began; nothing finished is overwritten.

    Args:
        change: What is to be done.
        run: A finished run's folder, a saved model's folder or URL, or a hub repository.
        cache: An activation cache that the change accepts; see `Change.begin`.
        out: The folder of the changed model; it must not hold anything.

    Returns:
        The changed model, on the CPU, in evaluation mode and frozen.

    Raises:
        RunError: There is no such model, the change does not accept it, or `out` holds something
            else.
        CacheError: The change does not accept the cache, or it has too few rows.
    """
    source, target = open_source(os.fspath(run)), Folder(out)
    refuse_inside_artefact(target)
    opened = ActivationCache(cache)
    model = change.begin(source.model, opened, source.streams())
    with exclusive(target, lambda folder: _recognize(folder, change)):
        wanted = change.record(_about(source, model, opened))
        if target.exists(CONFIG_FILE):
            _require_same(target, source, wanted, change)
            say(f"{target} is finished: {source.location}, {change.past}")
            return load(target.location)
        record = change.apply(model, opened, wanted)
        _write(target, source, model, change, record)
    measure = shlex.join(["sparc-analyze", "run", str(target), "CACHE", "REPORT"])
    say(f"{target}: {change.summary(record)}: {measure}")
    return load(target.location)


def _about(source: Source, model: Sparc, cache: ActivationCache) -> dict[str, Any]:
    return {
        "source": source.location,
        "source_sha256": source.digest(),
        "cache": absolute_location(cache.folder.location),
        "dataset": cache.info.dataset,
        "split": cache.info.split,
        "manifest_digest": cache.info.manifest_digest,
        "streams": tuple(cache.streams[n] for n in model.config.names if n in cache.streams),
        "rows": 0,
        "versions": software_versions(),
    }


def _write(
    target: Folder, source: Source, model: Sparc, change: Change[Any], record: ChangeRecord
) -> None:
    """Write the changed model; its `config.json` comes last and makes it one."""
    history = source.history.followed_by(record)
    if source.record is not None:
        initial = source.initial
        save_initial(target, None if initial is None else {**initial, **change.initial()})
        model.write_weights(target, WEIGHTS_FILE)
        run_record = source.record.with_history(history).with_model(model.config, record.streams)
        run_record.write(target)
    else:
        model.write_weights(target, WEIGHTS_FILE)
        write_config(target, model.config, history)


def _recognize(folder: Folder, change: Change[Any]) -> None:
    """Refuse a folder with anything but such a model, or what an interruption left of one."""
    if not folder.exists(CONFIG_FILE):
        files = (WEIGHTS_FILE, INITIAL_FILE)
        refuse_other_content(folder, "run", (*files, *change.logs, CONFIG_FILE))
        for name in change.logs:
            read_lines(folder, name)
        for name in files:
            if folder.exists(name) and not is_written_here(folder, name):
                raise RunError(f"{folder} holds a {name} that SPARC did not write: choose another")
    elif not _history_in(folder).of_kind(change.kind):
        raise RunError(f"{folder} holds another model, which stays: choose another folder")


def _history_in(folder: Folder) -> History:
    if is_run(folder):
        return RunRecord.read(folder).history
    return read_history(folder)


def _require_same(
    folder: Folder, source: Source, wanted: ChangeRecord, change: Change[Any]
) -> None:
    """Refuse a finished model of another source or cache, or changed under other settings."""
    history = _history_in(folder)
    existing = history.of_kind(change.kind)[-1]
    names = ("source_sha256", "manifest_digest", "streams")
    same = all(getattr(existing, name) == getattr(wanted, name) for name in names)
    same = same and history == source.history.followed_by(existing)
    ignore = declared(type(wanted.settings), "changeable")
    if not same or first_difference(existing.settings, wanted.settings, ignore=ignore):
        raise RunError(
            f"{folder} holds {existing.source} {change.past} on {existing.cache}, with other "
            "weights, rows or settings: choose another folder"
        )
