"""Beginning, resuming and finishing runs: everything around the training loop.

Several runs may be trained on one pass over the data; they agree in all settings that concern the
data, and each is bit for bit what it would be alone.
"""

import dataclasses
import shlex
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import torch

from sparc.common.cache.reader import ActivationCache
from sparc.common.devices import choose_device
from sparc.common.errors import RunError
from sparc.common.files.folder import Folder
from sparc.common.files.lock import exclusive
from sparc.common.files.paths import recorded_here
from sparc.common.progress import say
from sparc.common.text import amount, size
from sparc.common.versions import software_versions
from sparc.train.align.aligner import Aligner
from sparc.train.config import ModelConfig, StreamShape, TrainConfig
from sparc.train.data.means import data_means
from sparc.train.data.order import Position
from sparc.train.data.reader import BatchReader
from sparc.train.distributed import Processes, is_first_process, local_rank, processes
from sparc.train.kernels import choice
from sparc.train.kernels.registry import AUTO
from sparc.train.loading import untrained_model
from sparc.train.loop import Trainee, train
from sparc.train.model.files import CONFIG_FILE
from sparc.train.model.tensors import is_written_here
from sparc.train.run.checkpoint import (
    discard_checkpoints_after,
    good_steps,
    load_checkpoint,
    remove_partial_checkpoints,
)
from sparc.train.run.log import RunLog, read_lines, require_services
from sparc.train.run.metrics import sums_from_tensors
from sparc.train.run.run_folder import (
    INITIAL_FILE,
    SWEEP_FILE,
    DataRecord,
    RunRecord,
    absolute_location,
    is_finished,
    load_initial,
    refuse_other_content,
    require_local,
    require_same,
    save_initial,
)
from sparc.train.run.sweep import INDEX_FILE, Sweep, read_failures
from sparc.train.step.learner import Learner
from sparc.train.step.recipes.recipe import recipe_of
from sparc.train.validation import check as check_validation


class Assignment(NamedTuple):
    """A run that is to be made.

    Attributes:
        run: Its folder.
        settings: How to train it.
    """

    run: Path
    settings: TrainConfig


def run(cache_location: str, folder: Path, settings: TrainConfig) -> None:
    """Train a model, or go on with one that was begun with the same settings.

    Args:
        cache_location: Folder or URL of the activation cache.
        folder: The run's folder.
        settings: How to train.

    Raises:
        SparcError: The cache, the folder or the settings do not allow it, or training diverged.
    """
    require_local(folder)
    require_services(settings)
    settings = _anywhere(settings)
    if not _finished_already(folder, settings):
        (trainee,) = train_together(cache_location, [Assignment(folder, settings)])
        if trainee.failure is not None:
            raise RunError(trainee.failure)
        if is_first_process():
            _say_what_ended(folder)


def run_sweep(cache_location: str, folder: Path, settings: TrainConfig, grid: Path) -> None:
    """Train a model for every point of a grid, on one pass over the data, or go on with that.

    Args:
        cache_location: Folder or URL of the activation cache.
        folder: Where the run folders lie.
        settings: What the runs have in common.
        grid: A TOML file; see `sparc.train.run.sweep`.

    Raises:
        SparcError: The cache, the folder or the settings do not allow it, or a run diverged.
    """
    require_local(folder)
    location = absolute_location(cache_location)
    _train_sweep(folder, Sweep.plan(grid, location, _anywhere(settings)))


def resume(folder: Path, *, cache: str = "") -> None:
    """Go on with a run or a sweep, with the cache and the settings that it was begun with.

    Args:
        folder: The run's or the sweep's folder.
        cache: Where the cache is now; empty: where it was. What the folder says is followed on this
            machine alone.

    Raises:
        SparcError: There is no such run, or its cache is gone or has changed.
    """
    if Folder(folder).exists(SWEEP_FILE):
        sweep = Sweep.read(folder)
        for settings in sweep.settings.values():
            _require_here(folder, settings)
        _train_sweep(folder, dataclasses.replace(sweep, cache=cache or _here(folder, sweep.cache)))
        return
    record = RunRecord.read(folder)
    _require_here(folder, record.train)
    run(cache or _here(folder, record.data.cache), folder, record.train)


