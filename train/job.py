"""What `sparc-train run` and `resume` do: a run or a sweep, begun, resumed or already finished."""

import dataclasses
import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from sparc.common.cache.reader import ActivationCache
from sparc.common.defaults import changed
from sparc.common.devices import choose_device
from sparc.common.errors import RunError, SparcError, setting
from sparc.common.files.folder import Folder
from sparc.common.files.lock import exclusive
from sparc.common.files.paths import absolute_if_here, from_home, recorded_here
from sparc.common.progress import say
from sparc.common.text import amount
from sparc.train.announcements import say_what_ended
from sparc.train.config import TrainConfig
from sparc.train.distributed.processes import (
    Processes,
    is_first_process,
    local_rank,
    processes,
)
from sparc.train.loop import Trainee
from sparc.train.model.files import CONFIG_FILE
from sparc.train.proposal import say_size, with_size
from sparc.train.run.log import require_services
from sparc.train.run.removal import remove_run
from sparc.train.run.run_folder import (
    SWEEP_FILE,
    RunRecord,
    absolute_location,
    is_finished,
    refuse_other_content,
    require_same,
)
from sparc.train.run.sweep import INDEX_FILE, Sweep, read_failures
from sparc.train.start import with_size_of_start
from sparc.train.together import Assignment, train_together

Location = str | os.PathLike[str]


def run(
    cache_location: str, location: Location, settings: TrainConfig, *, overwrite: bool = False
) -> None:
    """Train a model, or resume one that was begun with the same settings.

    Args:
        cache_location: Folder or URL of the activation cache.
        location: The run's folder or URL.
        settings: How to train.
        overwrite: Remove the run that the folder holds first, whatever its settings.

    Raises:
        SparcError: The cache, the folder or the settings do not allow it, or training diverged.
    """
    folder = Folder(location)
    with processes() as group:
        with group.refusing_together():
            require_services(settings, folder)
            if overwrite:
                if group.world > 1:
                    option = setting("--overwrite", "overwrite=True")
                    raise RunError(f"{option} needs a single process: remove {folder} by hand")
                ActivationCache(cache_location)  # nothing goes if there is nothing to learn from
                remove_run(folder)
        _train_run(cache_location, folder, settings, group)


def _train_run(
    cache_location: str, folder: Folder, settings: TrainConfig, group: Processes
) -> None:
    """Train a model in all processes, or resume one; arguments as of `run`."""
    with group.refusing_together():
        this, begun = {folder.name: _anywhere(settings)}, {folder.name: _recorded(folder)}
        (settings,) = _with_sizes(this, cache_location, begun).values()
        if _finished_already(folder, settings, cache_location):
            return
        group = group.on(choose_device(settings.device, index=local_rank()))
    (trainee,) = train_together(cache_location, [Assignment(folder, settings)], group)
    with group.refusing_together():
        if trainee.failure is not None:
            raise RunError(trainee.failure)
    if group.is_first:
        say_what_ended(folder)


def run_sweep(cache_location: str, location: Location, settings: TrainConfig, grid: Path) -> None:
    """Train a model for every point of a grid, on one pass over the data, or resume that.

    Args:
        cache_location: Folder or URL of the activation cache.
        location: The folder or URL in which the run folders lie.
        settings: What the runs have in common.
        grid: A TOML file; see `sparc.train.run.sweep`.

    Raises:
        SparcError: The cache, the folder or the settings do not allow it, or a run diverged.
    """
    folder = Folder(location)
    with processes() as group:
        with group.refusing_together():
            sweep = Sweep.plan(grid, absolute_location(cache_location), _anywhere(settings))
            begun = Sweep.read(folder).settings if folder.exists(SWEEP_FILE) else {}
            sizes = _with_sizes(sweep.settings, cache_location, begun)
        _train_sweep(folder, dataclasses.replace(sweep, settings=sizes), group)


def resume(location: Location, *, cache: str = "") -> None:
    """Resume a run or a sweep, with the cache and the settings that it was begun with.

    Args:
        location: The run's or the sweep's folder or URL.
        cache: Where the cache is now; empty: where it was, if that is on this machine.

    Raises:
        SparcError: There is no such run, or its cache is gone or has changed.
    """
    folder = Folder(location)
    with processes() as group:
        with group.refusing_together():
            sweep = _sweep_to_resume(folder, cache) if folder.exists(SWEEP_FILE) else None
            if sweep is None:
                record = RunRecord.read(folder)
                _require_here(folder, record.train)
                cache = cache or _here(folder, record.data.cache)
        if sweep is not None:
            _train_sweep(folder, sweep, group)
        else:
            _train_run(cache, folder, record.train, group)


def _sweep_to_resume(folder: Folder, cache: str) -> Sweep:
    """A sweep, with the cache that is named or else its own; refuses what it may not ask for."""
    sweep = Sweep.read(folder)
    for name, settings in sweep.settings.items():
        _require_here(folder, settings)
        if not folder.exists(f"{name}/{CONFIG_FILE}"):
            _require_start_here(folder, settings)
    return dataclasses.replace(sweep, cache=cache or _here(folder, sweep.cache))


def _here(folder: Folder, cache: str) -> str:
    return recorded_here(
        cache, artefact=folder, way_out=f"say with {setting('--cache')} where the cache is"
    )


