"""Training several runs on one pass over the data: from folders to trainees, and through the loop.

The runs agree in all settings that concern the data, and each is bit for bit what it would be if it
were trained by itself.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import CacheError, RunError, setting
from sparc.common.files.folder import Folder
from sparc.common.files.lock import LOCK_FILE, exclusive
from sparc.common.versions import software_versions
from sparc.train import parallel
from sparc.train.align.aligner import Aligner
from sparc.train.announcements import say_what_begins
from sparc.train.config import ModelConfig, StreamShape, TrainConfig
from sparc.train.data.means import data_statistics
from sparc.train.data.order import Position
from sparc.train.data.reader import BatchReader, require_even_batches
from sparc.train.distributed.exchange import exchange_among
from sparc.train.distributed.processes import Processes
from sparc.train.kernels import choice
from sparc.train.loading import untrained_model
from sparc.train.loop import Trainee, train
from sparc.train.model.files import CONFIG_FILE
from sparc.train.model.network import Sparc
from sparc.train.parallel import Division
from sparc.train.run.checkpoint import (
    discard_checkpoints_after,
    good_steps,
    load_checkpoint,
    remove_partial_checkpoints,
)
from sparc.train.run.log import RunLog
from sparc.train.run.metrics import sums_from_tensors
from sparc.train.run.removal import recognize_run
from sparc.train.run.run_folder import (
    DataRecord,
    RunRecord,
    load_initial,
    require_same,
    save_initial,
)
from sparc.train.start import start_weights
from sparc.train.step.by_latents.learner import SharedLearner
from sparc.train.step.learner import Learner
from sparc.train.step.noise import Share
from sparc.train.step.recipes.recipe import recipe_of
from sparc.train.validation import check as check_validation

_PATIENCE = 60.0
"""Seconds in which a lock of a process that died is let go of, and a file is seen everywhere."""


class Assignment(NamedTuple):
    """A run that is to be made.

    Attributes:
        run: Its folder.
        settings: How to train it.
    """

    run: Folder
    settings: TrainConfig


def train_together(
    cache_location: str,
    assignments: Sequence[Assignment],
    group: Processes,
    *,
    on_change: Callable[[Sequence[Trainee]], None] | None = None,
) -> Sequence[Trainee]:
    """Train runs on one pass over the data.

    Args:
        cache_location: Folder or URL of the activation cache.
        assignments: The runs, none of them finished, equal in all settings that concern the data.
        group: The processes that train, each on its device.
        on_change: Called in the first process whenever states have been saved or a run has failed.

    Returns:
        The trainees, of which some may have failed, or all.
    """
    settings, device = assignments[0].settings, group.device
    with ExitStack() as stack:
        with group.refusing_together():
            if group.is_first:
                patience = _PATIENCE if group.world > 1 else 0.0
                for run, _ in assignments:
                    stack.enter_context(exclusive(run, recognize_run, patience=patience))
                    run.remove_partial_files()
                    remove_partial_checkpoints(run)
        with group.refusing_together():
            for run, _ in assignments:
                _require_seen(run)
            cache = ActivationCache(cache_location)
            streams = cache.choose(settings.streams)
            cache.require_complete(streams)
            if settings.batch_size <= cache.info.rows:  # a batch of fewer is looked at later
                require_even_batches(settings.batch_size, group.world)
            begun = [
                RunRecord.read(run) if run.exists(CONFIG_FILE) else None for run, _ in assignments
            ]
            for (run, wanted), record in zip(assignments, begun, strict=True):
                if record is not None:
                    require_same(run, record.train, wanted)
                    record.data.check(cache)
            validation = None
            if settings.validation:
                validation = ActivationCache(settings.validation)
                infos = [cache.streams[name] for name in streams]
                check_validation(validation, infos, rows=settings.rows)
        reader = stack.enter_context(
            BatchReader(
                cache,
                streams,
                batch_size=settings.batch_size,
                block_chunks=settings.block_chunks,
                seed=settings.order_seed,
                residency=settings.residency,
                device=device,
                rows=settings.rows,
                exchange=exchange_among(group),
            )
        )
        with group.refusing_together():
            records = [
                _new_record(wanted, cache, reader, device, group)
                if record is None
                else dataclasses.replace(record, train=wanted)
                for (_, wanted), record in zip(assignments, begun, strict=True)
            ]
            rows = reader.order.batch_rows
            divisions = [parallel.choose(r.model, r.train, rows, group) for r in records]
        first_step = _common_step(assignments, records, group)
        aligner = _aligner(cache, records, first_step, group)  # it may refuse the cache
        trainees = [
            stack.enter_context(_opened(run, record, first_step, cache, device, group, division))
            for (run, _), record, division in zip(assignments, records, divisions, strict=True)
        ]
        per_epoch = reader.order.steps_per_epoch
        reader.seek(Position(first_step // per_epoch, first_step % per_epoch))
        if group.is_first:
            say_what_begins(reader, trainees, first_step, group)
            _call(on_change, trainees)
        train(
            reader,
            trainees,
            first_step=first_step,
            validation=validation,
            aligner=aligner,
            processes=group,
            on_change=lambda: _call(on_change, trainees),
        )
    return trainees


def _require_seen(run: Folder) -> None:
    """Refuse a machine that does not see the folder in which the first process writes.

    Raises:
        RunError: It does not, also after a while: a shared disk may be slow to show a file.
    """
    until = time.monotonic() + _PATIENCE
    while not run.exists(LOCK_FILE):
        if time.monotonic() > until:
            raise RunError(
                f"{run}: what the first process writes there is not seen here; all processes read "
                "checkpoints, so the run has to lie on a disk that their machines share, or behind "
                "a URL"
            )
        time.sleep(0.1)


@contextmanager
def _opened(
    run: Folder,
    record: RunRecord,
    step: int,
    cache: ActivationCache,
    device: torch.device,
    group: Processes,
    division: Division,
) -> Iterator[Trainee]:
    """A trainee in its state after a number of steps, with its log open.

    The run's folder is begun if it is new.
    """
    initial: Mapping[str, Tensor] | None = None
    if run.exists(CONFIG_FILE):
        initial = load_initial(run)
    else:
        means, variances = _from_data(cache, record, group)
        initial = {**(means or {}), **start_weights(record, cache)}
        record = dataclasses.replace(
            record, data=dataclasses.replace(record.data, variances=variances)
        )
    model = untrained_model(record, initial)
    checkpoint = load_checkpoint(run, step, model) if step else None
    model = model.to(device)
    if checkpoint is None:
        # The same draws and means may be rounded otherwise on another machine.
        for tensor in model.state_dict().values():
            group.copy_from_first(tensor)
    # Before anything is written: it refuses settings that cannot be met here.
    learner = _learner(model, record, division, group)
    del model
    group.wait()
    if group.is_first and not run.exists(CONFIG_FILE):
        save_initial(run, initial)
        record.write(run)
    window = None
    if checkpoint is not None:
        learner.load_state(dict(checkpoint.learner.tensors))
        try:
            share = Share(group.rank, group.world)
            window = sums_from_tensors(checkpoint.window, learner.no_sums, share)
        except RunError as error:
            raise RunError(
                f"{run}: the checkpoint of step {step} cannot be resumed: {error}; resume "
                "with the version that wrote it, or train again in another folder"
            ) from None
    group.wait()
    log = None
    if group.is_first:
        discard_checkpoints_after(run, step)
        log = RunLog(run, record, step=step, logged=checkpoint.logged if checkpoint else None)
    try:
        yield Trainee(run, record, learner, log, window)
    finally:
        if log is not None:
            log.close()


def _learner(model: Sparc, record: RunRecord, division: Division, group: Processes) -> Learner:
    """What changes the weights of a model, or of the latents of it that this process owns."""
    kernels = choice.kept(record.train.kernels, record.kernels, group.device)
    settings = dataclasses.replace(record.train, dead_after=record.rows_to_death, kernels=kernels)
    variances = record.data.variances
    if division == "latents":
        return SharedLearner(model, settings, peers=group, variances=variances)
    return Learner(
        model,
        settings,
        variances=variances,
        gather=group.gather if group.world > 1 else None,
        share=Share(group.rank, group.world),
    )


def _from_data(
    cache: ActivationCache, record: RunRecord, group: Processes
) -> tuple[Mapping[str, Tensor] | None, tuple[float, ...]]:
    """What a new run takes from the data: its pre-biases of step 0 and `DataRecord.variances`."""
    starts_at_means = recipe_of(record.train).starts_at_means
    by_variance = record.train.error == "variance"
    if not (starts_at_means or by_variance):
        return None, ()
    train = record.train
    statistics = data_statistics(cache, record.model, seed=train.order_seed, rows=train.rows)
    means = statistics.means if starts_at_means else None
    if not by_variance:
        return means, ()
    variances = torch.tensor(statistics.variances, dtype=torch.float64, device=group.device)
    group.copy_from_first(variances)
    return means, tuple(variances.tolist())


def _aligner(
    cache: ActivationCache, records: Sequence[RunRecord], first_step: int, group: Processes
) -> Aligner | None:
    """What aligns the models after some of the steps that are still to be made; None if none is."""
    if all(step <= first_step for record in records for step in record.mixes_by_step):
        return None
    model, seed = records[0].model, records[0].train.order_seed
    try:
        return Aligner(cache, model, seed=seed, processes=group)
    except CacheError as error:
        never = setting("--align none", 'align=("none",)')
        raise CacheError(f"{error}; {never} trains without aligning") from error


def _new_record(
    settings: TrainConfig,
    cache: ActivationCache,
    reader: BatchReader,
    device: torch.device,
    group: Processes,
) -> RunRecord:
    per_epoch = reader.order.steps_per_epoch
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    model = ModelConfig(
        streams=tuple(StreamShape(n, cache.streams[n].dim) for n in reader.streams),
        latents=settings.latents,
        k=settings.k,
        selection=settings.selection,
    )
    return RunRecord(
        model=model,
        train=settings,
        data=DataRecord.of(
            cache,
            reader.streams,
            reader.order.rows,
            pair_rows=reader.counts.pair_rows if settings.rows == "any" else 0,
        ),
        steps=settings.steps or settings.epochs * per_epoch,
        steps_per_epoch=per_epoch,
        device=f"{device.type}{name}",
        kernels=choice.choose(settings.kernels, device).name,
        processes=group.world,
        parallel=parallel.choose(model, settings, reader.order.batch_rows, group),
        versions=software_versions(),
    )


def _common_step(
    assignments: Sequence[Assignment], records: Sequence[RunRecord], group: Processes
) -> int:
    """The newest step from which every run can continue, as the first process sees it; 0: none."""
    step = 0
    if group.is_first:
        good = [
            set(good_steps(run, record.model))
            for (run, _), record in zip(assignments, records, strict=True)
        ]
        step = max(set.intersection(*good), default=0)
    return group.from_first(step)


def _call(
    on_change: Callable[[Sequence[Trainee]], None] | None, trainees: Sequence[Trainee]
) -> None:
    if on_change is not None:
        on_change(trainees)