def _here(folder: Path, cache: str) -> str:
    return recorded_here(cache, artefact=folder, way_out="say with --cache where the cache is")


def _require_here(folder: Path, settings: TrainConfig) -> None:
    """Refuse what would send requests that nobody has typed."""
    way_out = "go on with `sparc-train run`, the same cache and settings"
    recorded_here(settings.validation, artefact=folder, way_out=way_out)
    if settings.wandb:
        raise RunError(
            f"{folder} sends its figures to the Weights & Biases project {settings.wandb!r}: to "
            f"have that, {way_out}"
        )


def _train_sweep(folder: Path, sweep: Sweep) -> None:
    for settings in sweep.settings.values():
        require_services(settings)
    with ExitStack() as stack:
        if is_first_process():
            stack.enter_context(exclusive(Folder(folder), _recognize_sweep))
            sweep.begin(folder)
        failures = read_failures(folder)
        open_runs = [
            Assignment(Folder(folder).inside(name), settings)
            for name, settings in sweep.settings.items()
            if name not in failures and not _finished_already(Folder(folder).inside(name), settings)
        ]

        def write_index(trainees: Sequence[Trainee]) -> None:
            for each in trainees:
                if each.failure is not None and each.run.name not in failures:
                    say(each.failure)
                    failures[each.run.name] = each.failure
            sweep.write_index(folder, failures)

        if open_runs:
            train_together(sweep.cache, open_runs, on_change=write_index)
        elif is_first_process():
            write_index([])  # it may have been interrupted between the last weights and the index
        if failures:
            names = ", ".join(failures)
            raise RunError(
                f"{folder}: {len(failures)} of {amount(len(sweep.settings), 'run')} diverged "
                f"({names}); {folder / INDEX_FILE} says where"
            )
        if open_runs and is_first_process():
            compare = shlex.join(["sparc-train", "inspect", str(folder)])
            say(f"{amount(len(open_runs), 'run')} trained in {folder}; compare them: {compare}")


