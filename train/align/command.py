"""The command `sparc-train align`: from a trained model and a cache to an aligned model.

What comes out is what went in: a run folder of a run, a saved model's folder of a saved model or of
one of the hub. The aligned one says in its `config.json` what it was made from.
"""

import dataclasses
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from sparc.common.cache.reader import ActivationCache
from sparc.common.config import declared, first_difference, to_mapping
from sparc.common.devices import choose_device
from sparc.common.errors import RunError
from sparc.common.files.folder import Folder
from sparc.common.files.lock import exclusive
from sparc.common.progress import say
from sparc.common.streams.info import StreamInfo
from sparc.common.text import amount
from sparc.common.versions import software_versions
from sparc.train.align.config import AlignConfig
from sparc.train.align.on_cache import align_on_cache
from sparc.train.align.record import AlignRecord
from sparc.train.data.moments import data_moments, require_rows
from sparc.train.loading import load
from sparc.train.model.files import CONFIG_FILE, WEIGHTS_FILE, read_aligned, write_config
from sparc.train.model.network import Sparc
from sparc.train.model.tensors import digest, is_written_here
from sparc.train.run.run_folder import (
    INITIAL_FILE,
    RunRecord,
    absolute_location,
    is_run,
    load_initial,
    refuse_other_content,
    require_local,
    save_initial,
)
from sparc.train.validation import require_streams

Location = str | os.PathLike[str]


class _Source(NamedTuple):
    """The model that is to be aligned, and what is known about it."""

    location: str
    """Where it lies, in words that hold elsewhere too."""
    model: Sparc
    record: RunRecord | None
    """Of a run; None for a saved model."""
    initial: dict[str, Tensor] | None
    """The run's pre-biases of step 0."""
    aligned: tuple[AlignRecord, ...]
    """Earlier alignings, the last one last."""

    def streams(self) -> Sequence[StreamInfo]:
        """What the model learned from or was aligned on, where that is known."""
        if self.record is not None:
            return self.record.data.streams
        return self.aligned[-1].streams if self.aligned else ()


def align_run(
    run: Location, cache: Location, out: Location, config: AlignConfig | None = None
) -> Sparc:
    """Align a trained model: its streams' encoders are refitted, all else stays.

    The same call after an interruption finishes what it began; nothing finished is overwritten.

    Args:
        run: A finished run's folder, a saved model's folder or URL, or a hub repository.
        cache: An activation cache with all streams of the model, as a rule the one trained on.
        out: The folder of the aligned model; it must not hold anything.
        config: The settings.

    Returns:
        The aligned model, on the CPU, in evaluation mode and frozen.

    Raises:
        RunError: There is no such model, it has one stream only, or `out` holds something else.
        CacheError: The cache lacks a stream of the model, has one from another encoder, or too few
            rows.
    """
    config = config or AlignConfig()
    require_local(Path(out))
    source, target = _open(os.fspath(run)), Folder(out)
    names = source.model.config.names
    if len(names) == 1:
        raise RunError(f"{run} has one stream, {names[0]}: aligning needs at least two")
    opened = ActivationCache(cache)
    require_streams(opened, source.model.config.streams, source.streams())
    with exclusive(target, _recognize):
        wanted = _record(source, opened, config)
        if target.exists(CONFIG_FILE):
            _require_same(target, wanted)
            say(f"{target} is finished: {source.location}, aligned")
            return load(target.location)
        device = choose_device(config.device)
        moments = data_moments(
            opened, source.model.config, rows=config.rows, seed=config.seed, device=device
        )
        require_rows(opened, source.model.config, moments)
        model = source.model.to(device)
        align_on_cache(model, opened, moments, config)
        record = dataclasses.replace(wanted, rows=moments.rows)
        _write(target, source, model.cpu(), record)
    measure = shlex.join(["sparc-analyze", "run", str(target), "CACHE", "REPORT"])
    say(f"{target}: {', '.join(names)} aligned on {amount(moments.rows, 'row')}: {measure}")
    return load(target.location)


def _open(location: str) -> _Source:
    model = load(location)
    folder = Folder(location)
    if not folder.exists(CONFIG_FILE):  # a hub repository
        return _Source(location, model, None, None, ())
    where = absolute_location(location)
    if folder.local is not None and is_run(folder.local):
        record = RunRecord.read(folder.local)
        return _Source(where, model, record, load_initial(folder.local), record.aligned)
    return _Source(where, model, None, None, read_aligned(folder))


def _record(source: _Source, cache: ActivationCache, config: AlignConfig) -> AlignRecord:
    model = source.model
    return AlignRecord(
        source=source.location,
        source_sha256=digest(model.state_dict(), about=to_mapping(model.config)),
        cache=absolute_location(cache.folder.location),
        dataset=cache.info.dataset,
        split=cache.info.split,
        manifest_digest=cache.info.manifest_digest,
        streams=tuple(cache.streams[name] for name in model.config.names),
        rows=0,
        settings=config,
        versions=software_versions(),
    )


def _write(target: Folder, source: _Source, model: Sparc, record: AlignRecord) -> None:
    """Write the aligned model; its `config.json` comes last and makes it one."""
    aligned = (*source.aligned, record)
    if source.record is not None:
        save_initial(target.inside(), source.initial)
        model.write_weights(target, WEIGHTS_FILE)
        dataclasses.replace(source.record, aligned=aligned).write(target.inside())
    else:
        model.write_weights(target, WEIGHTS_FILE)
        write_config(target, model.config, aligned)


def _recognize(folder: Folder) -> None:
    """Refuse a folder with anything but an aligned model, or what an interruption left of one."""
    if not folder.exists(CONFIG_FILE):
        files = (WEIGHTS_FILE, INITIAL_FILE)
        refuse_other_content(folder, "run", (*files, CONFIG_FILE))
        for name in files:
            if folder.exists(name) and not is_written_here(folder, name):
                raise RunError(f"{folder} holds a {name} that SPARC did not write: choose another")
    elif not _aligned_in(folder):
        raise RunError(f"{folder} holds another model, which stays: choose another folder")


def _aligned_in(folder: Folder) -> tuple[AlignRecord, ...]:
    if is_run(folder.inside()):
        return RunRecord.read(folder.inside()).aligned
    return read_aligned(folder)


def _require_same(folder: Folder, wanted: AlignRecord) -> None:
    """Refuse a finished aligned model of another source, cache or other settings."""
    existing = _aligned_in(folder)[-1]
    names = ("source_sha256", "manifest_digest", "streams")
    same = all(getattr(existing, name) == getattr(wanted, name) for name in names)
    ignore = declared(AlignConfig, "changeable")
    if not same or first_difference(existing.settings, wanted.settings, ignore=ignore):
        raise RunError(
            f"{folder} holds {existing.source} aligned on {existing.cache}, with other "
            "weights, rows or settings: choose another folder"
        )