def _require_here(folder: Folder, settings: TrainConfig) -> None:
    """Refuse settings that would send requests which the user has not typed."""
    way_out = "continue with `sparc-train run`, the same cache and settings"
    recorded_here(settings.validation, artefact=folder, way_out=way_out)
    if settings.wandb:
        raise RunError(
            f"{folder} sends its figures to the Weights & Biases project {settings.wandb!r}: to "
            f"have that, {way_out}"
        )


def _require_start_here(folder: Folder, settings: TrainConfig) -> None:
    """Refuse to fetch what a run that has not begun would start from."""
    for place in settings.start_from:
        if not os.path.exists(place):
            raise RunError(
                f"{folder} starts from {place}, which is no folder of this machine: continue with "
                "`sparc-train run`, the same cache and settings"
            )


def _train_sweep(folder: Folder, sweep: Sweep, group: Processes) -> None:
    with ExitStack() as stack:
        with group.refusing_together():
            for settings in sweep.settings.values():
                require_services(settings, folder)
            if group.is_first:
                stack.enter_context(exclusive(folder, _recognize_sweep))
                sweep.begin(folder)
        with group.refusing_together():
            failures = read_failures(folder)
            open_runs = [
                Assignment(folder.below(name), settings)
                for name, settings in sweep.settings.items()
                if name not in failures
                and not _finished_already(folder.below(name), settings, sweep.cache)
            ]
            device = next(iter(sweep.settings.values())).device
            group = group.on(choose_device(device, index=local_rank()))

        def write_index(trainees: Sequence[Trainee]) -> None:
            for trainee in trainees:
                if trainee.failure is not None and trainee.run.name not in failures:
                    say(trainee.failure)
                    failures[trainee.run.name] = trainee.failure
            sweep.write_index(folder, failures)

        if open_runs:
            train_together(sweep.cache, open_runs, group, on_change=write_index)
        elif group.is_first:
            write_index([])  # it may have been interrupted between the last weights and the index
        if failures:
            names = ", ".join(failures)
            raise RunError(
                f"{folder}: {len(failures)} of {amount(len(sweep.settings), 'run')} diverged "
                f"({names}); {folder}/{INDEX_FILE} says where"
            )
        if open_runs and group.is_first:
            compare = shlex.join(["sparc-train", "inspect", str(folder)])
            say(f"{amount(len(open_runs), 'run')} trained in {folder}; compare them: {compare}")


def _anywhere(settings: TrainConfig) -> TrainConfig:
    """The settings with paths that hold in every working directory."""
    start = tuple(absolute_if_here(from_home(place)) for place in settings.start_from)
    if not settings.validation:
        return changed(settings, start_from=start) if start else settings
    return changed(settings, validation=absolute_location(settings.validation), start_from=start)


def _recorded(folder: Folder) -> TrainConfig | None:
    """The settings of the run that a folder holds; None if it holds none."""
    return RunRecord.read(folder).train if folder.exists(CONFIG_FILE) else None


def _with_sizes(
    runs: Mapping[str, TrainConfig], cache: str, recorded: Mapping[str, TrainConfig | None]
) -> dict[str, TrainConfig]:
    """The settings with numbers of latents: those given, those of the run, or what fits the cache.

    Args:
        runs: The settings by run, in which 0 stands for a number that was not given.
        cache: Folder or URL of the cache.
        recorded: Likewise, those of runs that were begun before.
    """
    result: dict[str, TrainConfig] = {}
    opened: ActivationCache | None = None
    sentences: dict[str, None] = {}
    for run, settings in runs.items():
        before = recorded.get(run)
        if settings.latents and settings.k:
            result[run] = settings
        elif before is not None:
            sizes = settings.latents or before.latents, settings.k or before.k
            result[run] = changed(settings, latents=sizes[0], k=sizes[1])
        elif settings.start_from:
            result[run] = with_size_of_start(settings)
        else:
            opened = opened or ActivationCache(cache)
            rows, names = opened.info.rows, opened.choose(settings.streams)
            width = max(opened.stream(name).dim for name in names)
            result[run] = with_size(settings, rows=rows, width=width)
            sentences[say_size(result[run], rows=rows, width=width)] = None
    if is_first_process():
        for sentence in sentences:
            say(sentence)
    return result


def _finished_already(folder: Folder, settings: TrainConfig, cache: str) -> bool:
    """Whether a run of this cache with these settings has ended; says so.

    Raises:
        CacheError: It has learnt from another cache, or this is none.
        RunError: It was made with other settings.
    """
    if not folder.exists(CONFIG_FILE) or not is_finished(folder):
        return False
    record = RunRecord.read(folder)
    require_same(folder, record.train, settings)
    _require_same_cache(cache, record)
    if is_first_process():
        say(f"{folder} is finished: {amount(record.steps, 'step')}")
    return True


def _require_same_cache(location: str, record: RunRecord) -> None:
    """Refuse a cache that a finished run has not learnt from; the run's own may be deleted.

    Raises:
        CacheError: It is another cache, or none.
    """
    try:
        cache = ActivationCache(location)
    except SparcError:
        is_recorded = absolute_location(location) == record.data.cache
        if is_recorded and not Folder(location).exists():
            return
        raise
    record.check(cache)


def _recognize_sweep(folder: Folder) -> None:
    """Refuse a folder that is neither a sweep nor the start of one."""
    if folder.exists(SWEEP_FILE):
        Sweep.read(folder)
    else:
        refuse_other_content(folder, "sweep", (SWEEP_FILE,))