def train_together(
    cache_location: str,
    assignments: Sequence[Assignment],
    *,
    on_change: Callable[[Sequence[Trainee]], None] | None = None,
) -> Sequence[Trainee]:
    """Make runs on one pass over the data.

    Args:
        cache_location: Folder or URL of the activation cache.
        assignments: The runs, none of them finished, equal in all settings that concern the data.
        on_change: Called in the first process whenever states have been saved or a run has failed.

    Returns:
        The trainees, of which some may have failed, or all.
    """
    settings = assignments[0].settings
    device = choose_device(settings.device, index=local_rank())
    with ExitStack() as stack:
        group = stack.enter_context(processes(device))
        if group.is_first:
            for each in assignments:
                stack.enter_context(exclusive(Folder(each.run), _recognize_run))
                Folder(each.run).remove_partial_files()
                remove_partial_checkpoints(each.run)
        group.wait()
        cache = ActivationCache(cache_location)
        streams = cache.choose(settings.streams)
        found = [
            RunRecord.read(each.run) if Folder(each.run).exists(CONFIG_FILE) else None
            for each in assignments
        ]
        for each, record in zip(assignments, found, strict=True):
            if record is not None:
                require_same(each.run, record.train, each.settings)
                record.data.check(cache)
        validation = None
        if settings.validation:
            validation = ActivationCache(settings.validation)
            check_validation(validation, [cache.streams[name] for name in streams])
        reader = stack.enter_context(
            BatchReader(
                cache,
                streams,
                batch_size=settings.batch_size,
                block_chunks=settings.block_chunks,
                seed=settings.order_seed,
                residency=settings.residency,
                device=device,
                rank=group.rank,
                world=group.world,
            )
        )
        records = [
            _new_record(each.settings, cache, reader, device, group)
            if record is None
            else dataclasses.replace(record, train=each.settings)
            for each, record in zip(assignments, found, strict=True)
        ]
        first_step = _common_step(assignments, records, group)
        trainees = [
            stack.enter_context(_Opened(each.run, record, first_step, cache, device, group))
            for each, record in zip(assignments, records, strict=True)
        ]
        per_epoch = reader.order.steps_per_epoch
        reader.seek(Position(first_step // per_epoch, first_step % per_epoch))
        if group.is_first:
            _say_what_begins(reader, trainees, first_step, group)
            _call(on_change, trainees)
        train(
            reader,
            trainees,
            first_step=first_step,
            validation=validation,
            aligner=_aligner(cache, trainees[0].record, first_step, group),
            processes=group,
            on_change=lambda: _call(on_change, trainees),
        )
    return trainees


class _Opened:
    """Context manager: a trainee in its state after a number of steps, with its log open.

    The run's folder is begun if it is new.
    """

    def __init__(
        self,
        run: Path,
        record: RunRecord,
        step: int,
        cache: ActivationCache,
        device: torch.device,
        group: Processes,
    ) -> None:
        self._group = group
        means = None
        if Folder(run).exists(CONFIG_FILE):
            means = load_initial(run)
        elif recipe_of(record.train).starts_at_means:
            means = data_means(cache, record.model, seed=record.train.order_seed)
        model = untrained_model(record, means)
        checkpoint = load_checkpoint(run, step, model) if step else None
        # It refuses settings that cannot be met here: before anything is written.
        learner = Learner(
            model.to(device),
            record.train,
            gather=group.gather if group.world > 1 else None,
        )
        group.wait()
        if group.is_first and not Folder(run).exists(CONFIG_FILE):
            save_initial(run, means)
            record.write(run)
        window = None
        if checkpoint is not None:
            learner.load_state(checkpoint.learner)
            if group.is_first:  # they are those of all processes
                try:
                    window = sums_from_tensors(checkpoint.window, learner.no_sums)
                except RunError as error:
                    raise RunError(
                        f"{run}: the checkpoint of step {step} cannot be resumed: {error}; resume "
                        "with the version that wrote it, or train anew in another folder"
                    ) from None
        group.wait()
        log = None
        if group.is_first:
            discard_checkpoints_after(run, step)
            log = RunLog(run, record, step=step, logged=checkpoint.logged if checkpoint else None)
        self._trainee = Trainee(run, record, learner, log, window)

    def __enter__(self) -> Trainee:
        return self._trainee

    def __exit__(self, *_: object) -> None:
        if self._trainee.log is not None:
            self._trainee.log.close()


def _aligner(
    cache: ActivationCache, record: RunRecord, first_step: int, group: Processes
) -> Aligner | None:
    """What aligns the models after some of the steps that are still to be made; None if none is."""
    if all(step <= first_step for step in record.train.mixes_by_step(record.steps)):
        return None
    return Aligner(cache, record.model, seed=record.train.order_seed, processes=group)


def _new_record(
    settings: TrainConfig,
    cache: ActivationCache,
    reader: BatchReader,
    device: torch.device,
    group: Processes,
) -> RunRecord:
    per_epoch = reader.order.steps_per_epoch
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    return RunRecord(
        model=ModelConfig(
            streams=tuple(StreamShape(n, cache.streams[n].dim) for n in reader.streams),
            latents=settings.latents,
            k=settings.k,
            selection=settings.selection,
        ),
        train=settings,
        data=DataRecord.of(cache, reader.streams, reader.order.rows),
        steps=settings.steps or settings.epochs * per_epoch,
        steps_per_epoch=per_epoch,
        device=f"{device.type}{name}",
        kernels=choice.choose(settings.kernels, device).name,
        processes=group.world,
        versions=software_versions(),
    )


def _anywhere(settings: TrainConfig) -> TrainConfig:
    """The settings with paths that hold in every working directory."""
    if not settings.validation:
        return settings
    return dataclasses.replace(settings, validation=absolute_location(settings.validation))


def _finished_already(folder: Path, settings: TrainConfig) -> bool:
    """Say so if a run has been made before, with these settings.

    Raises:
        RunError: It was made with others.
    """
    if not Folder(folder).exists(CONFIG_FILE) or not is_finished(folder):
        return False
    record = RunRecord.read(folder)
    require_same(folder, record.train, settings)
    say(f"{folder} is finished: {amount(record.steps, 'step')}")
    return True


def _recognize_run(folder: Folder) -> None:
    """Refuse a folder that is neither a run, of any settings, nor the start of one."""
    if folder.exists(CONFIG_FILE):
        RunRecord.read(folder.inside())
    else:
        refuse_other_content(folder, "run", (CONFIG_FILE, INITIAL_FILE))
        if folder.exists(INITIAL_FILE) and not is_written_here(folder, INITIAL_FILE):
            raise RunError(
                f"{folder} holds an {INITIAL_FILE} that SPARC did not write: choose another"
            )


def _recognize_sweep(folder: Folder) -> None:
    """Refuse a folder that is neither a sweep nor the start of one."""
    if folder.exists(SWEEP_FILE):
        Sweep.read(folder.inside())
    else:
        refuse_other_content(folder, "sweep", (SWEEP_FILE,))


def _common_step(
    assignments: Sequence[Assignment], records: Sequence[RunRecord], group: Processes
) -> int:
    """The newest step that every run can go on from, found by the first process; 0: none."""
    step = 0
    if group.is_first:
        good = [
            set(good_steps(each.run, record.model))
            for each, record in zip(assignments, records, strict=True)
        ]
        step = max(set.intersection(*good), default=0)
    return group.from_first(step)


def _say_what_begins(
    reader: BatchReader, trainees: Sequence[Trainee], first_step: int, group: Processes
) -> None:
    record = trainees[0].record
    order = reader.order
    if order.rows < order.batch_size:
        say(
            f"the cache has {amount(order.rows, 'usable row')}, fewer than a batch of "
            f"{order.batch_size:,}: every step learns from all of them"
        )
    memory = f"streamed through 2 blocks of {size(reader.block_bytes)}"
    where = {"device": "on the device", "host": "in memory", "stream": memory}
    begun = f", going on after step {first_step:,}" if first_step else ""
    together = f", {group.world} processes" if group.world > 1 else ""
    say(
        f"{', '.join(record.model.names)}: {amount(order.rows, 'row')} {where[reader.residency]}, "
        f"{amount(record.steps, 'step')} of {amount(order.batch_rows, 'row')} "
        f"({order.steps_per_epoch:,} an epoch), {record.device}, "
        f"{trainees[0].learner.kernels.name} kernels{together}{begun}"
    )
    if slow := trainees[0].learner.by_autograd:
        say(f"{', '.join(slow)}: no derivatives by hand, so steps wait for autograd on dense codes")
    if record.train.kernels == AUTO:
        for sentence in choice.advice(group.device):
            say(sentence)


def _say_what_ended(folder: Path) -> None:
    """Say how a run ended, and which command comes next."""
    record = RunRecord.read(folder)
    parts = [f"{folder}: trained for {amount(record.steps, 'step')}"]
    losses = {line["split"]: line["loss"] for line in read_lines(folder)}
    for split, name in (("train", "loss"), ("validation", "validation loss")):
        if losses.get(split) is not None:
            parts.append(f"{name} {losses[split]:.4f}")
    # Rows that it has not learnt from tell more, where it is known which those are.
    measure = ["sparc-analyze", "run", str(folder), record.train.validation or "CACHE", "REPORT"]
    say(f"{', '.join(parts)}; measure it: {shlex.join(measure)}")


def _call(
    on_change: Callable[[Sequence[Trainee]], None] | None, trainees: Sequence[Trainee]
) -> None:
    if on_change is not None:
        on_change(trainees)
